//! The container's cgroup: its limits, its devices, its end.
//!
//! The memory limit lies below what the guest has, so that a container that wants too much meets
//! its own limit, where the kernel kills in the container and counts it, and not the end of the
//! guest's memory, where the agent's and the kernel's allocations would fail too.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::ffi::CStr;
use rustix::fs::{CWD, Mode, OFlags, mkdir, openat};
use rustix::io::{self, Errno, read, write};
use rustix::mount::MountFlags;
use rustix::system::sysinfo;

use super::device_filter::{self, FilterError};
use crate::boot::mounts::{IMAGE_DEVICE, MountError, mount_new};

const ROOT: &CStr = c"/cgroup";
const CONTAINER: &CStr = c"/cgroup/container";

/// Kept back from the container, in bytes: what the kernel uses in nobody's name (unaccounted slab,
/// the vsock's buffers, block requests) and the agent itself, together 9 to 10 MiB in an idle guest
/// of 64 to 256 MiB; and a part that grows with the guest, as its watermarks do.
const RESERVE: u64 = 12 << 20;
const RESERVE_SHARE: u64 = 64;

/// Longest cgroup file that is read.
const MAX_FILE: usize = 4096;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CgroupError {
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error("cannot set the container's cgroup up: {file}")]
    Setup {
        file: &'static str,
        #[source]
        cause: Errno,
    },
    #[error(transparent)]
    Devices(#[from] FilterError),
}

fn setup(file: &'static str) -> impl FnOnce(Errno) -> CgroupError {
    move |cause| CgroupError::Setup { file, cause }
}

/// The cgroup that the container's first process is born into.
#[derive(Debug)]
pub(crate) struct ContainerCgroup {
    directory: OwnedFd,
}

impl ContainerCgroup {
    /// Mounts the hierarchy and makes the cgroup in it, with every controller the kernel has.
    pub(crate) fn create() -> Result<Self, CgroupError> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount_new(c"cgroup2", ROOT, c"cgroup2", flags, c"nsdelegate")?;
        let root = open_directory(ROOT).map_err(setup("/cgroup"))?;
        let controllers =
            read_file(&root, c"cgroup.controllers").map_err(setup("cgroup.controllers"))?;
        write_file(&root, c"cgroup.subtree_control", &enable(&controllers))
            .map_err(setup("cgroup.subtree_control"))?;

        mkdir(CONTAINER, Mode::from_bits_retain(0o755)).map_err(setup("/cgroup/container"))?;
        let directory = open_directory(CONTAINER).map_err(setup("/cgroup/container"))?;
        let limit = memory_limit(total_memory()).to_string();
        write_file(&directory, c"memory.max", limit.as_bytes()).map_err(setup("memory.max"))?;
        device_filter::attach(directory.as_fd(), IMAGE_DEVICE)?;
        Ok(Self { directory })
    }

    /// Limits the processes and threads in it.
    pub(crate) fn limit_processes(&self, most: u64) -> io::Result<()> {
        write_file(&self.directory, c"pids.max", most.to_string().as_bytes())
    }

    /// The container's cgroup, once more.
    pub(crate) fn reopen() -> io::Result<OwnedFd> {
        open_directory(CONTAINER)
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Readable with priority when [`Self::is_frozen`] may have changed.
    pub(crate) fn events(&self) -> io::Result<OwnedFd> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        openat(&self.directory, c"cgroup.events", flags, Mode::empty())
    }

    /// Begins to freeze every process in it, or to let them go on.
    pub(crate) fn freeze(&self, frozen: bool) -> io::Result<()> {
        write_file(&self.directory, c"cgroup.freeze", if frozen { b"1" } else { b"0" })
    }

    /// Whether every process in it is frozen.
    pub(crate) fn is_frozen(&self) -> bool {
        read_file(&self.directory, c"cgroup.events")
            .is_ok_and(|events| events.split(|byte| *byte == b'\n').any(|line| line == b"frozen 1"))
    }

    /// Kills every process in it.
    pub(crate) fn kill(&self) -> io::Result<()> {
        write_file(&self.directory, c"cgroup.kill", b"1")
    }

    /// Whether the OOM killer has struck in it. The kernel counts every victim here, also one of
    /// the whole guest's running out of memory.
    pub(crate) fn oom_killed(&self) -> bool {
        read_file(&self.directory, c"memory.events").is_ok_and(|events| counts_oom_kill(&events))
    }
}

fn counts_oom_kill(events: &[u8]) -> bool {
    events
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.strip_prefix(b"oom_kill "))
        .any(|count| count != b"0")
}

/// Turns `cpu io memory` into `+cpu +io +memory`.
fn enable(controllers: &[u8]) -> Vec<u8> {
    controllers
        .split(u8::is_ascii_whitespace)
        .filter(|name| !name.is_empty())
        .flat_map(|name| [b" +", name].concat())
        .collect()
}

fn total_memory() -> u64 {
    let info = sysinfo();
    let unit = u64::from(info.mem_unit.max(1));
    info.totalram.saturating_mul(unit)
}

/// The container's limit in a guest of `total` bytes; never less than half of that.
fn memory_limit(total: u64) -> u64 {
    let reserve = RESERVE.saturating_add(total / RESERVE_SHARE);
    total.saturating_sub(reserve).max(total / 2)
}

fn open_directory(path: &CStr) -> io::Result<OwnedFd> {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn write_file(directory: &OwnedFd, name: &CStr, value: &[u8]) -> io::Result<()> {
    let file = openat(directory, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    write(file, value).map(drop)
}

fn read_file(directory: &OwnedFd, name: &CStr) -> io::Result<Vec<u8>> {
    let file = openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut contents = vec![0; MAX_FILE];
    let length = read(file, &mut *contents)?;
    contents.truncate(length);
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_controllers_are_enabled() {
        assert_eq!(enable(b"cpuset cpu io\n"), b" +cpuset +cpu +io");
        assert_eq!(enable(b"\n"), b"");
    }

    #[test]
    fn memory_limit_leaves_a_reserve() {
        const MIB: u64 = 1 << 20;
        assert_eq!(memory_limit(256 * MIB), 240 * MIB);
        assert_eq!(memory_limit(8192 * MIB), (8192 - 128 - 12) * MIB);
        assert_eq!(memory_limit(10 * MIB), 5 * MIB);
        assert_eq!(memory_limit(u64::MAX), u64::MAX - u64::MAX / 64 - 12 * MIB);
    }

    #[test]
    fn oom_kills_are_counted_from_one() {
        assert!(!counts_oom_kill(b"oom 3\noom_kill 0\noom_group_kill 1\n"));
        assert!(counts_oom_kill(b"oom 3\noom_kill 12\n"));
        assert!(!counts_oom_kill(b""));
    }
}
