//! The container: processes in namespaces of their own, as Docker would have set them up, and how
//! the agent starts them.
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
mod sysctl;
mod terminal;
mod tmpfs;
mod user;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agent_protocol::{ContainerSpec, Limit, ProcessSpec, StartFailure, Stream, WindowSize};
use rustix::fs::{Mode, OFlags, fcntl_setfl, open};
use rustix::io::{self, Errno, fcntl_dupfd_cloexec};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, pidfd_send_signal};

use crate::clone::{Child, Namespaces, fork, fork_beside};
use crate::stream::{End, Kind};
use cgroup::ContainerCgroup;
use channel::{Channel, Record};
pub(crate) use child::close_from;
pub(crate) use user::user_names;

/// Why a process of the container could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("cannot make the streams of the process")]
    Streams(#[source] Errno),
    #[error("cannot create the process")]
    Clone(#[source] Errno),
    #[error("cannot hear from the process")]
    Channel(#[source] Errno),
    #[error("set-up of the process ended without a word")]
    Vanished,
    #[error("the container is not running")]
    NotRunning,
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

/// What every process of the container may do.
#[derive(Clone, Debug)]
pub(crate) struct Rights {
    limits: Vec<Limit>,
    /// A bit each, by the kernel's numbers.
    capabilities: u64,
    no_new_privileges: bool,
}

impl Rights {
    pub(crate) fn of(spec: &ContainerSpec) -> Self {
        Self {
            limits: spec.limits.clone(),
            capabilities: spec.capabilities,
            no_new_privileges: spec.no_new_privileges,
        }
    }
}

/// A process of the container, from its birth on.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    terminal: Option<OwnedFd>,
}

/// A process on its way to its command.
#[derive(Debug)]
pub(crate) struct Launch {
    channel: Channel,
    executing: bool,
    failure: Option<StartError>,
    process: Process,
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
    Launch::begin(&spec.process, |stdio, channel| {
        fork(Namespaces::CONTAINER, Some(cgroup.as_fd()), || child::run(spec, stdio, channel))
    })
}

/// Starts another process in the container whose first one is `init`.
pub(crate) fn join(
    process: &ProcessSpec,
    rights: &Rights,
    init: &Process,
    cgroup: &ContainerCgroup,
) -> Result<(Launch, Vec<End>), StartError> {
    let init = init.as_fd();
    Launch::begin(process, |stdio, channel| {
        fork_beside(init, cgroup.as_fd(), || child::join(process, rights, init, stdio, channel))
    })
}

impl Launch {
    fn begin(
        process: &ProcessSpec,
        fork: impl FnOnce(&Stdio, BorrowedFd<'_>) -> io::Result<Child>,
    ) -> Result<(Self, Vec<End>), StartError> {
        let (stdio, ends) = Stdio::create(process).map_err(StartError::Streams)?;
        let (channel, theirs) = Channel::create().map_err(StartError::Channel)?;
        let child = fork(&stdio, theirs.as_fd()).map_err(StartError::Clone)?;
        let process = Process { child, terminal: None };
        Ok((Self { channel, executing: false, failure: None, process }, ends))
    }

    /// The descriptor that becomes readable when there is news.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    /// Hears the child out, record by record.
    pub(crate) fn hear(&mut self) -> News {
        loop {
            match self.channel.receive() {
                Ok(Some(Record::Terminal(master))) => match terminal_ends(&master) {
                    Ok(ends) => {
                        self.process.terminal = Some(master);
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

    /// After [`News::Over`]: the running process, or why there is none.
    pub(crate) fn finish(self) -> Result<Process, StartError> {
        match self.failure {
            Some(failure) => Err(failure),
            None if self.executing => Ok(self.process),
            None => Err(StartError::Vanished),
        }
    }
}

impl Process {
    pub(crate) fn pid(&self) -> Pid {
        self.child.pid
    }

    /// Refers to the process for as long as this is kept.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }

    /// Sends a signal to the process. The kernel drops it where a PID 1 has no handler, as it does
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

/// What a process gets as its descriptors 0, 1 and 2.
#[derive(Debug)]
pub(crate) struct Stdio {
    pub(crate) stdin: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
}

impl Stdio {
    /// Makes pipes as the process wants them, and the agent's ends of them. A terminal takes the
    /// place of all three later, in the child.
    fn create(process: &ProcessSpec) -> io::Result<(Self, Vec<End>)> {
        if process.terminal.is_some() {
            let stdio = Self { stdin: null()?, stdout: null()?, stderr: null()? };
            return Ok((stdio, Vec::new()));
        }
        Self::pipes(process.stdin, process.output)
    }

    /// Makes pipes, and `/dev/null` for what is not wanted.
    pub(crate) fn pipes(stdin: bool, output: bool) -> io::Result<(Self, Vec<End>)> {
        let mut ends = Vec::new();
        let mut write_end = |stream| {
            if !output {
                return null();
            }
            let (fd, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
            ends.push(end(stream, fd)?);
            Ok(theirs)
        };
        let (stdout, stderr) = (write_end(Stream::Stdout)?, write_end(Stream::Stderr)?);
        let stdin = if stdin {
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
