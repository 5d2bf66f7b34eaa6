//! `clone3` as a fork: a copy of the agent that goes its own way and never comes back.

use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::serial::exit;

/// libc's constant of that name does not fit its type.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Flags of `clone3` that give a child new namespaces.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Namespaces(u64);

impl Namespaces {
    /// Those of a container. Its cgroup namespace is not among them: made here it would be rooted at
    /// the parent's cgroup, so the child makes it itself. The network is the guest's own.
    pub(crate) const CONTAINER: Self = Self(
        (libc::CLONE_NEWPID | libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC) as u64,
    );
}

/// A process that the agent made.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) pid: Pid,
    /// Refers to the process even after its pid has been used again.
    pub(crate) pidfd: OwnedFd,
}

impl Child {
    /// Ends the process, if it still lives.
    pub(crate) fn kill(&self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

/// Forks a process into `namespaces`, and into `cgroup` if given, and runs `body` in it; what
/// that gives is the process's exit status.
pub(crate) fn fork(
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce() -> i32,
) -> io::Result<Child> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: an all-zero `clone_args` is a valid value of that plain C struct.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = namespaces.0 | flag(libc::CLONE_PIDFD);
    args.pidfd = (&raw mut pidfd).expose_provenance() as u64;
    args.exit_signal = u64::from(libc::SIGCHLD.unsigned_abs());
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // SAFETY: without CLONE_VM and with no stack given this is a fork: the child has its own copy
    // of memory and descriptors. The agent has one thread (see the crate's documentation), so no
    // lock in the copy is held by a thread that is not there. `args` is whole and of the size
    // given, and `pidfd` outlives the call.
    let pid = unsafe {
        libc::syscall(libc::SYS_clone3, &raw mut args, const { size_of::<libc::clone_args>() })
    };
    if pid == 0 {
        exit(body())
    }
    // A pid is at most 2^22; what is not a positive `i32` is -1.
    match i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|_| pid > 0) {
        Some(pid) => {
            // SAFETY: the call succeeded and so has stored a new descriptor, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid, pidfd })
        }
        None => Err(crate::last_error()),
    }
}

/// Forks a process into the pid namespace of the one that `of` refers to, which must still live.
pub(crate) fn fork_beside(
    of: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
    body: impl FnOnce() -> i32,
) -> io::Result<Child> {
    let own = pidfd_open(getpid(), PidfdFlags::empty())?;
    // This decides about children only; the agent itself stays where it is.
    move_into_thread_name_spaces(of, ThreadNameSpaceType::PROCESS_ID)?;
    let child = fork(Namespaces::default(), Some(cgroup), body);
    move_into_thread_name_spaces(own.as_fd(), ThreadNameSpaceType::PROCESS_ID)?;
    child
}

fn flag(flag: libc::c_int) -> u64 {
    u64::from(flag.unsigned_abs())
}
