//! The agent's loop: who is told of which event, and the life of the container.
//!
//! ```text
//!   Idle ── Start ──→ Starting ── executed ──→ Running ── ended ──→ Unmounting ──→ Over
//!    └─ boot failed ─────┴── failed ──────────────────────── ephemeral ─────────────↑
//! ```

use std::convert::Infallible;
use std::os::fd::OwnedFd;

use agent_protocol::{
    CONTROL_PORT, ContainerSpec, ExitCause, ExitStatus, FromAgent, ProcessId, STREAM_PORT,
    StartFailure, ToAgent,
};
use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::process::Pid;

use crate::boot::{BootError, Guest, entropy, resize};
use crate::container::{self, Container, Launch, News, StartError};
use crate::control::{Control, ControlError};
use crate::poll::{Poll, Ready, Token};
use crate::reaper::Reaper;
use crate::stream::Streams;
use crate::{describe, shutdown, vsock};

const CHILDREN: Token = Token(0);
const LISTENER: Token = Token(1);
const CONTROL: Token = Token(2);
const LAUNCH: Token = Token(3);
const FIRST_STREAM: Token = Token(4);

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
    Starting {
        launch: Launch,
        ephemeral: bool,
    },
    Running {
        container: Container,
        ephemeral: bool,
    },
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
    guest: Result<Guest, BootError>,
    life: Life,
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
        let guest = Guest::prepare();
        let (life, eager) = (Life::Idle, Vec::new());
        Ok(Self { poll, reaper, listener, control, streams, guest, life, eager })
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
                LAUNCH => self.on_launch()?,
                stream => self.on_stream(stream, flags)?,
            }
        }
        Ok(())
    }

    fn on_control(&mut self) -> Result<(), AgentError> {
        while let Some(asked) = self.control.next()? {
            match asked {
                ToAgent::Hello { .. } => {}
                ToAgent::Start(spec) => self.start(&spec)?,
                ToAgent::Signal { process: ProcessId::INIT, signal } => {
                    if let Some(container) = self.container() {
                        container.signal(signal);
                    }
                }
                ToAgent::Resize { process: ProcessId::INIT, size } => {
                    if let Some(container) = self.container() {
                        container.resize(size);
                    }
                }
                ToAgent::Signal { .. } | ToAgent::Resize { .. } => {}
            }
        }
        Ok(())
    }

    fn container(&self) -> Option<&Container> {
        match &self.life {
            Life::Starting { launch, .. } => Some(launch.container()),
            Life::Running { container, .. } => Some(container),
            Life::Idle | Life::Unmounting(_) | Life::Over => None,
        }
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

    /// Starts the container. There is one in a VM's life: a second request is not answered.
    fn start(&mut self, spec: &ContainerSpec) -> Result<(), AgentError> {
        if !matches!(self.life, Life::Idle) {
            return Ok(());
        }
        self.life = Life::Over;
        let guest = match &self.guest {
            Ok(guest) => guest,
            Err(error) => return self.fail(StartFailure::Setup, describe(error)),
        };
        if let Err(error) = entropy::credit(&spec.entropy) {
            let message = format!("cannot credit the host's random bytes: {error}");
            return self.fail(StartFailure::Setup, message);
        }
        if spec.grow_disk
            && let Err(error) = resize::grow_disk()
        {
            let message = format!("cannot grow the writable disk's file system: {error}");
            return self.fail(StartFailure::Setup, message);
        }
        match container::launch(spec, &guest.cgroup) {
            Ok((launch, ends)) => {
                self.poll
                    .watch(launch.as_fd(), LAUNCH, EventFlags::IN)
                    .map_err(AgentError::Poll)?;
                if spec.process.terminal.is_none() {
                    self.streams
                        .open(&self.poll, ProcessId::INIT, ends)
                        .map_err(AgentError::Poll)?;
                }
                self.life = Life::Starting { launch, ephemeral: spec.ephemeral };
                Ok(())
            }
            Err(error) => self.fail_start(&error),
        }
    }

    fn fail_start(&mut self, error: &StartError) -> Result<(), AgentError> {
        self.fail(error.reason(), describe(error))
    }

    fn fail(&mut self, reason: StartFailure, message: String) -> Result<(), AgentError> {
        self.streams.refuse(ProcessId::INIT);
        Ok(self.control.send(&FromAgent::StartFailed { reason, message })?)
    }

    /// Hears how far the container's first process has come.
    fn on_launch(&mut self) -> Result<(), AgentError> {
        let Life::Starting { launch, .. } = &mut self.life else { return Ok(()) };
        let over = loop {
            match launch.hear() {
                News::Nothing => break false,
                News::Over => break true,
                News::Terminal(ends) => self
                    .streams
                    .open(&self.poll, ProcessId::INIT, ends)
                    .map_err(AgentError::Poll)?,
            }
        };
        if !over {
            return Ok(());
        }
        let Life::Starting { launch, ephemeral } = std::mem::replace(&mut self.life, Life::Over)
        else {
            return Ok(());
        };
        match launch.finish() {
            Ok(container) => {
                self.life = Life::Running { container, ephemeral };
                Ok(self.control.send(&FromAgent::Started)?)
            }
            Err(error) => self.fail_start(&error),
        }
    }

    fn on_children(&mut self) -> Result<(), AgentError> {
        for (pid, cause) in self.reaper.reap() {
            // A command may be over before the end of its launch has been heard.
            if matches!(&self.life, Life::Starting { launch, .. } if launch.pid() == pid) {
                self.on_launch()?;
            }
            match &self.life {
                Life::Running { container, ephemeral } if container.pid() == pid => {
                    self.on_exit(cause, *ephemeral)?;
                }
                Life::Unmounting(helper) if *helper == pid => {
                    self.life = Life::Over;
                    self.control.send(&FromAgent::Unmounted)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The command has ended, and by the kernel's doing every other process in its pid namespace.
    fn on_exit(&mut self, cause: ExitCause, ephemeral: bool) -> Result<(), AgentError> {
        self.life = Life::Over;
        let mut oom_killed = false;
        if let Ok(guest) = &self.guest {
            let _ = guest.cgroup.kill();
            oom_killed = guest.cgroup.oom_killed();
        }
        let status = ExitStatus { cause, oom_killed };
        self.control.send(&FromAgent::Exited { process: ProcessId::INIT, status })?;
        if !ephemeral {
            match shutdown::unmount_in_background() {
                Ok(helper) => self.life = Life::Unmounting(helper),
                // Without a process to do it in: the streams wait for the disk, and lose nothing.
                Err(_) => {
                    shutdown::unmount_disk();
                    self.control.send(&FromAgent::Unmounted)?;
                }
            }
        }
        Ok(())
    }
}
