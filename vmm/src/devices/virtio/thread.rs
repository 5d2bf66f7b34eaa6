//! The threads that devices ask the VM for.

use std::fmt;

/// A thread that must run for a device to work. The VM spawns it before it locks itself in.
pub struct DeviceThread {
    /// At most 15 bytes, as Linux shows it.
    pub name: String,
    /// Decides what the thread may do.
    pub kind: ThreadKind,
    /// Runs until the device is dropped.
    pub body: Box<dyn FnOnce() + Send>,
}

impl fmt::Debug for DeviceThread {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DeviceThread")
            .field("name", &self.name)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// Kinds of device threads, each with the system calls that its body makes once it runs.
///
/// All kinds: `futex` (locks, condition variables), `read` and `write` on eventfds (kicks,
/// interrupts), `clock_gettime` where the vDSO cannot answer, and what the allocator and the end
/// of a thread need: `brk`, `mmap`, `mremap`, `munmap`, `mprotect`, `madvise`, `sigaltstack`,
/// `rt_sigprocmask`, `close`, `exit`. None opens, connects, or executes anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThreadKind {
    /// `preadv`, `pwritev`, `fdatasync`, and `fallocate` with
    /// `FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE` or `FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE`.
    Block,
    /// `epoll_wait`, `epoll_ctl`, `accept4`, `recvmsg`, `recvfrom`, `sendmsg`, `sendto`,
    /// `shutdown`, `close`.
    Vsock,
    /// `getrandom`, and `madvise` with `MADV_DONTNEED`, which all threads may.
    Plain,
}
