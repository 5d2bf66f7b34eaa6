//! Each try runs in a child process of its own, under the filter of one kind of thread.

use super::*;

/// How a child ended that ran `attempt` under the filter of `kind`: the signal that killed it, or 0.
fn signal_after(kind: ThreadKind, attempt: fn()) -> i32 {
    // The filter allows to signal the process that compiled it, so the child compiles its own:
    // allocation after a fork is fine with glibc.
    // SAFETY: the child runs only this closure's calls and ends with _exit; it touches no lock that
    // another test's thread may have held at the fork, the allocator's apart, which glibc resets.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let code = i32::from(filter_thread(kind).is_err());
        if code == 0 {
            attempt();
        }
        // SAFETY: ends this process at once.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: `child` is ours and not waited for elsewhere; the status is a valid place.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    if libc::WIFSIGNALED(status) {
        libc::WTERMSIG(status)
    } else {
        assert_eq!(libc::WEXITSTATUS(status), 0, "the filter could not be installed");
        0
    }
}

fn syscall(number: c_long, arguments: [u64; 4]) {
    let [a, b, c, d] = arguments;
    // SAFETY: the tests pass only null pointers and invalid descriptors: the kernel writes nothing.
    unsafe { libc::syscall(number, a, b, c, d) };
}

const ESCAPES: [(&str, fn()); 9] = [
    ("open", || syscall(libc::SYS_open, [0; 4])),
    ("openat", || syscall(libc::SYS_openat, [0; 4])),
    ("socket", || syscall(libc::SYS_socket, [1, 1, 0, 0])),
    ("connect", || syscall(libc::SYS_connect, [u64::MAX, 0, 0, 0])),
    ("execve", || syscall(libc::SYS_execve, [0; 4])),
    ("clone", || syscall(libc::SYS_clone, [u64::MAX, 0, 0, 0])),
    ("ptrace", || syscall(libc::SYS_ptrace, [u64::MAX, 0, 0, 0])),
    ("kill of another", || syscall(libc::SYS_tgkill, [1, 1, 0, 0])),
    ("executable memory", || syscall(libc::SYS_mprotect, [0, 0, 5, 0])),
];

#[test]
fn no_kind_of_thread_escapes() {
    for kind in ThreadKind::ALL {
        for (name, attempt) in ESCAPES {
            assert_eq!(signal_after(kind, attempt), libc::SIGSYS, "{name} on {kind:?}");
        }
    }
}

#[test]
fn every_kind_of_thread_may_allocate_and_write() {
    for kind in ThreadKind::ALL {
        let signal = signal_after(kind, || {
            let bytes = vec![1_u8; 1 << 22];
            drop(bytes);
            syscall(libc::SYS_write, [u64::MAX, 0, 0, 0]);
        });
        assert_eq!(signal, 0, "{kind:?}");
    }
}

#[test]
fn only_vcpus_reach_kvm_and_only_to_run() {
    const KVM_CREATE_VM: u64 = 0xae01;
    let run: fn() = || syscall(libc::SYS_ioctl, [u64::MAX, KVM_RUN, 0, 0]);
    let create: fn() = || syscall(libc::SYS_ioctl, [u64::MAX, KVM_CREATE_VM, 0, 0]);
    assert_eq!(signal_after(ThreadKind::Vcpu, run), 0);
    assert_eq!(signal_after(ThreadKind::Vcpu, create), libc::SIGSYS);
    assert_eq!(signal_after(ThreadKind::Block, run), libc::SIGSYS);
    assert_eq!(signal_after(ThreadKind::Main, run), libc::SIGSYS);
    let tell_of_pause: fn() = || syscall(libc::SYS_ioctl, [u64::MAX, KVM_KVMCLOCK_CTRL, 0, 0]);
    assert_eq!(signal_after(ThreadKind::Vcpu, tell_of_pause), 0);
    assert_eq!(signal_after(ThreadKind::Main, tell_of_pause), libc::SIGSYS);
}

#[test]
fn disks_punch_holes_but_never_grow() {
    let punch: fn() = || syscall(libc::SYS_fallocate, [u64::MAX, PUNCH_HOLE, 0, 1]);
    let grow: fn() = || syscall(libc::SYS_fallocate, [u64::MAX, 0, 0, 1]);
    assert_eq!(signal_after(ThreadKind::Block, punch), 0);
    assert_eq!(signal_after(ThreadKind::Block, grow), libc::SIGSYS);
    assert_eq!(signal_after(ThreadKind::Plain, punch), libc::SIGSYS);
}

#[test]
fn memory_is_given_back_and_no_other_advice_taken() {
    let give_back: fn() = || syscall(libc::SYS_madvise, [0, 0, 4, 0]);
    // MADV_REMOVE, which punches holes into files, and MADV_HWPOISON.
    let attempts: [fn(); 2] = [
        || syscall(libc::SYS_madvise, [0, 0, 9, 0]),
        || syscall(libc::SYS_madvise, [0, 0, 100, 0]),
    ];
    for kind in ThreadKind::ALL {
        assert_eq!(signal_after(kind, give_back), 0, "{kind:?}");
        for attempt in attempts {
            assert_eq!(signal_after(kind, attempt), libc::SIGSYS, "{kind:?}");
        }
    }
}

#[test]
fn an_abort_still_works() {
    // SAFETY: ends the child.
    let abort: fn() = || unsafe { libc::abort() };
    assert_eq!(signal_after(ThreadKind::Vcpu, abort), libc::SIGABRT);
}
