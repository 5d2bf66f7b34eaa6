//! Wire types between vmrun on the host and the agent in the guest: types, version and limits, and
//! nothing else.
//!
//! Two kinds of vsock connection exist:
//!
//! - the **control** connection. The agent dials the host once, at [`CONTROL_PORT`], when it is
//!   ready to serve: that is how the host learns that the guest is up. From then on the host asks
//!   with [`ToAgent`] and the agent answers with [`FromAgent`], one frame each ([`read_frame`],
//!   [`write_frame`]).
//! - a **stream** connection for each of stdin, stdout and stderr of a process. The host dials the
//!   agent at [`STREAM_PORT`] and sends one [`StreamHello`] frame; raw bytes follow, one way. A
//!   connection for the image's command may arrive before there is one and waits for it; another
//!   process has to have started. The end of the stream is the shutdown of the writing half; the reader then closes, so the writer of the last
//!   byte knows that it arrived.
//!
//! A process is the image's command, a command that joins it in the container, or a [`Task`]: work
//! of the agent's own on the container's files, in a process of its own whose input and output are
//! streams like any other's. What goes wrong in a task is one line on its stderr.
//!
//! The disks can be had without the command ([`ToAgent::Hold`]): that is how the host gets at the
//! files of a stopped container, since it never mounts what a guest could write.
//!
//! The host trusts no byte of it: a frame is bounded by [`MAX_FRAME`] before it is allocated, and
//! every decoding fault is an error that ends the connection.
//!
//! **The order of enum variants and of struct fields is the wire format**: append only, and raise
//! [`VERSION`] when the meaning of something old changes.

mod changes;
mod frame;
mod paths;
mod spec;
mod stats;

pub use changes::{Change, ChangeKind};
pub use frame::{FrameError, decode, encode, read_frame, write_frame};
pub use paths::{PathAnswer, PathStat};
pub use spec::{ContainerSpec, HoldSpec, Limit, ProcessSpec, Task, Tmpfs, Work};
pub use stats::{GuestStats, MAX_COMMAND_LINE, MAX_LISTED, ProcessEntry};

use serde::{Deserialize, Serialize};

/// Version of this protocol; host and agent refuse each other when it differs.
pub const VERSION: u32 = 3;

/// Host vsock port that the agent dials once when it is ready.
pub const CONTROL_PORT: u32 = 1024;

/// Guest vsock port where the agent accepts stream connections.
pub const STREAM_PORT: u32 = 1025;

/// Largest encoded message in bytes, without its 4-byte length.
pub const MAX_FRAME: usize = 1 << 20;

/// Most processes beside the image's command that exist at once.
pub const MAX_PROCESSES: usize = 512;

/// A process in the container, named by the host. The image's command is [`ProcessId::INIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ProcessId(pub u32);

impl ProcessId {
    /// The image's command: PID 1 of the container.
    pub const INIT: Self = Self(0);
}

/// Asked by the host on the control connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToAgent {
    /// First message on the connection; the agent answers with its own [`FromAgent::Hello`].
    Hello { version: u32 },
    /// Sets up the container and starts its command; once per VM, and not after
    /// [`ToAgent::Hold`]. Answered by [`FromAgent::Started`] or [`FromAgent::StartFailed`] for
    /// [`ProcessId::INIT`].
    Start(Box<ContainerSpec>),
    /// Sends a signal (1–64) to a process. Not answered; no error if the process has ended.
    Signal { process: ProcessId, signal: u8 },
    /// Sets the window size of the process's terminal. Not answered; ignored without one.
    Resize { process: ProcessId, size: WindowSize },
    /// Starts another process, under a number that has not been used before. Answered by
    /// [`FromAgent::Started`] or [`FromAgent::StartFailed`], and in its time by
    /// [`FromAgent::Exited`].
    Exec { process: ProcessId, work: Box<Work> },
    /// Freezes every process of the container, or lets them go on. Answered by
    /// [`FromAgent::Frozen`] when that is so.
    Freeze(bool),
    /// The time in nanoseconds since 1970, sent when the guest may have missed some. Not answered.
    SetClock(u64),
    /// Makes the container's files ready for tasks, without starting its command; in place of
    /// [`ToAgent::Start`]. Answered by [`FromAgent::Started`] or [`FromAgent::StartFailed`] for
    /// [`ProcessId::INIT`].
    Hold(HoldSpec),
    /// Ends what [`ToAgent::Hold`] began. Answered by [`FromAgent::Unmounted`].
    Release,
}

/// Answered, or told on its own account, by the agent on the control connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromAgent {
    /// Answer to [`ToAgent::Hello`].
    Hello { version: u32 },
    /// The process runs: its `execve` succeeded, or its task has begun.
    Started { process: ProcessId },
    /// The process could not be started; nothing of it runs.
    StartFailed { process: ProcessId, reason: StartFailure, message: String },
    /// The process ended and, for [`ProcessId::INIT`], every other process of the container with
    /// it. Sent at once; output that is still in flight arrives on the streams.
    Exited { process: ProcessId, status: ExitStatus },
    /// After `Exited` of [`ProcessId::INIT`], unless the container is ephemeral: the writable disk
    /// is synced and unmounted; the VM may end.
    Unmounted,
    /// Answer to [`ToAgent::Freeze`]: whether every process of the container is frozen now.
    Frozen(bool),
}

/// Why a process did not start; decides the exit status of `vmrun run` and `vmrun exec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartFailure {
    /// The command does not exist: 127.
    NotFound,
    /// The command exists and cannot be executed: 126.
    NotExecutable,
    /// Anything else, such as an unknown user: 125.
    Setup,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    pub cause: ExitCause,
    /// The guest's OOM killer struck inside the container while it ran.
    pub oom_killed: bool,
}

/// Exit code or terminating signal of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitCause {
    Code(u8),
    Signal(u8),
}

impl ExitCause {
    /// The exit status as a shell gives it: the code, or 128 plus the signal.
    #[must_use]
    pub fn shell_status(self) -> u8 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => signal.saturating_add(128),
        }
    }
}

/// A terminal's size in character cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowSize {
    pub rows: u16,
    pub columns: u16,
}

/// First frame on a stream connection, sent by the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamHello {
    pub version: u32,
    pub process: ProcessId,
    pub stream: Stream,
}

/// One of a process's standard streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Stream {
    Stdin,
    Stdout,
    Stderr,
}
