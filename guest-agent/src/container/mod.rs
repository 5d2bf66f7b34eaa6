//! The container: one process in namespaces of its own, as Docker would have set it up, and how
//! the agent starts and ends it.
//!
//! ```text
//!   agent                                child (PID 1 of the container)
//!   pipes, channel, clone3  ───────────→ child.rs: root, devices, user, … (may allocate: a fork)
//!                           ←── terminal's master (with -t)
//!                           ←── "executing"
//!                           ←── end of the channel, by execve itself: started
//!                           ←── or a failure, and the child's end
//! ```
//! Not here: the streams (`stream`), which only get the agent's ends of the pipes.

mod capabilities;
pub(crate) mod cgroup;
mod channel;
mod child;
mod command;
mod dev;
mod device_filter;
mod environment;
mod identity_files;
mod limits;
mod paths;
mod rootfs;
mod terminal;
mod user;

use std::os::fd::{AsFd, OwnedFd};

use agent_protocol::{ContainerSpec, ProcessSpec, StartFailure, Stream, WindowSize};
use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use rustix::io::{self, Errno, fcntl_dupfd_cloexec};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, pidfd_send_signal};

use crate::clone::{Child, Namespaces, fork};
use crate::stream::{End, Kind};
use cgroup::ContainerCgroup;
use channel::{Channel, Record};

/// Why the container's first process could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot make the streams of the container")]
    Streams(#[source] Errno),
    #[error("cannot create the container's first process")]
    Clone(#[source] Errno),
    #[error("cannot hear from the container's first process")]
    Channel(#[source] Errno),
    #[error("set-up of the container ended without a word")]
    Vanished,
    /// As the child told it.
    #[error("{message}")]
    Child { reason: StartFailure, message: String },
}

impl StartError {
    pub(crate) fn reason(&self) -> StartFailure {
        match self {
            Self::Child { reason, .. } => *reason,
            _ => StartFailure::Setup,
        }
    }
}

/// The container's first process, from its birth on.
#[derive(Debug)]
pub(crate) struct Container {
    child: Child,
    terminal: Option<OwnedFd>,
}

/// A container on its way to its command.
#[derive(Debug)]
pub(crate) struct Launch {
    channel: Channel,
    executing: bool,
    failure: Option<StartError>,
    container: Container,
}

/// News of a [`Launch`].
#[derive(Debug)]
pub(crate) enum News {
    /// Nothing more for now.
    Nothing,
    /// The ends of the terminal's streams.
    Terminal(Vec<End>),
    /// The launch is over: it can be finished.
    Over,
}

/// Starts the container; gives the agent's ends of its streams, which come later for a terminal.
pub(crate) fn launch(
    spec: &ContainerSpec,
    cgroup: &ContainerCgroup,
) -> Result<(Launch, Vec<End>), StartError> {
    let (stdio, ends) = Stdio::create(&spec.process).map_err(StartError::Streams)?;
    let (channel, theirs) = Channel::create().map_err(StartError::Channel)?;
    let child = fork(Namespaces::CONTAINER, Some(cgroup.as_fd()), || {
        child::run(spec, &stdio, theirs.as_fd())
    })
    .map_err(StartError::Clone)?;
    let container = Container { child, terminal: None };
    Ok((Launch { channel, executing: false, failure: None, container }, ends))
}

impl Launch {
    /// The descriptor that becomes readable when there is news.
    pub(crate) fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.channel.as_fd()
    }

    pub(crate) fn pid(&self) -> Pid {
        self.container.pid()
    }

    pub(crate) fn container(&self) -> &Container {
        &self.container
    }

    /// Hears the child out, record by record.
    pub(crate) fn hear(&mut self) -> News {
        loop {
            match self.channel.receive() {
                Ok(Some(Record::Terminal(master))) => match terminal_ends(&master) {
                    Ok(ends) => {
                        self.container.terminal = Some(master);
                        return News::Terminal(ends);
                    }
                    Err(error) => self.failure = Some(StartError::Streams(error)),
                },
                Ok(Some(Record::Executing)) => self.executing = true,
                Ok(Some(Record::Failed { reason, message })) => {
                    self.failure = Some(StartError::Child { reason, message });
                }
                Ok(None) => return News::Over,
                Err(Errno::AGAIN) => return News::Nothing,
                Err(Errno::INTR) => {}
                Err(error) => {
                    self.failure = Some(StartError::Channel(error));
                    return News::Over;
                }
            }
        }
    }

    /// After [`News::Over`]: the running container, or why there is none.
    pub(crate) fn finish(self) -> Result<Container, StartError> {
        match self.failure {
            Some(failure) => Err(failure),
            None if self.executing => Ok(self.container),
            None => Err(StartError::Vanished),
        }
    }
}

impl Container {
    pub(crate) fn pid(&self) -> Pid {
        self.child.pid
    }

    /// Sends a signal to the command. The kernel drops it where a PID 1 has no handler, as it does
    /// in Docker; no error if the process has ended.
    pub(crate) fn signal(&self, signal: u8) {
        if let Some(signal) = named_signal(signal) {
            let _ = pidfd_send_signal(&self.child.pidfd, signal);
        }
    }

    /// Sets the size of the terminal, if there is one.
    pub(crate) fn resize(&self, size: WindowSize) {
        if let Some(terminal) = &self.terminal {
            let _ = terminal::resize(terminal, size);
        }
    }
}

/// Signals 1–64; the rest are nothing that can be sent.
fn named_signal(signal: u8) -> Option<Signal> {
    let number = i32::from(signal);
    if !(1..=64).contains(&number) {
        return None;
    }
    // SAFETY: the number is one of a signal the kernel knows. It is only sent, never waited for or
    // blocked, so that libc keeps 32 and 33 for itself does not matter here.
    Some(unsafe { Signal::from_raw_unchecked(number) })
}

/// What the container's process gets as its descriptors 0, 1 and 2.
#[derive(Debug)]
pub(super) struct Stdio {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Stdio {
    /// Makes pipes as the process wants them, and the agent's ends of them. A terminal takes the
    /// place of all three later, in the child.
    fn create(process: &ProcessSpec) -> io::Result<(Self, Vec<End>)> {
        if process.terminal.is_some() {
            let stdio = Self { stdin: null()?, stdout: null()?, stderr: null()? };
            return Ok((stdio, Vec::new()));
        }
        let (stdout, out_end) = output(Stream::Stdout)?;
        let (stderr, err_end) = output(Stream::Stderr)?;
        let mut ends = vec![out_end, err_end];
        let stdin = if process.stdin {
            let (stdin, fd) = pipe_with(PipeFlags::CLOEXEC)?;
            ends.push(end(Stream::Stdin, fd)?);
            stdin
        } else {
            null()?
        };
        Ok((Self { stdin, stdout, stderr }, ends))
    }
}

fn null() -> io::Result<OwnedFd> {
    open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

fn output(stream: Stream) -> io::Result<(OwnedFd, End)> {
    let (fd, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    Ok((theirs, end(stream, fd)?))
}

/// The agent's end of a pipe. Only this end is non-blocking; the process's stays as it expects.
fn end(stream: Stream, fd: OwnedFd) -> io::Result<End> {
    fcntl_setfl(&fd, OFlags::NONBLOCK)?;
    Ok(End { stream, kind: Kind::Pipe, fd })
}

fn terminal_ends(master: &OwnedFd) -> io::Result<Vec<End>> {
    fcntl_setfl(master, OFlags::NONBLOCK)?;
    [Stream::Stdin, Stream::Stdout]
        .into_iter()
        .map(|stream| {
            let fd = fcntl_dupfd_cloexec(master, 0)?;
            Ok(End { stream, kind: Kind::Terminal, fd })
        })
        .collect()
}
