//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`: files of a tmpfs, mounted over the image's.
//! So nothing of them gets into the writable layer but, where the image has no such file, an empty
//! one to mount on. Beside them, a link: `/etc/mtab`.

use std::os::fd::OwnedFd;

use agent_protocol::ContainerSpec;
use rustix::ffi::CStr;
use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, Timespec, Timestamps, open, stat, symlink, utimensat,
};
use rustix::io::{self, Errno, write};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use super::paths::file_mount_point;
use super::rootfs::{RootfsError, make_error, text};
use crate::boot::mounts::mount_new;

/// Where the tmpfs is mounted while the agent's view is still there.
const FILES: &CStr = c"/files";

const ETC: &CStr = c"/etc";
const MTAB: &CStr = c"/etc/mtab";
const MOUNTS: &CStr = c"/proc/mounts";

/// For old programs, as Docker makes it, unless the image has something there. The folder keeps its
/// times: an image made of the container has no such link, and its containers get it again.
fn make_mtab() -> io::Result<()> {
    let before = stat(ETC)?;
    match symlink(MOUNTS, MTAB) {
        Err(Errno::EXIST) => return Ok(()),
        made => made?,
    }
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        // Below a thousand million, so it fits.
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    let times = Timestamps {
        last_access: time(before.st_atime, before.st_atime_nsec),
        last_modification: time(before.st_mtime, before.st_mtime_nsec),
    };
    utimensat(CWD, ETC, &times, AtFlags::empty())
}

/// The files, ready to be mounted but nowhere yet.
#[derive(Debug)]
pub(super) struct IdentityFiles {
    mounts: [(&'static CStr, OwnedFd); 3],
}

impl IdentityFiles {
    /// Writes the files; to be called before the agent's view is left.
    pub(super) fn create(spec: &ContainerSpec) -> Result<Self, RootfsError> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount_new(c"tmpfs", FILES, c"tmpfs", flags, c"mode=755,size=65536k")
            .map_err(|_| RootfsError::Mount { target: text(FILES), cause: Errno::IO })?;
        let hostname = format!("{}\n", spec.hostname);
        let prepare = |source: &'static CStr, target: &'static CStr, contents: &str| {
            let tree = write_file(source, contents).map_err(|cause| make_error(target, cause))?;
            Ok::<_, RootfsError>((target, tree))
        };
        Ok(Self {
            mounts: [
                prepare(c"/files/resolv.conf", c"/etc/resolv.conf", &spec.resolv_conf)?,
                prepare(c"/files/hostname", c"/etc/hostname", &hostname)?,
                prepare(c"/files/hosts", c"/etc/hosts", &spec.hosts)?,
            ],
        })
    }

    /// Mounts them in the container's root.
    pub(super) fn mount(self) -> Result<(), RootfsError> {
        for (target, tree) in self.mounts {
            let place =
                file_mount_point(target.to_bytes()).map_err(|cause| make_error(target, cause))?;
            let flags =
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
            move_mount(tree, c"", place, c"", flags)
                .map_err(|cause| RootfsError::Mount { target: text(target), cause })?;
        }
        make_mtab().map_err(|cause| make_error(MTAB, cause))
    }
}

/// Writes a file and gives a mount of it alone.
fn write_file(path: &CStr, contents: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::from_bits_retain(0o644))?;
    let mut rest = contents.as_bytes();
    while !rest.is_empty() {
        let count = write(&file, rest)?;
        rest = rest.get(count..).unwrap_or_default();
    }
    open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)
}
