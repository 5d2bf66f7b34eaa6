//! The container's root and its kernel file systems, mounted as Docker mounts them. Everything here
//! runs in the child, in its own mount namespace. Mounts are private in it, as they are in the
//! guest from its boot on: nothing has ever made one shared.

use std::ffi::CString;

use agent_protocol::ContainerSpec;
use rustix::ffi::CStr;
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{self, Errno, write};
use rustix::mount::{
    MountFlags, UnmountFlags, mount, mount_bind_recursive, mount_remount, unmount,
};
use rustix::process::{chdir, pivot_root};

use super::paths::make_directories;
use crate::boot::mounts::MERGED;

/// Kernel files that say or do too much: hidden, whether file or directory.
const MASKED: &[&CStr] = &[
    c"/proc/acpi",
    c"/proc/asound",
    c"/proc/interrupts",
    c"/proc/kcore",
    c"/proc/keys",
    c"/proc/latency_stats",
    c"/proc/sched_debug",
    c"/proc/scsi",
    c"/proc/timer_list",
    c"/proc/timer_stats",
    c"/sys/devices/virtual/powercap",
    c"/sys/firmware",
];

/// Kernel files that may only be read.
const READ_ONLY: &[&CStr] =
    &[c"/proc/bus", c"/proc/fs", c"/proc/irq", c"/proc/sys", c"/proc/sysrq-trigger"];

/// Network settings of every container: binding to low ports and sending pings need no capability.
const NETWORK_LIMITS: &[(&CStr, &[u8])] = &[
    (c"/proc/sys/net/ipv4/ip_unprivileged_port_start", b"0"),
    (c"/proc/sys/net/ipv4/ping_group_range", b"0 2147483647"),
];

#[derive(Debug, thiserror::Error)]
pub(super) enum RootfsError {
    #[error("cannot enter the container's root")]
    Enter(#[source] Errno),
    #[error("cannot mount {target} in the container")]
    Mount {
        target: String,
        #[source]
        cause: Errno,
    },
    #[error("cannot make {path} in the container")]
    Make {
        path: String,
        #[source]
        cause: Errno,
    },
    #[error("cannot protect {path} from the container")]
    Protect {
        path: String,
        #[source]
        cause: Errno,
    },
}

/// A kernel file system of the container.
struct KernelMount {
    kind: &'static CStr,
    target: &'static CStr,
    flags: MountFlags,
    data: &'static CStr,
}

const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Shared memory, whose size is the container's own.
const SHM: &CStr = c"/dev/shm";

const MOUNTS: &[KernelMount] = &[
    KernelMount { kind: c"proc", target: c"/proc", flags: QUIET, data: c"" },
    KernelMount {
        kind: c"tmpfs",
        target: c"/dev",
        flags: MountFlags::NOSUID.union(MountFlags::STRICTATIME),
        data: c"mode=755,size=65536k",
    },
    KernelMount {
        kind: c"devpts",
        target: c"/dev/pts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        data: c"newinstance,ptmxmode=0666,mode=0620,gid=5",
    },
    KernelMount { kind: c"tmpfs", target: SHM, flags: QUIET, data: c"mode=1777" },
    KernelMount { kind: c"mqueue", target: c"/dev/mqueue", flags: QUIET, data: c"" },
    KernelMount {
        kind: c"sysfs",
        target: c"/sys",
        flags: QUIET.union(MountFlags::RDONLY),
        data: c"",
    },
    KernelMount {
        kind: c"cgroup2",
        target: c"/sys/fs/cgroup",
        flags: QUIET.union(MountFlags::RDONLY),
        data: c"nsdelegate",
    },
];

/// Makes the overlay the root and drops everything of the agent's view.
pub(super) fn enter() -> Result<(), RootfsError> {
    chdir(MERGED)
        // With both the same, the old root ends up on top of the new one, and is taken off there.
        .and_then(|()| pivot_root(c".", c"."))
        .and_then(|()| unmount(c".", UnmountFlags::DETACH))
        .and_then(|()| chdir(c"/"))
        .map_err(RootfsError::Enter)
}

/// Mounts the kernel's file systems; a privileged container may write to all of them.
pub(super) fn mount_all(spec: &ContainerSpec) -> Result<(), RootfsError> {
    for KernelMount { kind, target, flags, data } in MOUNTS {
        let shm = CString::new(format!("mode=1777,size={}", spec.shm_bytes)).unwrap_or_default();
        let data = if *target == SHM { shm.as_c_str() } else { data };
        let flags = if spec.privileged { *flags - MountFlags::RDONLY } else { *flags };
        let mounted = match mount(*kind, *target, *kind, flags, data) {
            Err(Errno::NOENT) => {
                make_directories(target.to_bytes()).map_err(|cause| make_error(target, cause))?;
                mount(*kind, *target, *kind, flags, data)
            }
            mounted => mounted,
        };
        mounted.map_err(|cause| RootfsError::Mount { target: text(target), cause })?;
    }
    Ok(())
}

/// Makes the root read-only, as far as it is the image and its writable layer.
pub(super) fn make_root_read_only() -> Result<(), RootfsError> {
    mount_remount(c"/", MountFlags::BIND | MountFlags::RDONLY, c"")
        .map_err(|cause| RootfsError::Protect { path: "/".into(), cause })
}

/// Sets what Docker sets; a kernel without a setting has nothing to relax.
pub(super) fn set_network_limits() {
    for (path, value) in NETWORK_LIMITS {
        if let Ok(file) = open(*path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
            let _ = write(file, value);
        }
    }
}

/// Makes kernel files read-only, or hides them.
pub(super) fn protect_kernel_files() -> Result<(), RootfsError> {
    let protect = |path: &CStr, result: io::Result<()>| match result {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(cause) => Err(RootfsError::Protect { path: text(path), cause }),
    };
    READ_ONLY.iter().try_for_each(|path| protect(path, make_read_only(path)))?;
    MASKED.iter().try_for_each(|path| protect(path, mask(path)))
}

fn make_read_only(path: &CStr) -> io::Result<()> {
    mount_bind_recursive(path, path)?;
    mount_remount(path, MountFlags::BIND | MountFlags::RDONLY | QUIET, c"")
}

fn mask(path: &CStr) -> io::Result<()> {
    match rustix::mount::mount_bind(c"/dev/null", path) {
        Err(Errno::NOTDIR) => mount(c"tmpfs", path, c"tmpfs", MountFlags::RDONLY, c""),
        masked => masked,
    }
}

pub(super) fn make_error(path: &CStr, cause: Errno) -> RootfsError {
    RootfsError::Make { path: text(path), cause }
}

pub(super) fn text(path: &CStr) -> String {
    path.to_string_lossy().into_owned()
}
