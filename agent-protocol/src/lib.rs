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
//!   connection may arrive before the process it names exists; it waits for it. The end of the
//!   stream is the shutdown of the writing half; the reader then closes, so the writer of the last
//!   byte knows that it arrived.
//!
//! The host trusts no byte of it: a frame is bounded by [`MAX_FRAME`] before it is allocated, and
//! every decoding fault is an error that ends the connection.
//!
//! **The order of enum variants and of struct fields is the wire format**: append only, and raise
//! [`VERSION`] when the meaning of something old changes.

mod changes;
mod frame;
mod paths;

pub use changes::{Change, ChangeKind};
pub use frame::{FrameError, decode, encode, read_frame, write_frame};
pub use paths::{PathAnswer, PathStat};

use serde::{Deserialize, Serialize};

/// Version of this protocol; host and agent refuse each other when it differs.
pub const VERSION: u32 = 1;

/// Host vsock port that the agent dials once when it is ready.
pub const CONTROL_PORT: u32 = 1024;

/// Guest vsock port where the agent accepts stream connections.
pub const STREAM_PORT: u32 = 1025;

/// Largest encoded message in bytes, without its 4-byte length.
pub const MAX_FRAME: usize = 1 << 20;

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
    /// Sets up the container and starts its command; once per VM. Answered by
    /// [`FromAgent::Started`] or [`FromAgent::StartFailed`].
    Start(Box<ContainerSpec>),
    /// Sends a signal (1–64) to a process. Not answered; no error if the process has ended.
    Signal { process: ProcessId, signal: u8 },
    /// Sets the window size of the process's terminal. Not answered; ignored without one.
    Resize { process: ProcessId, size: WindowSize },
}

/// Answered, or told on its own account, by the agent on the control connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromAgent {
    /// Answer to [`ToAgent::Hello`].
    Hello { version: u32 },
    /// The command's `execve` succeeded.
    Started,
    /// The container could not be set up or its command not executed; nothing runs.
    StartFailed { reason: StartFailure, message: String },
    /// The process ended and, for [`ProcessId::INIT`], every other process of the container with
    /// it. Sent at once; output that is still in flight arrives on the streams.
    Exited { process: ProcessId, status: ExitStatus },
    /// After `Exited` of [`ProcessId::INIT`], unless the container is ephemeral: the writable disk
    /// is synced and unmounted; the VM may end.
    Unmounted,
}

/// Why a container did not start; decides the exit status of `vmrun run`.
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

/// Everything the agent needs to set up the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    pub hostname: String,
    /// Contents of `/etc/hosts` in the container.
    pub hosts: String,
    /// Contents of `/etc/resolv.conf` in the container.
    pub resolv_conf: String,
    /// Fresh random bytes from the host, credited to the guest's entropy pool.
    pub entropy: Vec<u8>,
    /// The file system on the writable disk is smaller than the disk: the agent grows it
    /// (`EXT4_IOC_RESIZE_FS`) after mounting it, if it has not been grown before.
    pub grow_disk: bool,
    /// The writable disk is deleted afterwards (`--rm`): it is neither synced nor unmounted.
    pub ephemeral: bool,
    /// The image's command.
    pub process: ProcessSpec,
}

/// A process to start in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Command and arguments, none with a NUL; the command is looked up in the `PATH` of `env`.
    pub args: Vec<Vec<u8>>,
    /// `NAME=value` each, in order, later ones winning; the agent adds `HOME` where it is missing.
    pub env: Vec<Vec<u8>>,
    /// Working directory inside the container; created if missing.
    pub cwd: Vec<u8>,
    /// `name`, `uid`, `name:group`, `uid:gid` and so on, as in an image's config; empty for root.
    pub user: String,
    /// A terminal of this size is stdin, stdout and stderr of the process; then its output comes on
    /// [`Stream::Stdout`] alone.
    pub terminal: Option<WindowSize>,
    /// Whether a connection for [`Stream::Stdin`] will come; `/dev/null` otherwise.
    pub stdin: bool,
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
