//! The life of one run: the monitor's decisions, in one thread.
//!
//! ```text
//!            agent dials in          Started                 Exited
//!  Booting ─────────────────→ Starting ─────→ Running ─────────────────→ Ending ──→ over
//!     │                           │              │                          │
//!     └──── VM ends, agent gone or silent, start fails, abort ──────────────┴──→ over
//! ```
//! `Ending` lasts until all output has been delivered and, unless the disk is thrown away, the agent
//! has unmounted it; then the VM is ended from outside. A guest that holds that up has
//! [`Patience::ending`], counted anew while output still flows.

use std::{
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender},
    time::{Duration, Instant},
};

use agent_protocol::{
    ContainerSpec, ExitStatus, FromAgent, ProcessId, ProcessSpec, StartFailure, ToAgent, VERSION,
    WindowSize,
};
use anyhow::{Context, Result};

use super::{
    clients::{Asked, ClientId, Clients},
    guest::Agent,
    patience::Patience,
    protocol::{Connection, Event, Request},
    streams::Streams,
    vm::{VmProcess, printable},
};
use crate::{
    container::{Exit, Record},
    network,
    vm_process::VmReport,
};

/// vmrun itself failed, as Docker's exit statuses have it.
pub const FAILED: u8 = 125;

/// What reaches the monitor's one deciding thread.
#[derive(Debug)]
pub enum Happened {
    Connected(Connection),
    Asked(ClientId, Asked),
    Left(ClientId),
    Agent(FromAgent),
    /// The control connection ended, with the fault if there was one.
    AgentGone(Option<String>),
    Report(VmReport),
    VmGone,
    /// An output stream came to its end.
    StreamEnded,
}

enum Phase {
    Booting,
    Starting,
    Running,
    Ending { status: ExitStatus, unmounted: bool },
}

/// What is worth a record before the run is over.
#[derive(Debug, PartialEq, Eq)]
pub enum Milestone {
    Started,
    /// The end is known while a client still has output to read.
    Ended(Exit),
}

/// How the run came out.
pub struct Outcome {
    pub event: Event,
    pub exit: Exit,
}

pub struct Life {
    record: Record,
    runtime: PathBuf,
    happened: SyncSender<Happened>,
    clients: Clients,
    agent: Agent,
    vm: VmProcess,
    phase: Phase,
    /// When the guest is given up on; none while the command runs.
    deadline: Option<Instant>,
    patience: Patience,
    /// The control connection is closed although the VM lives.
    hung_up: bool,
    /// The user wants the end now, with or without the rest of the output.
    killed: bool,
    /// Set by a signal that arrives before the command runs.
    aborted: Option<u8>,
    reported: Option<String>,
    streams: Streams,
    size: Option<WindowSize>,
}

impl Life {
    pub fn new(
        record: Record,
        runtime: &Path,
        happened: SyncSender<Happened>,
        clients: Clients,
        agent: Agent,
        vm: VmProcess,
        patience: Patience,
    ) -> Self {
        Self {
            record,
            runtime: runtime.to_owned(),
            happened,
            clients,
            agent,
            vm,
            phase: Phase::Booting,
            deadline: Some(Instant::now() + patience.boot),
            patience,
            hung_up: false,
            killed: false,
            aborted: None,
            reported: None,
            streams: Streams::default(),
            size: None,
        }
    }

    /// Ends the VM and waits until it has let go of everything. Output that was given up on is lost.
    pub fn end(mut self) -> Clients {
        let _ = self.vm.end();
        self.streams.close_all();
        self.clients
    }

    /// Lives until the run is over. What the first client asks comes before all else, so that no output
    /// is lost. Nothing more is heard afterwards: whoever still has something to tell goes on.
    pub fn live(
        &mut self,
        (client, asked): (ClientId, Asked),
        events: Receiver<Happened>,
        record: &dyn Fn(Milestone),
    ) -> Result<Outcome> {
        if self.agent.greet().is_err() {
            // A VM process that ended at once is about to tell why.
            self.agent_gone(None);
        }
        let mut event = Ok(Happened::Asked(client, asked));
        loop {
            let over = match event {
                Ok(Happened::Connected(connection)) => {
                    // A client that cannot be served sees its connection closed.
                    let _ = self.clients.add(connection);
                    None
                }
                Ok(Happened::Asked(client, asked)) => {
                    self.asked(client, asked);
                    self.aborted.map(|status| self.failed(status, "stopped before it ran".into()))
                }
                Ok(Happened::Left(client)) => {
                    self.clients.remove(client);
                    None
                }
                Ok(Happened::Agent(message)) => self.heard(message, record),
                Ok(Happened::AgentGone(fault)) => self.agent_gone(fault),
                Ok(Happened::Report(report)) => {
                    self.report(report);
                    None
                }
                Ok(Happened::VmGone) => Some(self.vm_gone()),
                Ok(Happened::StreamEnded) => {
                    self.streams.ended();
                    self.over_if_done()
                }
                Err(_) => self.timed_out(),
            };
            if let Some(outcome) = over {
                return Ok(outcome);
            }
            let wait = self.deadline.map(|at| at.saturating_duration_since(Instant::now()));
            event = match wait {
                // Events without end are no reason to go on.
                Some(Duration::ZERO) => Err(RecvTimeoutError::Timeout),
                Some(wait) => events.recv_timeout(wait),
                None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
        }
    }

    fn asked(&mut self, client: ClientId, Asked { request, fds }: Asked) {
        match request {
            Request::Attach { stdin, stdout, stderr, size } => {
                self.size = size;
                if !self.streams.attach([stdin, stdout, stderr], fds) {
                    self.clients.remove(client);
                }
            }
            Request::Signal(signal) => self.signal(signal),
            Request::Resize(size) => {
                self.size = Some(size);
                if matches!(self.phase, Phase::Running) {
                    self.tell_agent(&ToAgent::Resize { process: ProcessId::INIT, size });
                }
            }
            Request::Close(stream) => self.streams.close(stream),
        }
    }

    fn signal(&mut self, signal: u8) {
        match self.phase {
            // There is no command yet that could decide for itself.
            Phase::Booting | Phase::Starting => {
                if matches!(
                    i32::from(signal),
                    libc::SIGINT | libc::SIGTERM | libc::SIGKILL | libc::SIGQUIT | libc::SIGHUP
                ) {
                    self.aborted = Some(signal.saturating_add(128));
                }
            }
            Phase::Running => {
                self.tell_agent(&ToAgent::Signal { process: ProcessId::INIT, signal });
                if i32::from(signal) == libc::SIGKILL {
                    self.deadline = Some(Instant::now() + self.patience.kill);
                }
            }
            // The status is known; the end of the VM is not waited for any longer.
            Phase::Ending { unmounted, .. } if i32::from(signal) == libc::SIGKILL => {
                self.killed = true;
                let patience = if unmounted { Duration::ZERO } else { self.patience.kill };
                self.deadline = Some(Instant::now() + patience);
            }
            Phase::Ending { .. } => {}
        }
    }

    fn heard(&mut self, message: FromAgent, record: &dyn Fn(Milestone)) -> Option<Outcome> {
        match (&mut self.phase, message) {
            (Phase::Booting, FromAgent::Hello { version: VERSION }) => self.start(),
            (Phase::Booting, FromAgent::Hello { version }) => {
                let message = format!(
                    "the guest's agent speaks version {version}, this vmrun {VERSION}: \
                     both have to come from one build"
                );
                Some(self.failed(FAILED, message))
            }
            (Phase::Starting, FromAgent::Started) => {
                self.phase = Phase::Running;
                self.deadline = None;
                record(Milestone::Started);
                self.clients.tell(&Event::Started);
                None
            }
            (Phase::Starting, FromAgent::StartFailed { reason, message }) => {
                let status = match reason {
                    StartFailure::NotFound => 127,
                    StartFailure::NotExecutable => 126,
                    StartFailure::Setup => FAILED,
                };
                Some(self.failed(status, printable(&message)))
            }
            (Phase::Running, FromAgent::Exited { process: ProcessId::INIT, status }) => {
                let unmounted = self.record.remove_on_exit;
                self.phase = Phase::Ending { status, unmounted };
                self.deadline = Some(Instant::now() + self.patience.ending);
                self.over_if_done()
            }
            (Phase::Ending { unmounted: unmounted @ false, status }, FromAgent::Unmounted) => {
                *unmounted = true;
                let status = *status;
                let over = self.over_if_done();
                if over.is_none() {
                    // A reader that is stuck does not hold up the record.
                    record(Milestone::Ended(exited(status, None).exit));
                }
                over
            }
            (_, message) => {
                let message = printable(&format!("{message:?}"));
                Some(self.failed(FAILED, format!("the agent spoke out of turn: {message}")))
            }
        }
    }

    /// Dials the streams and asks the agent to start the command, without waiting in between.
    fn start(&mut self) -> Option<Outcome> {
        match self.try_start() {
            Ok(()) => {
                self.phase = Phase::Starting;
                self.deadline = Some(Instant::now() + self.patience.start);
                None
            }
            Err(error) => Some(self.failed(FAILED, format!("{error:#}"))),
        }
    }

    fn try_start(&mut self) -> Result<()> {
        let record = &self.record;
        let command = &record.command;
        let spec = ContainerSpec {
            hostname: record.hostname.clone(),
            hosts: network::hosts(&record.hostname),
            resolv_conf: network::resolv_conf(),
            entropy: {
                let mut seed = vec![0; 64];
                crate::random::fill(&mut seed);
                seed
            },
            grow_disk: record.resources.disk.grows(),
            ephemeral: record.remove_on_exit,
            process: ProcessSpec {
                args: command.args.clone(),
                env: command.env.clone(),
                cwd: command.cwd.clone().into_bytes(),
                user: command.user.clone(),
                terminal: command
                    .terminal
                    .then(|| self.size.unwrap_or(WindowSize { rows: 24, columns: 80 })),
                stdin: command.stdin,
            },
        };
        let start = ToAgent::Start(Box::new(spec));
        self.agent.send(&start).context("cannot send the command to the guest")?;
        let command = &self.record.command;
        self.streams.open(&self.runtime, command.stdin, command.terminal, &self.happened)
    }

    fn tell_agent(&mut self, message: &ToAgent) {
        if self.agent.send(message).is_err() {
            // It does not read, or is gone: nothing that is asked of it will happen.
            self.deadline = Some(Instant::now());
        }
    }

    fn report(&mut self, report: VmReport) {
        let notice = match report {
            VmReport::Ended(cause) => {
                self.reported = Some(cause);
                return;
            }
            VmReport::Paused | VmReport::Resumed => return,
            VmReport::DiskFull => "the host's disk is full: the container waits for room",
            VmReport::DiskResumed => {
                "there is room on the host's disk again: the container goes on"
            }
        };
        self.clients.tell(&Event::Notice(notice.into()));
    }

    fn over_if_done(&mut self) -> Option<Outcome> {
        let Phase::Ending { status, unmounted: true } = self.phase else { return None };
        self.streams.delivered().then(|| exited(status, None))
    }

    fn agent_gone(&mut self, fault: Option<String>) -> Option<Outcome> {
        let Some(fault) = fault else {
            // The VM process closes it when the VM ends, and is about to tell of that.
            self.hung_up = true;
            let soon = Instant::now() + self.patience.hang_up;
            self.deadline = Some(self.deadline.map_or(soon, |deadline| deadline.min(soon)));
            return None;
        };
        Some(self.failed(FAILED, format!("the agent cannot be understood: {fault}")))
    }

    fn vm_gone(&mut self) -> Outcome {
        let Ok(ended) = self.vm.end() else {
            return self.failed(FAILED, "the VM process is gone".into());
        };
        let reported = self.reported.take();
        let killed = reported.is_none() && ended.signal() == Some(libc::SIGKILL);
        let cause = self.vm.cause(ended, reported);
        match self.phase {
            // The command's status stands; its disk may miss the last writes.
            Phase::Ending { status, unmounted: false } => exited(status, Some(cause)),
            Phase::Ending { status, unmounted: true } => exited(status, None),
            _ => self.failed(if killed { 137 } else { FAILED }, cause),
        }
    }

    fn timed_out(&mut self) -> Option<Outcome> {
        match self.phase {
            // The client does not read, or slowly, which is its right.
            Phase::Ending { .. } if !self.killed && self.streams.moves() => {
                self.deadline = Some(Instant::now() + self.patience.ending);
                None
            }
            Phase::Ending { status, unmounted: true } if self.killed => Some(exited(status, None)),
            Phase::Ending { status, .. } => {
                Some(exited(status, Some("the guest did not finish; its VM was ended".into())))
            }
            _ if self.hung_up => {
                Some(self.failed(FAILED, "the agent hung up; the guest was ended".into()))
            }
            Phase::Booting => {
                let seconds = self.patience.boot.as_secs();
                Some(self.failed(FAILED, format!("the guest did not start within {seconds} s")))
            }
            Phase::Starting => {
                let seconds = self.patience.start.as_secs();
                let message = format!("the guest did not run the command within {seconds} s");
                Some(self.failed(FAILED, message))
            }
            Phase::Running => {
                Some(self.failed(137, "the guest did not answer; it was killed".into()))
            }
        }
    }

    /// The end of a run that went wrong, with this status unless there is one of the command's.
    fn failed(&self, status: u8, message: String) -> Outcome {
        let exit = Exit { status, oom_killed: false, error: Some(message.clone()) };
        let event = match self.phase {
            Phase::Booting | Phase::Starting => Event::StartFailed { status, message },
            Phase::Running => Event::Exited { status, message: Some(message) },
            // The command's own status stands.
            Phase::Ending { status, .. } => return exited(status, Some(message)),
        };
        Outcome { event, exit }
    }
}

fn exited(status: ExitStatus, error: Option<String>) -> Outcome {
    let exit = Exit {
        status: status.cause.shell_status(),
        oom_killed: status.oom_killed,
        error: error.clone(),
    };
    Outcome { event: Event::Exited { status: exit.status, message: error }, exit }
}

#[cfg(test)]
mod tests;
