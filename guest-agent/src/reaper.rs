//! Ended child processes: the agent's own (the container's first process, the unmounting helper)
//! and, as the guest's PID 1, every orphan of the guest. The container's own orphans go to its own
//! PID 1.

use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::{mem, ptr};

use agent_protocol::ExitCause;
use rustix::io;
use rustix::process::{Pid, WaitOptions, WaitStatus, wait};

use crate::last_error;

/// Tells of ended children through a descriptor for the agent's loop.
#[derive(Debug)]
pub(crate) struct Reaper {
    signals: OwnedFd,
}

impl Reaper {
    /// Blocks every signal of the process: the loop learns of children from the descriptor, and no
    /// other signal means anything to the agent (`SIGPIPE` least of all).
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: an all-zero `sigset_t` is a valid value of that plain C struct, and the calls
        // are given pointers to such sets that outlive them. `signalfd` returns -1 or a new
        // descriptor, which nobody else owns.
        unsafe {
            let mut all: libc::sigset_t = mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());
            let mut children: libc::sigset_t = mem::zeroed();
            libc::sigaddset(&raw mut children, libc::SIGCHLD);
            let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
            match libc::signalfd(-1, &raw const children, flags) {
                -1 => Err(last_error()),
                signals => Ok(Self { signals: OwnedFd::from_raw_fd(signals) }),
            }
        }
    }

    /// Readable when a child may have ended.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }

    /// Takes away all children that have ended.
    pub(crate) fn reap(&self) -> Vec<(Pid, ExitCause)> {
        // One read empties it: signals of one kind are not counted.
        let mut information = [0; size_of::<libc::signalfd_siginfo>()];
        let _ = io::read(&self.signals, &mut information);
        let mut ended = Vec::new();
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            ended.extend(cause(status).map(|cause| (pid, cause)));
        }
        ended
    }
}

/// How a process ended; `None` if it only stopped.
fn cause(status: WaitStatus) -> Option<ExitCause> {
    let byte = |value: i32| u8::try_from(value).unwrap_or(u8::MAX);
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Some(ExitCause::Code(byte(code))),
        (None, Some(signal)) => Some(ExitCause::Signal(byte(signal))),
        (None, None) => None,
    }
}

/// Undoes in a forked process what [`Reaper::new`] did to the signal mask.
pub(crate) fn unblock_signals() {
    // SAFETY: an all-zero `sigset_t` is the empty set; it outlives the call.
    unsafe {
        let none: libc::sigset_t = mem::zeroed();
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}
