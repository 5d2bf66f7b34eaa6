//! What the agent is told to set up and run.

use serde::{Deserialize, Serialize};

use crate::WindowSize;

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
    /// The container's root is mounted read-only.
    pub read_only: bool,
    /// Size of `/dev/shm` in bytes.
    pub shm_bytes: u64,
    /// File systems in memory, in the order in which they are mounted.
    pub tmpfs: Vec<Tmpfs>,
    /// Resource limits of every process, in place of the agent's own.
    pub limits: Vec<Limit>,
    /// Kernel settings (`net.core.somaxconn`) and their values.
    pub sysctls: Vec<(String, String)>,
    /// Capabilities that the container's root has, a bit each by the kernel's numbers.
    pub capabilities: u64,
    /// Nothing of the kernel's file systems is hidden or read-only.
    pub privileged: bool,
    /// Most processes and threads in the container.
    pub pids_max: Option<u64>,
    /// Its processes can gain no privileges by what they execute.
    pub no_new_privileges: bool,
}

/// A file system in memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Where it is mounted in the container; made if it is missing.
    pub target: Vec<u8>,
    /// Options of `mount`, separated by commas, such as `size=64m,mode=1777,exec`.
    pub options: String,
}

/// A resource limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// The kernel's number of the resource (`RLIMIT_NOFILE` is 7).
    pub resource: u8,
    /// In the unit of the resource; none for no limit.
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// What the agent needs to make a container's files ready without starting its command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldSpec {
    /// See [`ContainerSpec::entropy`].
    pub entropy: Vec<u8>,
    /// See [`ContainerSpec::grow_disk`].
    pub grow_disk: bool,
}

/// What a process is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Work {
    /// Joins the running container and becomes a command.
    Command(ProcessSpec),
    /// Does work of the agent's own. Its stdin is open where the task says that it reads.
    Task(Task),
}

/// Work of the agent's own on the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Task {
    /// Writes one frame: what a path in the container is, a [`crate::PathAnswer`].
    Stat { path: Vec<u8> },
    /// Writes a tar archive of a path in the container.
    Archive { path: Vec<u8> },
    /// Reads a tar archive and unpacks it into a folder of the container.
    Extract { folder: Vec<u8> },
    /// Writes a frame for each path that the container changed, a [`crate::Change`].
    Changes,
    /// Writes what the container changed as a layer of an image, a tar archive.
    Layer,
    /// Writes one frame: what the container uses, a [`crate::GuestStats`].
    Stats,
    /// Writes a frame for each process of the container, a [`crate::ProcessEntry`].
    Processes,
}

impl Task {
    /// Whether the task reads its stdin.
    #[must_use]
    pub fn reads(&self) -> bool {
        matches!(self, Self::Extract { .. })
    }
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
    /// More groups, by name or number.
    pub groups: Vec<String>,
    /// A terminal of this size is stdin, stdout and stderr of the process; then its output comes on
    /// [`crate::Stream::Stdout`] alone.
    pub terminal: Option<WindowSize>,
    /// Whether a connection for [`crate::Stream::Stdin`] will come; `/dev/null` otherwise.
    pub stdin: bool,
    /// Whether connections for the output will come; `/dev/null` otherwise.
    pub output: bool,
}
