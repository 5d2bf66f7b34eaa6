//! System call filters, one a kind of thread. What a filter does not allow kills the process.
//!
//! The lists are short on purpose: no file can be opened, no socket made or connected, no process
//! or thread started, no memory made executable. A call belongs in the list of one kind of thread,
//! with its arguments narrowed where that means something.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Compare,
    SeccompCondition as Condition, SeccompFilter, SeccompRule, TargetArch,
};
use thiserror::Error;

use crate::devices::virtio::ThreadKind as DeviceKind;

/// A filter could not be made or installed.
#[derive(Debug, Error)]
pub enum SeccompError {
    #[error("cannot compile the filter of {kind:?} threads")]
    Compile { kind: ThreadKind, source: seccompiler::BackendError },
    #[error("cannot install the filter of {kind:?} threads")]
    Install { kind: ThreadKind, source: seccompiler::Error },
}

/// Kinds of threads, each with a filter of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ThreadKind {
    /// Waits for orders and for the end of the guest, reports it and exits.
    Main,
    /// Runs a vCPU.
    Vcpu,
    /// Serves a disk.
    Block,
    /// Serves vsock.
    Vsock,
    /// Serves random numbers, or takes free memory of the guest back.
    Plain,
}

impl ThreadKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Main, Self::Vcpu, Self::Block, Self::Vsock, Self::Plain];

    /// System calls of this kind beyond [`for_all_threads`].
    fn calls(self) -> Vec<Call> {
        match self {
            // To wait for orders and for the end, and what the caller needs to tell of that.
            Self::Main => {
                any(&[libc::SYS_ppoll, libc::SYS_fsync, libc::SYS_poll, libc::SYS_nanosleep])
            }
            Self::Vcpu => {
                vec![argument_in(libc::SYS_ioctl, 1, &[KVM_RUN, KVM_GET_REGS, KVM_KVMCLOCK_CTRL])]
            }
            Self::Block => {
                let mut calls = any(&[
                    libc::SYS_preadv,
                    libc::SYS_pwritev,
                    libc::SYS_fdatasync,
                    libc::SYS_nanosleep,
                    libc::SYS_clock_nanosleep,
                ]);
                calls.push(argument_in(libc::SYS_fallocate, 1, &[PUNCH_HOLE, ZERO_RANGE]));
                calls
            }
            Self::Vsock => any(&[
                libc::SYS_epoll_wait,
                libc::SYS_epoll_pwait,
                libc::SYS_epoll_ctl,
                libc::SYS_accept4,
                libc::SYS_recvfrom,
                libc::SYS_recvmsg,
                libc::SYS_sendto,
                libc::SYS_sendmsg,
                libc::SYS_shutdown,
            ]),
            // What all threads have, `getrandom` and `madvise` among it.
            Self::Plain => Vec::new(),
        }
    }
}

impl From<DeviceKind> for ThreadKind {
    fn from(kind: DeviceKind) -> Self {
        match kind {
            DeviceKind::Block => Self::Block,
            DeviceKind::Vsock => Self::Vsock,
            DeviceKind::Plain => Self::Plain,
        }
    }
}

/// `_IO(KVMIO, 0x80)`.
const KVM_RUN: u64 = 0xae80;
/// `_IOR(KVMIO, 0x81, struct kvm_regs)`.
const KVM_GET_REGS: u64 = 0x8090_ae81;
/// `_IO(KVMIO, 0xad)`.
const KVM_KVMCLOCK_CTRL: u64 = 0xaead;
/// `FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE`.
const PUNCH_HOLE: u64 = 0x3;
/// `FALLOC_FL_KEEP_SIZE | FALLOC_FL_ZERO_RANGE`.
const ZERO_RANGE: u64 = 0x11;

/// A system call and the conditions on its arguments, one of which must hold; none for any.
type Call = (c_long, Vec<ArgumentIs>);

/// Argument number `index`, compared as 32 bits.
#[derive(Clone)]
struct ArgumentIs {
    index: u8,
    compare: Compare,
    value: u64,
}

fn any(calls: &[c_long]) -> Vec<Call> {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

fn argument_in(call: c_long, index: u8, values: &[u64]) -> Call {
    let is = |value: &u64| ArgumentIs { index, compare: Compare::Eq, value: *value };
    (call, values.iter().map(is).collect())
}

/// What every thread of a Rust program needs to wait, to allocate and to end.
fn for_all_threads() -> Vec<Call> {
    let mut calls = any(&[
        libc::SYS_futex,
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_close,
        // Clocks, where the vDSO cannot answer, and sleeps interrupted by a signal.
        libc::SYS_clock_gettime,
        libc::SYS_restart_syscall,
        // The allocator.
        libc::SYS_brk,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_sched_getaffinity,
        // Keys of hash maps.
        libc::SYS_getrandom,
        // The end of a thread or of the process, and of a Rust panic.
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_sched_yield,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ]);
    // The allocator and the balloon give memory back; no other advice is taken.
    let unneeded = libc::MADV_DONTNEED.unsigned_abs().into();
    calls.push(argument_in(libc::SYS_madvise, 2, &[unneeded]));
    let executable = u64::from(libc::PROT_EXEC.cast_unsigned());
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        let compare = Compare::MaskedEq(executable);
        calls.push((call, vec![ArgumentIs { index: 2, compare, value: 0 }]));
    }
    if cfg!(debug_assertions) {
        // A development build checks each descriptor that it closes.
        calls.push(argument_in(libc::SYS_fcntl, 1, &[libc::F_GETFD.unsigned_abs().into()]));
    }
    // abort(3) sends SIGABRT to its own process, and the brake signals vCPUs; no other process can
    // be named.
    let own = std::process::id().into();
    calls.push(argument_in(libc::SYS_tgkill, 0, &[own]));
    let abort = u64::from(libc::SIGABRT.cast_unsigned());
    calls.push(argument_in(libc::SYS_rt_sigaction, 0, &[abort]));
    calls
}

/// Compiled filters of all kinds, for this process alone.
#[derive(Debug)]
pub(crate) struct Filters(Vec<(ThreadKind, BpfProgram)>);

impl Filters {
    /// Compiles them all, before the process is locked in.
    pub(crate) fn compile() -> Result<Self, SeccompError> {
        let compiled = ThreadKind::ALL.into_iter().map(|kind| Ok((kind, compile(kind)?)));
        compiled.collect::<Result<_, _>>().map(Self)
    }

    /// Installs the filter of `kind` on the calling thread, for ever.
    pub(crate) fn install(&self, kind: ThreadKind) -> Result<(), SeccompError> {
        let program = self.0.iter().find(|(of, _)| *of == kind).map(|(_, program)| &**program);
        // An empty program is refused.
        seccompiler::apply_filter(program.unwrap_or_default())
            .map_err(|source| SeccompError::Install { kind, source })
    }
}

/// Installs the filter of `kind` on the calling thread, for ever: for a program that tries out what
/// such a thread can do. A VM does it by itself.
///
/// # Errors
/// When the kernel refuses the filter.
pub fn filter_thread(kind: ThreadKind) -> Result<(), SeccompError> {
    let program = compile(kind)?;
    seccompiler::apply_filter(&program).map_err(|source| SeccompError::Install { kind, source })
}

fn compile(kind: ThreadKind) -> Result<BpfProgram, SeccompError> {
    try_compile(kind).map_err(|source| SeccompError::Compile { kind, source })
}

fn try_compile(kind: ThreadKind) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules = BTreeMap::<i64, Vec<SeccompRule>>::new();
    for (call, conditions) in for_all_threads().into_iter().chain(kind.calls()) {
        let alternatives = rules.entry(call).or_default();
        for ArgumentIs { index, compare, value } in conditions {
            let condition = Condition::new(index, Width::Dword, compare, value)?;
            alternatives.push(SeccompRule::new(vec![condition])?);
        }
    }
    SeccompFilter::new(rules, SeccompAction::KillProcess, SeccompAction::Allow, TargetArch::x86_64)?
        .try_into()
}

#[cfg(test)]
mod tests;
