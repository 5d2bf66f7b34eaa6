//! Locks the process in before the guest runs: a guest that takes over the VMM finds an empty room.
//!
//! What holds once [`crate::Vm::lock`] has returned:
//!
//! - **no_new_privs** and **Landlock** with no rules over every access that the running kernel
//!   knows: no file can be opened, no TCP port bound or connected, no process outside signalled;
//! - **limits**: no core dump, not dumpable and so not traceable by the user's other processes;
//! - **descriptors**: what is open is what the VM was given, else it would not have been built; all
//!   of it is closed on exec;
//! - **seccomp**: a filter of its own for each [`ThreadKind`]. Whatever is not in it kills the
//!   process.
//!
//! # When a system call is denied
//! The process dies of `SIGSYS`; who started it sees that signal. The kernel logs the thread and
//! the number: `dmesg | grep type=1326`, the field `syscall=` (names: `ausyscall NUMBER`). In a
//! development build `strace -f` shows the call as the last one of its thread. The lists are in
//! `seccomp.rs`.
//!
//! What this is not: namespaces and cgroups, which the caller may add around the process.

mod descriptors;
mod landlock;
mod limits;
mod seccomp;
mod threads;

use std::io;

use thiserror::Error;

pub use self::landlock::LandlockReport;
pub use descriptors::DescriptorError;
pub(crate) use descriptors::check_open;
pub(crate) use seccomp::Filters;
pub use seccomp::{SeccompError, ThreadKind, filter_thread};
pub(crate) use threads::{LockedThreads, Starter};

/// What the lock achieved on this host.
#[derive(Clone, Debug)]
pub struct LockReport {
    /// What Landlock holds; nothing on a kernel without it.
    pub landlock: LandlockReport,
    /// Threads with a filter, the calling one included.
    pub threads: usize,
    /// Open descriptors.
    pub descriptors: usize,
}

/// The process could not be locked in; the guest has not run.
#[derive(Debug, Error)]
pub enum LockError {
    #[error("cannot restrict the process with Landlock")]
    Landlock(#[from] ::landlock::RulesetError),
    #[error("cannot lower the limits of the process")]
    Limits(#[source] io::Error),
    #[error("cannot list or close-on-exec the open descriptors")]
    Descriptors(#[source] io::Error),
    #[error("cannot start thread {name}")]
    Spawn { name: String, source: io::Error },
    #[error("cannot install a system call filter")]
    Seccomp(#[from] SeccompError),
    #[error("a thread ended before it was locked in")]
    ThreadLost,
}

/// What Landlock could hold on this host: tried in a thread that ends with it.
///
/// # Errors
/// When the kernel refuses a restriction that it has, or no thread can be started.
pub fn try_landlock() -> Result<LandlockReport, LockError> {
    let spawn = |source| LockError::Spawn { name: "landlock".to_owned(), source };
    let thread = std::thread::Builder::new().spawn(landlock::deny_everything).map_err(spawn)?;
    Ok(thread.join().map_err(|_| LockError::ThreadLost)??)
}

/// First half, before the threads exist: they inherit it.
pub(crate) fn restrict_process() -> Result<(LandlockReport, usize), LockError> {
    let descriptors = descriptors::close_all_on_exec().map_err(LockError::Descriptors)?;
    limits::forbid_dumps().map_err(LockError::Limits)?;
    Ok((landlock::deny_everything()?, descriptors))
}
