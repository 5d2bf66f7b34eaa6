//! The frame of a container's life: what the monitor sets up before each VM lives and leaves behind
//! after it, and whether there is another one.

use std::{
    cell::{Cell, RefCell},
    io,
    os::fd::AsFd,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result};
use crossbeam_channel::{Receiver, Sender, bounded};
use jiff::Timestamp;

use super::{
    CONTROL_SOCKET,
    clients::{Asked, Clients},
    guest::Agent,
    life::{Events, FAILED, Happened, Life, Milestone, Outcome, Parts, unrecorded},
    patience::Patience,
    protocol::{Connection, Event, Listener, Request},
    rest,
    vm::VmProcess,
};
use crate::{
    container::{
        Backoff, Condition, Container, ContainerError, ContainerId, Containers, Exit, Health,
        HealthConfig, RestartPolicy, RunLock, State,
    },
    cpu_group::CpuGroup,
    events,
    logs::LogWriter,
    paths::{GuestFiles, Paths, make_private},
    vm_process::VmSpec,
};

/// Events that may wait for the deciding thread. Who has more to tell waits: what a guest makes the
/// monitor hold is bounded.
const WAITING: usize = 64;

/// Runs a container from start to end. The first client is connected to stdin; what it asks first is
/// what the run is for, and it is told of every failure from then on.
pub fn run(id: &str) -> Result<()> {
    let _ = rustix::process::setsid();
    let first = Connection::from(io::stdin().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    if let Err(error) = start_to_end(id, &first) {
        let message = format!("{error:#}");
        let _ = first.send(&Event::StartFailed { status: FAILED, message }, &[]);
    }
    Ok(())
}

/// The container, as long as this process has it.
struct Tenure {
    paths: Paths,
    guest: GuestFiles,
    containers: Containers,
    container: Container,
    lock: RunLock,
    runtime: PathBuf,
    condition: RefCell<Condition>,
    /// When the run began, then when its command did.
    started: Cell<Timestamp>,
    /// Somebody has asked for the end: there is no other run.
    ending: Cell<bool>,
    /// The end has been asked for as `stop` asks for it.
    gently: Cell<bool>,
}

/// A VM that has been started, and how it is heard.
struct Booting {
    process: VmProcess,
    agent: Agent,
    happened: Sender<Happened>,
    events: Receiver<Happened>,
}

fn start_to_end(id: &str, first: &Connection) -> Result<()> {
    let paths = Paths::from_env()?;
    let guest = paths.guest()?;
    let containers = Containers::new(paths.clone());
    let container = containers.open(&ContainerId::try_from(id.to_owned())?)?;
    // What the first client asks comes before all else, so that no output is lost.
    let (request, fds) = first.receive()?.context("the client is gone")?;
    let hold = matches!(request, Request::Hold);
    let lock = match containers.begin_run(&container, !hold) {
        // Somebody else has the files, and can be asked for them.
        Err(error @ ContainerError::Running(_)) if hold => {
            return Ok(first.send(&Event::Refused(error.to_string()), &[])?);
        }
        lock => lock?,
    };
    let condition = container.condition()?;
    let tenure = Tenure {
        runtime: paths.runtime_of(id),
        paths,
        guest,
        containers,
        container,
        lock,
        condition: RefCell::new(condition),
        started: Cell::new(Timestamp::now()),
        ending: Cell::new(false),
        gently: Cell::new(false),
    };
    make_private(&tenure.runtime)?;
    let lived = tenure.live(first, Asked { request, fds });
    let _ = std::fs::remove_dir_all(&tenure.runtime);
    match lived {
        Ok((clients, outcome)) => {
            if let Err(error) = tenure.settle(outcome.exit) {
                clients.tell(&unrecorded(&error));
            }
            clients.tell(&outcome.event);
            Ok(())
        }
        Err(error) => {
            let exit =
                || Exit { status: FAILED, oom_killed: false, error: Some(format!("{error:#}")) };
            // One whose files alone were wanted stays what it was. Why is told; that it may not be on
            // record as well, for the same reason, is not.
            let _ = tenure.settle((!hold).then(exit));
            Err(error)
        }
    }
}

impl Tenure {
    /// Lives through all runs; when this returns the last VM has let go of the disk. A run that was
    /// only for the container's files has no exit.
    fn live(&self, first: &Connection, asked_first: Asked) -> Result<(Clients, Outcome)> {
        let (asked, requests) = bounded(WAITING);
        // The guest boots while the rest is made ready.
        let mut vm = self.boot()?;
        let mut clients = Clients::new(asked);
        let listener = Listener::bind(&self.runtime, CONTROL_SOCKET)
            .with_context(|| format!("cannot listen in {}", self.runtime.display()))?;
        clients.listen(listener).context("cannot start a thread")?;
        let first = (clients.add(first.try_clone()?)?, asked_first);
        if !matches!(first.1.request, Request::Hold) {
            self.condition.replace(State::Starting.into());
            self.record()?;
        }
        let mut first = Some(first);
        let mut backoff = Backoff::default();
        loop {
            let events = Events { guest: vm.events, clients: requests.clone() };
            let note = |milestone| self.note(milestone);
            let mut life = Life::new(
                Parts {
                    record: self.container.record.clone(),
                    runtime: self.runtime.clone(),
                    log: LogWriter::open(self.container.folder(), &self.container.record.log),
                    happened: vm.happened,
                    clients,
                    agent: vm.agent,
                    vm: vm.process,
                    patience: Patience::default(),
                },
                &note,
            );
            let outcome = life.live(first.take(), &events);
            // Whoever of the run still has something to tell goes on: nothing more is heard.
            drop(events);
            clients = life.end();
            let (Some(wait), Some(exit)) =
                (self.restart_wait(&outcome, &mut backoff), &outcome.exit)
            else {
                return Ok((clients, outcome));
            };
            self.announce_end(exit);
            self.begin_rest(exit.clone())?;
            clients.tell(&outcome.event);
            if !rest::wait(&mut clients, &requests, wait, self.container.record.id.as_str()) {
                self.condition.borrow_mut().stopped = true;
                return Ok((clients, outcome));
            }
            self.started.set(Timestamp::now());
            vm = self.boot()?;
        }
    }

    fn boot(&self) -> Result<Booting> {
        let (happened, events) = bounded(WAITING);
        let spec = self.vm_spec();
        // Without one the vCPUs are throttled all the same.
        let group = |limit| CpuGroup::make(self.container.record.id.as_str(), limit).ok();
        let (process, control) = VmProcess::start(&spec, spec.nano_cpus.and_then(group), &happened)
            .context("cannot start the VM process")?;
        let agent = Agent::new(control, Patience::default().send, happened.clone())
            .context("cannot start a thread")?;
        Ok(Booting { process, agent, happened, events })
    }

    fn vm_spec(&self) -> VmSpec {
        let record = &self.container.record;
        VmSpec {
            monitor_pid: rustix::process::getpid().as_raw_nonzero().get(),
            kernel: self.guest.kernel.clone(),
            initramfs: self.guest.initramfs.clone(),
            store: self.paths.data().to_owned(),
            root: record.image.root,
            disk: self.container.disk(),
            disk_bytes: record.resources.disk.bytes(),
            ephemeral: record.remove_on_exit,
            memory_mib: record.resources.memory_mib,
            vcpus: record.resources.vcpus,
            nano_cpus: record.resources.nano_cpus,
            runtime: self.runtime.clone(),
        }
    }

    /// How long until the next try, if there is to be one. A container whose command never came to
    /// run is not tried again, as in Docker.
    fn restart_wait(&self, outcome: &Outcome, backoff: &mut Backoff) -> Option<Duration> {
        let exit = outcome.exit.as_ref()?;
        let condition = self.condition.borrow();
        let ran = matches!(outcome.event, Event::Exited { .. });
        let policy = self.policy();
        if self.ending.get() || !ran || !policy.wants(exit.status, condition.restarts) {
            return None;
        }
        let run = Timestamp::now().duration_since(self.started.get());
        Some(backoff.after(run.unsigned_abs()))
    }

    /// The policy as it is on disk: `update` may have changed it.
    fn policy(&self) -> RestartPolicy {
        let record = self.containers.open(&self.container.record.id).map(|found| found.record);
        record.map_or(self.container.record.restart, |record| record.restart)
    }

    /// Tells the world, which is to say `vmrun events`.
    fn announce(&self, action: &str, more: &[(&str, String)]) {
        events::record(&self.paths, self.event(action, more));
    }

    fn event(&self, action: &str, more: &[(&str, String)]) -> events::Event {
        // Its name may be another by now.
        let record = self.containers.open(&self.container.record.id).map(|found| found.record);
        let record = record.unwrap_or_else(|_| self.container.record.clone());
        let event = events::Event::of_container(&record, action);
        more.iter().fold(event, |event, (name, value)| event.with(name, value))
    }

    fn note(&self, milestone: Milestone) -> Result<()> {
        self.announce_milestone(&milestone);
        let started = self.started.get();
        {
            let mut condition = self.condition.borrow_mut();
            match milestone {
                Milestone::Started => {
                    let started = Timestamp::now();
                    self.started.set(started);
                    condition.state = State::Running { started };
                    let said = self.container.record.health.as_ref();
                    condition.health =
                        said.and_then(HealthConfig::check).map(|_| Health::default());
                }
                Milestone::Paused => condition.state = State::Paused { started },
                Milestone::Unpaused => condition.state = State::Running { started },
                Milestone::Health(health) => condition.health = Some(health),
                Milestone::Stopped { for_good, gently } => {
                    self.ending.set(true);
                    self.gently.set(self.gently.get() | gently);
                    condition.stopped |= for_good;
                }
                Milestone::Attached | Milestone::Signalled(_) | Milestone::Exec { .. } => {
                    return Ok(());
                }
                Milestone::Ended(exit) => {
                    condition.state = State::Exited { started, finished: Timestamp::now(), exit };
                }
            }
        }
        self.record()
    }

    fn announce_milestone(&self, milestone: &Milestone) {
        match milestone {
            Milestone::Attached => self.announce("attach", &[]),
            Milestone::Started => self.announce("start", &[]),
            Milestone::Paused => self.announce("pause", &[]),
            Milestone::Unpaused => self.announce("unpause", &[]),
            Milestone::Health(health) => {
                let before = self.condition.borrow().health.as_ref().map(|health| health.status);
                if before != Some(health.status) {
                    self.announce(&format!("health_status: {}", health.status.word()), &[]);
                }
            }
            Milestone::Signalled(signal) => {
                self.announce("kill", &[("signal", signal.to_string())]);
            }
            Milestone::Exec { action, id, exit, is_probe } => {
                let exit = exit.map(|status| ("exitCode", status.to_string()));
                let more: Vec<_> = exit.into_iter().chain([("execID", id.clone())]).collect();
                let event = self.event(action, &more);
                if *is_probe {
                    events::record_probe(&self.paths, event);
                } else {
                    events::record(&self.paths, event);
                }
            }
            Milestone::Stopped { .. } | Milestone::Ended(_) => {}
        }
    }

    /// The end of a run, by whatever cause.
    fn announce_end(&self, exit: &Exit) {
        if exit.oom_killed {
            self.announce("oom", &[]);
        }
        self.announce("die", &[("exitCode", exit.status.to_string())]);
        if self.gently.get() {
            self.announce("stop", &[]);
        }
    }

    fn begin_rest(&self, exit: Exit) -> Result<()> {
        {
            let mut condition = self.condition.borrow_mut();
            condition.restarts = condition.restarts.saturating_add(1);
            let (started, finished) = (self.started.get(), Timestamp::now());
            condition.state = State::Restarting { started, finished, exit };
        }
        self.record()
    }

    /// Records the end, or removes the container, and lets go of it: whoever hears of the end finds
    /// it free.
    fn settle(self, exit: Option<Exit>) -> Result<()> {
        let Some(exit) = exit else { return Ok(()) };
        self.announce_end(&exit);
        if self.container.record.remove_on_exit {
            self.announce("destroy", &[]);
            return Ok(self.containers.remove_locked(&self.container, &self.lock)?);
        }
        let (started, finished) = (self.started.get(), Timestamp::now());
        self.condition.borrow_mut().state = State::Exited { started, finished, exit };
        self.record()
    }

    fn record(&self) -> Result<()> {
        Ok(self.container.set_condition(&self.condition.borrow(), &self.lock)?)
    }
}
