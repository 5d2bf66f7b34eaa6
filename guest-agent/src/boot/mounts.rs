//! The agent's own mounts: device nodes, the two disks, and the overlay of one on the other that
//! becomes the container's root. The container's mounts are `container/rootfs.rs`.
//!
//! ```text
//! /dev      devtmpfs
//! /image    /dev/vda  EROFS, read-only      lower layer
//! /disk     /dev/vdb  ext4                  upper layer in upper/, overlayfs's own in work/
//! /merged   overlay                         the container's root
//! /cgroup   cgroup2                         (`container/cgroup.rs`)
//! /files    empty in the agent's view       (`container/identity_files.rs`)
//! ```
//! The folders lie in the initramfs, which holds nothing else but the agent.

use rustix::ffi::CStr;
use rustix::fs::{Gid, Mode, Uid, chmod, chown, mkdir, stat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_bind};
use rustix::process::{chdir, chroot};

/// Where the image's read-only disk is mounted.
const IMAGE: &CStr = c"/image";
/// Where the writable disk is mounted.
pub(crate) const DISK: &CStr = c"/disk";
/// Where the container's root is assembled.
pub(crate) const MERGED: &CStr = c"/merged";
/// The image's read-only disk.
pub(crate) const IMAGE_DEVICE: &CStr = c"/dev/vda";
/// The writable disk.
pub(crate) const DISK_DEVICE: &CStr = c"/dev/vdb";

const UPPER: &CStr = c"/disk/upper";
const WORK: &CStr = c"/disk/work";

/// Options of the overlay. `redirect_dir` and `metacopy` make renaming a directory of the image and
/// changing an owner or mode cheap; `index` would refuse a disk that was copied to another host.
const OVERLAY: &CStr = c"lowerdir=/image,upperdir=/disk/upper,workdir=/disk/work,\
index=off,redirect_dir=on,metacopy=on,xino=on";

const DIRECTORY: Mode = Mode::from_bits_retain(0o755);

#[derive(Debug, thiserror::Error)]
pub(crate) enum MountError {
    #[error("cannot mount {source_name} on {target}")]
    Mount {
        source_name: String,
        target: String,
        #[source]
        cause: Errno,
    },
    #[error("cannot make {path}")]
    Make {
        path: String,
        #[source]
        cause: Errno,
    },
    #[error("cannot make the agent's root a mount of its own")]
    OwnRoot(#[source] Errno),
}

/// Makes the root a mount that has a parent. The kernel refuses `pivot_root` away from the root it
/// booted with; a bind mount of that root over itself is an ordinary mount, which the container's
/// first process can leave and drop with everything under it.
pub(super) fn enter_own_root() -> Result<(), MountError> {
    // `/..` is the root seen from above, so with what has just been mounted over it; `/` is not.
    mount_bind(c"/", c"/")
        .and_then(|()| chdir(c"/.."))
        .and_then(|()| chroot(c"."))
        .map_err(MountError::OwnRoot)
}

/// Mounts the kernel's device nodes.
pub(super) fn mount_devices() -> Result<(), MountError> {
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount_new(c"devtmpfs", c"/dev", c"devtmpfs", flags, c"mode=0755")
}

/// Mounts the disks and the overlay of them.
pub(super) fn mount_root() -> Result<(), MountError> {
    mount_new(IMAGE_DEVICE, IMAGE, c"erofs", MountFlags::RDONLY | MountFlags::NOATIME, c"")?;
    mount_new(DISK_DEVICE, DISK, c"ext4", MountFlags::NOATIME, c"discard")?;
    make_layer_folders()?;
    mount_new(c"overlay", MERGED, c"overlay", MountFlags::NOATIME, OVERLAY)
}

/// Makes overlayfs's folders on a disk that is used for the first time. The upper folder shows as
/// the container's `/`, so it takes over owner and mode of the image's.
fn make_layer_folders() -> Result<(), MountError> {
    match mkdir(UPPER, DIRECTORY) {
        Err(Errno::EXIST) => return Ok(()),
        made => made.map_err(make_error(UPPER))?,
    }
    let root = stat(IMAGE).map_err(make_error(UPPER))?;
    chown(UPPER, Some(Uid::from_raw(root.st_uid)), Some(Gid::from_raw(root.st_gid)))
        .and_then(|()| chmod(UPPER, Mode::from_raw_mode(root.st_mode & 0o7777)))
        .map_err(make_error(UPPER))?;
    mkdir(WORK, DIRECTORY).map_err(make_error(WORK))
}

/// Mounts a file system on a folder, which is made if it is missing.
pub(crate) fn mount_new(
    source: &CStr,
    target: &CStr,
    kind: &CStr,
    flags: MountFlags,
    data: &CStr,
) -> Result<(), MountError> {
    match mkdir(target, DIRECTORY) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(cause) => return Err(make_error(target)(cause)),
    }
    mount(source, target, kind, flags, data).map_err(|cause| MountError::Mount {
        source_name: source.to_string_lossy().into_owned(),
        target: target.to_string_lossy().into_owned(),
        cause,
    })
}

fn make_error(path: &CStr) -> impl FnOnce(Errno) -> MountError {
    let path = path.to_string_lossy().into_owned();
    move |cause| MountError::Make { path, cause }
}
