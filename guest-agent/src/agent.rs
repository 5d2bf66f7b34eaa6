//! The agent's loop: who is told of which event, and the life of the container.
//!
//! ```text
//!   Idle ── Start ──→ Active ── command ended ──→ Unmounting ──→ Over
//!    │                   └── start failed, or ephemeral ───────────↑
//!    └──── Hold ────→ Held ─── Release ──→ Unmounting ─────────────┘
//! ```

use std::convert::Infallible;
use std::os::fd::OwnedFd;

use agent_protocol::{
    CONTROL_PORT, ContainerSpec, ExitCause, ExitStatus, FromAgent, HoldSpec, ProcessId,
    ProcessSpec, STREAM_PORT, StartFailure, Task, ToAgent, Work,
};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::boot::{BootError, Guest, clock, entropy, resize};
use crate::container::{self, Launch, News, Rights, StartError};
use crate::control::{Control, ControlError};
use crate::poll::{Poll, Ready, Token};
use crate::processes::{Member, Processes};
use crate::reaper::Reaper;
use crate::stream::{End, Streams};
use crate::tasks::{self, Place};
use crate::trim::Trim;
use crate::{describe, shutdown, vsock};

const CHILDREN: Token = Token(0);
const LISTENER: Token = Token(1);
const CONTROL: Token = Token(2);
const FREEZER: Token = Token(3);
const TRIM: Token = Token(4);
/// Launches have the tokens from here on, by the number of their process.
const FIRST_LAUNCH: Token = Token(1 << 32);
const FIRST_STREAM: Token = Token(1 << 33);

fn launch_token(process: ProcessId) -> Token {
    Token(FIRST_LAUNCH.0 + u64::from(process.0))
}

/// The process whose launch has the token.
fn launched(token: Token) -> Option<ProcessId> {
    token.0.checked_sub(FIRST_LAUNCH.0).and_then(|id| u32::try_from(id).ok()).map(ProcessId)
}

/// Why the agent, and with it the VM, ends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error("cannot wait for events")]
    Poll(#[source] Errno),
    #[error("cannot watch child processes")]
    Reaper(#[source] Errno),
    #[error("cannot accept streams")]
    Listen(#[source] Errno),
    #[error("cannot dial the host")]
    Dial(#[source] Errno),
    #[error("cannot freeze the container")]
    Freezer(#[source] Errno),
    #[error("cannot set a timer")]
    Timer(#[source] Errno),
    #[error(transparent)]
    Control(#[from] ControlError),
}

impl AgentError {
    /// Whether the host has simply closed the connection, which is no fault.
    pub(crate) fn is_host_gone(&self) -> bool {
        matches!(self, Self::Control(ControlError::Closed))
    }
}

/// Where the container is in its life.
#[derive(Debug)]
enum Life {
    Idle,
    /// The command is on its way, or runs.
    Active {
        rights: Rights,
        ephemeral: bool,
    },
    /// The files are ready; there is no command.
    Held,
    /// The process is the one that unmounts.
    Unmounting(Pid),
    Over,
}

#[derive(Debug)]
pub(crate) struct Agent {
    poll: Poll,
    reaper: Reaper,
    listener: OwnedFd,
    control: Control,
    streams: Streams,
    trim: Trim,
    guest: Result<Guest, BootError>,
    life: Life,
    processes: Processes,
    freezer: Option<Freezer>,
    /// Streams with more to do than fitted in their turn.
    eager: Vec<Token>,
}

impl Agent {
    /// Dials the host and makes the guest ready while it answers. What fails in the guest is told
    /// to the host when it asks for the container.
    pub(crate) fn boot() -> Result<Self, AgentError> {
        // The first three descriptors are 0 to 2 here, where messages of libc and std would go if
        // there were any: to things that refuse them, and never to the host.
        let poll = Poll::new().map_err(AgentError::Poll)?;
        let reaper = Reaper::new().map_err(AgentError::Reaper)?;
        let listener = vsock::listen_on(STREAM_PORT).map_err(AgentError::Listen)?;
        let control = vsock::dial_host(CONTROL_PORT).map_err(AgentError::Dial)?;
        let control = Control::new(control);

        poll.watch(reaper.as_fd(), CHILDREN, EventFlags::IN)
            .and_then(|()| poll.watch(&listener, LISTENER, EventFlags::IN))
            .and_then(|()| {
                let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP;
                poll.watch(control.as_fd(), CONTROL, interest)
            })
            .map_err(AgentError::Poll)?;
        let streams = Streams::new(FIRST_STREAM);
        let trim = Trim::new().map_err(AgentError::Timer)?;
        poll.watch(trim.as_fd(), TRIM, EventFlags::IN).map_err(AgentError::Poll)?;
        let guest = Guest::prepare();
        Ok(Self {
            poll,
            reaper,
            listener,
            control,
            streams,
            trim,
            guest,
            life: Life::Idle,
            processes: Processes::default(),
            freezer: None,
            eager: Vec::new(),
        })
    }

    /// Serves the host until it is gone.
    pub(crate) fn serve(mut self) -> Result<Infallible, AgentError> {
        loop {
            if let Err(error) = self.turn() {
                // What still runs must not keep writing while the disk is synced.
                if let Ok(guest) = &self.guest {
                    let _ = guest.cgroup.kill();
                }
                return Err(error);
            }
        }
    }

    fn turn(&mut self) -> Result<(), AgentError> {
        let ready = self.poll.wait(self.eager.is_empty()).map_err(AgentError::Poll)?;
        for token in std::mem::take(&mut self.eager) {
            self.on_stream(token, EventFlags::empty())?;
        }
        for Ready { token, flags } in ready {
            match token {
                CHILDREN => self.on_children()?,
                LISTENER => self.on_connection()?,
                CONTROL => self.on_control()?,
                FREEZER => self.on_freezer()?,
                TRIM => self.trim.on_timer().map_err(AgentError::Timer)?,
                token => match launched(token) {
                    Some(process) => self.on_launch(process)?,
                    None => self.on_stream(token, flags)?,
                },
            }
        }
        Ok(())
    }

    fn on_control(&mut self) -> Result<(), AgentError> {
        while let Some(asked) = self.control.next()? {
            match asked {
                ToAgent::Hello { .. } => {}
                ToAgent::Start(spec) => self.start(&spec)?,
                ToAgent::Hold(spec) => self.hold(&spec)?,
                ToAgent::Release => self.release()?,
                ToAgent::Exec { process, work } => self.exec(process, &work)?,
                ToAgent::Signal { process, signal } => self.processes.signal(process, signal),
                ToAgent::Resize { process, size } => {
                    if let Some(process) = self.processes.get(process) {
                        process.resize(size);
                    }
                }
                ToAgent::Freeze(frozen) => self.freeze(frozen)?,
                ToAgent::SetClock(nanoseconds) => clock::set(nanoseconds),
            }
        }
        Ok(())
    }

    fn on_connection(&mut self) -> Result<(), AgentError> {
        // A connection that is gone again before it is accepted is no fault of the listener.
        while let Ok(Some(socket)) = vsock::accept(&self.listener) {
            self.streams.accept(&self.poll, socket).map_err(AgentError::Poll)?;
        }
        Ok(())
    }

    fn on_stream(&mut self, token: Token, flags: EventFlags) -> Result<(), AgentError> {
        if self.streams.on_event(&self.poll, token, flags).map_err(AgentError::Poll)? {
            self.eager.push(token);
        }
        Ok(())
    }

    /// Makes ready what the container's settings decide about its disk and the guest.
    fn prepare(&self, entropy: &[u8], grow_disk: bool) -> Result<&Guest, String> {
        let guest = self.guest.as_ref().map_err(|error| describe(error))?;
        entropy::credit(entropy)
            .map_err(|error| format!("cannot credit the host's random bytes: {error}"))?;
        if grow_disk {
            resize::grow_disk()
                .map_err(|error| format!("cannot grow the writable disk's file system: {error}"))?;
        }
        Ok(guest)
    }

    /// Starts the container. There is one in a VM's life: a second request is not answered.
    fn start(&mut self, spec: &ContainerSpec) -> Result<(), AgentError> {
        if !matches!(self.life, Life::Idle) {
            return Ok(());
        }
        self.life = Life::Over;
        let ready = self.prepare(&spec.entropy, spec.grow_disk).and_then(|guest| {
            let limited = spec.pids_max.map_or(Ok(()), |most| guest.cgroup.limit_processes(most));
            limited.map_err(|error| format!("cannot limit the container's processes: {error}"))?;
            Ok(guest)
        });
        let launch = match ready {
            Ok(guest) => container::launch(spec, &guest.cgroup),
            Err(message) => return self.fail(ProcessId::INIT, StartFailure::Setup, message),
        };
        match launch {
            Ok(launch) => {
                let rights = Rights::of(spec);
                self.life = Life::Active { rights, ephemeral: spec.ephemeral };
                self.follow(ProcessId::INIT, launch, spec.process.terminal.is_some())
            }
            Err(error) => self.fail_start(ProcessId::INIT, &error),
        }
    }

    /// Makes the files ready for tasks, in place of a start.
    fn hold(&mut self, spec: &HoldSpec) -> Result<(), AgentError> {
        if !matches!(self.life, Life::Idle) {
            return Ok(());
        }
        self.life = Life::Over;
        match self.prepare(&spec.entropy, spec.grow_disk) {
            Ok(_) => {
                self.life = Life::Held;
                Ok(self.control.send(&FromAgent::Started { process: ProcessId::INIT })?)
            }
            Err(message) => self.fail(ProcessId::INIT, StartFailure::Setup, message),
        }
    }

    fn release(&mut self) -> Result<(), AgentError> {
        if matches!(self.life, Life::Held) { self.unmount() } else { Ok(()) }
    }

    /// Starts one more process, under a number of its own.
    fn exec(&mut self, id: ProcessId, work: &Work) -> Result<(), AgentError> {
        if !self.processes.has_room_for(id) {
            let message = "there are too many processes in the container".to_owned();
            return self.fail(id, StartFailure::Setup, message);
        }
        match work {
            Work::Command(process) => match self.join(process) {
                Ok(launch) => self.follow(id, launch, process.terminal.is_some()),
                Err(error) => self.fail_start(id, &error),
            },
            Work::Task(task) => self.begin_task(id, task),
        }
    }

    fn join(&self, process: &ProcessSpec) -> Result<(Launch, Vec<End>), StartError> {
        match (&self.life, &self.guest, self.processes.init()) {
            (Life::Active { rights, .. }, Ok(guest), Some(init)) => {
                container::join(process, rights, init, &guest.cgroup)
            }
            _ => Err(StartError::NotRunning),
        }
    }

    fn begin_task(&mut self, id: ProcessId, task: &Task) -> Result<(), AgentError> {
        let place = match (&self.life, self.processes.init()) {
            (Life::Active { .. }, Some(init)) => Place::Container(init),
            (Life::Held, _) => Place::Disk,
            _ => return self.fail_start(id, &StartError::NotRunning),
        };
        match tasks::begin(task, place) {
            Ok((child, ends)) => {
                self.processes.insert(id, Member::Task(child));
                self.streams.open(&self.poll, id, ends).map_err(AgentError::Poll)?;
                Ok(self.control.send(&FromAgent::Started { process: id })?)
            }
            Err(error) => self.fail_start(id, &error),
        }
    }

    /// Takes a process in that is on its way to its command.
    fn follow(
        &mut self,
        id: ProcessId,
        (launch, ends): (Launch, Vec<End>),
        terminal: bool,
    ) -> Result<(), AgentError> {
        self.poll
            .watch(launch.as_fd(), launch_token(id), EventFlags::IN)
            .map_err(AgentError::Poll)?;
        self.processes.insert(id, Member::Launching(launch));
        // Those of a terminal come later.
        if !terminal {
            self.streams.open(&self.poll, id, ends).map_err(AgentError::Poll)?;
        }
        Ok(())
    }

    fn fail_start(&mut self, id: ProcessId, error: &StartError) -> Result<(), AgentError> {
        self.fail(id, error.reason(), describe(error))
    }

    fn fail(
        &mut self,
        process: ProcessId,
        reason: StartFailure,
        message: String,
    ) -> Result<(), AgentError> {
        self.streams.refuse(process);
        Ok(self.control.send(&FromAgent::StartFailed { process, reason, message })?)
    }

    /// Hears how far a process has come on its way to its command.
    fn on_launch(&mut self, id: ProcessId) -> Result<(), AgentError> {
        let Some(launch) = self.processes.launch(id) else { return Ok(()) };
        let over = loop {
            match launch.hear() {
                News::Nothing => break false,
                News::Over => break true,
                News::Terminal(ends) => {
                    self.streams.open(&self.poll, id, ends).map_err(AgentError::Poll)?;
                }
            }
        };
        let Some(Member::Launching(launch)) = over.then(|| self.processes.remove(id)).flatten()
        else {
            return Ok(());
        };
        match launch.finish() {
            Ok(process) => {
                self.processes.insert(id, Member::Running(process));
                Ok(self.control.send(&FromAgent::Started { process: id })?)
            }
            Err(error) => {
                if id == ProcessId::INIT {
                    self.life = Life::Over;
                }
                self.fail_start(id, &error)
            }
        }
    }

    fn on_children(&mut self) -> Result<(), AgentError> {
        for (pid, cause) in self.reaper.reap() {
            if matches!(self.life, Life::Unmounting(helper) if helper == pid) {
                self.life = Life::Over;
                self.control.send(&FromAgent::Unmounted)?;
            }
            let Some(id) = self.processes.find(pid) else { continue };
            // A command may be over before the end of its launch has been heard.
            self.on_launch(id)?;
            if self.processes.remove(id).is_some() {
                self.on_exit(id, cause)?;
            }
        }
        Ok(())
    }

    fn on_exit(&mut self, process: ProcessId, cause: ExitCause) -> Result<(), AgentError> {
        let mut status = ExitStatus { cause, oom_killed: false };
        if process != ProcessId::INIT {
            return Ok(self.control.send(&FromAgent::Exited { process, status })?);
        }
        // By the kernel's doing every other process in its pid namespace has ended, too.
        if let Ok(guest) = &self.guest {
            let _ = guest.cgroup.kill();
            status.oom_killed = guest.cgroup.oom_killed();
        }
        self.control.send(&FromAgent::Exited { process, status })?;
        let life = std::mem::replace(&mut self.life, Life::Over);
        if matches!(life, Life::Active { ephemeral: false, .. }) {
            return self.unmount();
        }
        Ok(())
    }

    fn unmount(&mut self) -> Result<(), AgentError> {
        match shutdown::unmount_in_background() {
            Ok(helper) => self.life = Life::Unmounting(helper),
            // Without a process to do it in: the streams wait for the disk, and lose nothing.
            Err(_) => {
                self.life = Life::Over;
                shutdown::unmount_disk();
                self.control.send(&FromAgent::Unmounted)?;
            }
        }
        Ok(())
    }

    /// Freezes the container, or lets it go on; the answer follows when it is so.
    fn freeze(&mut self, frozen: bool) -> Result<(), AgentError> {
        let Ok(guest) = &self.guest else { return Ok(()) };
        let freezer = match self.freezer.take() {
            Some(freezer) => freezer,
            None => {
                let events = guest.cgroup.events().map_err(AgentError::Freezer)?;
                self.poll.watch(&events, FREEZER, EventFlags::PRI).map_err(AgentError::Poll)?;
                Freezer { _events: events, wanted: None }
            }
        };
        guest.cgroup.freeze(frozen).map_err(AgentError::Freezer)?;
        self.freezer = Some(Freezer { wanted: Some(frozen), ..freezer });
        self.on_freezer()
    }

    fn on_freezer(&mut self) -> Result<(), AgentError> {
        let (Ok(guest), Some(freezer)) = (&self.guest, &mut self.freezer) else { return Ok(()) };
        match freezer.wanted {
            Some(wanted) if guest.cgroup.is_frozen() == wanted => {
                freezer.wanted = None;
                Ok(self.control.send(&FromAgent::Frozen(wanted))?)
            }
            _ => Ok(()),
        }
    }
}

/// Watches a container that is to be frozen or to go on.
#[derive(Debug)]
struct Freezer {
    _events: OwnedFd,
    /// What has been asked for and not answered.
    wanted: Option<bool>,
}
