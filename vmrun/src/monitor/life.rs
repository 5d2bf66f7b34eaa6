//! The life of one run: the monitor's decisions, in one thread.
//!
//! ```text
//!            agent dials in          Started                 Exited
//!  Booting ─────────────────→ Starting ─────→ Running ─────────────────→ Ending ──→ over
//!     │                           │  └──────→ Held ── last client left ────↑          ↑
//!     └──── VM ends, agent gone or silent, start fails, abort ────────────────────────┘
//! ```
//! `Held` is a run without the command, for the container's files alone. `Ending` lasts until all
//! output has been delivered and, unless the disk is thrown away, the agent has unmounted it; then
//! the VM is ended from outside. A guest that holds that up has [`Patience::ending`], counted anew
//! while output still flows.
//!
//! What clients ask is in [`asked`], the processes beside the command in [`processes`], freezing and
//! pausing in [`pause`], health in [`health`], the ways a run ends in [`over`].

mod asked;
mod health;
mod over;
mod pause;
mod processes;

use std::{path::PathBuf, time::Instant};

use agent_protocol::{
    ExitCause, ExitStatus, FromAgent, HoldSpec, ProcessId, StartFailure, ToAgent, VERSION,
    WindowSize,
};
use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender, at, never, select};

use super::{
    clients::{Asked, ClientId, Clients},
    guest::Agent,
    patience::Patience,
    protocol::{Connection, Event, Request},
    spec,
    streams::Streams,
    vm::{VmProcess, printable},
};
use crate::{
    container::{Exit, Health, HealthConfig, Record},
    logs::LogWriter,
    vm_process::VmReport,
};
use health::Checker;
use over::exited;
use pause::Pause;
use processes::Processes;

/// vmrun itself failed, as Docker's exit statuses have it.
pub const FAILED: u8 = 125;

const SIGKILL: u8 = 9;

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
    /// Some of the output is not in the log, and why.
    LogFailed(String),
    /// All that a health check printed.
    CheckOutput(ProcessId, String),
}

/// Where what happens is told. Who tells waits while too much has been told.
pub type Teller = Sender<Happened>;

/// Where it arrives: from the guest and its VM in one run, and from the clients in all of them.
#[derive(Debug)]
pub struct Events {
    pub guest: Receiver<Happened>,
    pub clients: Receiver<Happened>,
}

impl Events {
    /// The next one, waited for until this time at most.
    fn next(&self, until: Option<Instant>) -> Option<Happened> {
        let until = until.map_or_else(never, at);
        // Events without end are no reason to go on: what is due is due first.
        if until.try_recv().is_ok() {
            return None;
        }
        select! {
            recv(self.guest) -> happened => happened.ok(),
            recv(self.clients) -> happened => happened.ok(),
            recv(until) -> _ => None,
        }
    }
}

enum Phase {
    Booting,
    Starting,
    Running,
    Held,
    Ending { status: ExitStatus, unmounted: bool },
}

/// What is worth a record before the run is over.
#[derive(Debug, PartialEq, Eq)]
pub enum Milestone {
    Started,
    Paused,
    Unpaused,
    Health(Health),
    /// It is to end, and not to start again before somebody starts it; `for_good`: not with the
    /// user's next session either; `gently`: as `stop` does it, which is told of as such.
    Stopped {
        for_good: bool,
        gently: bool,
    },
    /// The command has been sent a signal.
    Signalled(u8),
    /// A client has joined its streams.
    Attached,
    /// Something happened to a command beside it, of this id: Docker's words for that, and the exit
    /// status where it has ended.
    Exec {
        action: String,
        id: String,
        exit: Option<u8>,
        /// It is that of a health check.
        is_probe: bool,
    },
    /// The end is known while a client still has output to read.
    Ended(Exit),
}

/// How the run came out.
pub struct Outcome {
    pub event: Event,
    /// None of a run that was for the container's files alone.
    pub exit: Option<Exit>,
}

/// Takes what is worth a record; fails where it cannot be recorded.
pub type Recorder<'a> = &'a dyn Fn(Milestone) -> Result<()>;

pub struct Life<'a> {
    record: Record,
    runtime: PathBuf,
    happened: Teller,
    clients: Clients,
    agent: Agent,
    vm: VmProcess,
    recorder: Recorder<'a>,
    /// That something is not on record has been told.
    told: bool,
    phase: Phase,
    /// When the guest is given up on; none while the command runs.
    deadline: Option<Instant>,
    /// When a command that was asked to end is killed.
    kill_at: Option<Instant>,
    patience: Patience,
    /// The files are wanted, not the command, for as long as one of the holders is connected.
    hold: bool,
    holders: Vec<ClientId>,
    /// The control connection is closed.
    hung_up: bool,
    vm_ended: bool,
    /// The user wants the end now, with or without the rest of the output.
    killed: bool,
    /// Set by a signal that arrives before the command runs.
    aborted: Option<u8>,
    reported: Option<String>,
    streams: Streams,
    size: Option<WindowSize>,
    processes: Processes,
    pause: Pause,
    checker: Option<Checker>,
}

/// What is told of a record that could not be made.
pub fn unrecorded(error: &anyhow::Error) -> Event {
    Event::Notice(format!("what became of the container is not on record: {error:#}"))
}

/// What a run is made of.
pub struct Parts {
    pub record: Record,
    pub runtime: PathBuf,
    pub log: LogWriter,
    pub happened: Teller,
    pub clients: Clients,
    pub agent: Agent,
    pub vm: VmProcess,
    pub patience: Patience,
}

impl<'a> Life<'a> {
    /// A run that begins now; `recorder` is told what is worth a record.
    pub fn new(parts: Parts, recorder: Recorder<'a>) -> Self {
        let Parts { record, runtime, log, happened, clients, agent, vm, patience } = parts;
        Self {
            streams: Streams::new(record.command.stdin_once, log),
            checker: record.health.as_ref().and_then(HealthConfig::check).map(Checker::new),
            record,
            runtime,
            happened,
            clients,
            agent,
            vm,
            recorder,
            told: false,
            phase: Phase::Booting,
            deadline: Some(Instant::now() + patience.boot),
            kill_at: None,
            patience,
            hold: false,
            holders: Vec::new(),
            hung_up: false,
            vm_ended: false,
            killed: false,
            aborted: None,
            reported: None,
            size: None,
            processes: Processes::default(),
            pause: Pause::default(),
        }
    }

    /// Ends the VM and waits until it has let go of everything. Output that was given up on is lost.
    pub fn end(mut self) -> Clients {
        let _ = self.vm.end();
        self.streams.close_all();
        self.clients
    }

    /// Lives until the run is over. What the first client asks comes before all else, so that no
    /// output is lost.
    pub fn live(&mut self, first: Option<(ClientId, Asked)>, events: &Events) -> Outcome {
        if self.agent.greet().is_err() {
            // A VM process that ended at once is about to tell why.
            self.agent_gone(None);
        }
        let mut event = first.map(|(client, asked)| {
            self.hold = matches!(asked.request, Request::Hold);
            Happened::Asked(client, asked)
        });
        loop {
            let over = match event {
                Some(happened) => self.happened(happened),
                None => self.timed_out(),
            };
            if let Some(mut outcome) = over {
                if self.hold {
                    outcome.exit = None;
                }
                return outcome;
            }
            let due = [self.deadline, self.kill_at, self.pause.deadline(), self.next_check()];
            event = events.next(due.into_iter().flatten().min());
        }
    }

    fn happened(&mut self, happened: Happened) -> Option<Outcome> {
        match happened {
            Happened::Connected(connection) => {
                // A client that cannot be served sees its connection closed.
                let _ = self.clients.add(connection);
                None
            }
            Happened::Asked(client, asked) => {
                self.asked(client, asked);
                self.aborted.map(|status| self.failed(status, "stopped before it ran".into()))
            }
            Happened::Left(client) => {
                self.left(client);
                None
            }
            Happened::Agent(message) => self.heard(message),
            Happened::AgentGone(fault) => self.agent_gone(fault),
            Happened::Report(report) => {
                self.report(report);
                None
            }
            Happened::VmGone => self.vm_gone(),
            Happened::StreamEnded => {
                self.streams.ended();
                self.over_if_done()
            }
            Happened::LogFailed(why) => {
                self.clients.tell(&Event::Notice(why));
                None
            }
            Happened::CheckOutput(process, output) => {
                self.check_output(process, output);
                None
            }
        }
    }

    /// Stops waiting for clients that keep a held container from its end.
    fn left(&mut self, client: ClientId) {
        self.clients.remove(client);
        self.streams.forget(client);
        self.pause.forget(client);
        self.settle_pause();
        self.holders.retain(|holder| *holder != client);
        self.release_if_unwanted();
    }

    /// Ends a run that was for the container's files when nobody wants them any more.
    fn release_if_unwanted(&mut self) {
        if matches!(self.phase, Phase::Held) && self.holders.is_empty() {
            self.tell_agent(&ToAgent::Release);
            let status = ExitStatus { cause: ExitCause::Code(0), oom_killed: false };
            self.phase = Phase::Ending { status, unmounted: false };
            self.deadline = Some(Instant::now() + self.patience.ending);
        }
    }

    fn heard(&mut self, message: FromAgent) -> Option<Outcome> {
        const INIT: ProcessId = ProcessId::INIT;
        match (&mut self.phase, message) {
            (Phase::Booting, FromAgent::Hello { version: VERSION }) => self.start(),
            (Phase::Booting, FromAgent::Hello { version }) => {
                let message = format!(
                    "the guest's agent speaks version {version}, this vmrun {VERSION}: \
                     both have to come from one build"
                );
                Some(self.failed(FAILED, message))
            }
            (Phase::Starting, FromAgent::Started { process: INIT }) => {
                self.started();
                None
            }
            (Phase::Starting, FromAgent::StartFailed { process: INIT, reason, message }) => {
                let status = match reason {
                    StartFailure::NotFound => 127,
                    StartFailure::NotExecutable => 126,
                    StartFailure::Setup => FAILED,
                };
                Some(self.failed(status, printable(&message)))
            }
            (Phase::Running, FromAgent::Exited { process: INIT, status }) => {
                let unmounted = self.record.remove_on_exit;
                self.phase = Phase::Ending { status, unmounted };
                self.deadline = Some(Instant::now() + self.patience.ending);
                self.kill_at = None;
                self.pause = Pause::default();
                self.checker = None;
                self.over_if_done()
            }
            (Phase::Ending { unmounted: unmounted @ false, status }, FromAgent::Unmounted) => {
                *unmounted = true;
                let status = *status;
                let over = self.over_if_done();
                if over.is_none() && !self.hold {
                    // A reader that is stuck does not hold up the record.
                    if let Some(exit) = exited(status, None).exit {
                        self.note(Milestone::Ended(exit));
                    }
                }
                over
            }
            (
                Phase::Running | Phase::Held | Phase::Ending { .. },
                message @ (FromAgent::Started { process }
                | FromAgent::StartFailed { process, .. }
                | FromAgent::Exited { process, .. }),
            ) if self.processes.expects(process, &message) => {
                self.heard_of_process(process, message);
                None
            }
            (Phase::Running, FromAgent::Frozen(frozen)) if self.pause.expects(frozen) => {
                self.settle_pause();
                None
            }
            (Phase::Ending { .. }, FromAgent::Frozen(_)) => None,
            (_, message) => {
                let message = printable(&format!("{message:?}"));
                Some(self.failed(FAILED, format!("the agent spoke out of turn: {message}")))
            }
        }
    }

    /// Has something recorded. Where that fails nothing ends, but the first time the user is told.
    fn note(&mut self, milestone: Milestone) {
        if let Err(error) = (self.recorder)(milestone)
            && !self.told
        {
            self.told = true;
            self.clients.tell(&unrecorded(&error));
        }
    }

    fn started(&mut self) {
        self.deadline = None;
        if self.hold {
            self.phase = Phase::Held;
            for holder in &self.holders {
                self.clients.answer(*holder, &Event::Done);
            }
            return self.release_if_unwanted();
        }
        self.phase = Phase::Running;
        if let Some(checker) = &mut self.checker {
            checker.begin();
        }
        self.note(Milestone::Started);
        self.clients.tell(&Event::Started);
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
        if self.hold {
            let grow_disk = self.record.resources.disk.grows();
            let hold = ToAgent::Hold(HoldSpec { entropy: spec::entropy(), grow_disk });
            return self.agent.send(&hold).context("cannot ask the guest for the files");
        }
        let start = ToAgent::Start(Box::new(spec::container(&self.record, self.size)?));
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
            VmReport::Paused | VmReport::Resumed => {
                self.pause.vcpus(matches!(report, VmReport::Paused));
                return self.settle_pause();
            }
            VmReport::DiskFull => "the host's disk is full: the container waits for room",
            VmReport::DiskResumed => {
                "there is room on the host's disk again: the container goes on"
            }
        };
        self.clients.tell(&Event::Notice(notice.into()));
    }

    /// Something is due.
    fn timed_out(&mut self) -> Option<Outcome> {
        let now = Instant::now();
        let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if due(self.kill_at) {
            self.kill_at = None;
            self.signal(SIGKILL);
        }
        if due(self.pause.deadline()) {
            self.give_up_pause();
        }
        if due(self.next_check()) {
            self.check();
        }
        if due(self.deadline) { self.give_up() } else { None }
    }
}

#[cfg(test)]
mod tests;
