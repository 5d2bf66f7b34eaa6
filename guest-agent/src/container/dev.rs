//! The device nodes and links of the container's `/dev`, which `rootfs` has mounted empty.

use rustix::ffi::CStr;
use rustix::fs::{CWD, FileType, Mode, access, makedev, mknodat, symlink};
use rustix::io::Errno;

use super::rootfs::{RootfsError, make_error};

/// Character devices: name, major, minor; all mode 0666. `device_filter` must allow them.
pub(super) const NODES: &[(&CStr, u32, u32)] = &[
    (c"/dev/null", 1, 3),
    (c"/dev/zero", 1, 5),
    (c"/dev/full", 1, 7),
    (c"/dev/random", 1, 8),
    (c"/dev/urandom", 1, 9),
    (c"/dev/tty", 5, 0),
];

const LINKS: &[(&CStr, &CStr)] = &[
    (c"pts/ptmx", c"/dev/ptmx"),
    (c"/proc/self/fd", c"/dev/fd"),
    (c"/proc/self/fd/0", c"/dev/stdin"),
    (c"/proc/self/fd/1", c"/dev/stdout"),
    (c"/proc/self/fd/2", c"/dev/stderr"),
];

const CORE: &CStr = c"/proc/kcore";

/// Makes nodes and links.
pub(super) fn populate() -> Result<(), RootfsError> {
    for (path, major, minor) in NODES {
        let mode = Mode::from_bits_retain(0o666);
        mknodat(CWD, *path, FileType::CharacterDevice, mode, makedev(*major, *minor))
            .map_err(|cause| make_error(path, cause))?;
    }
    for (target, path) in LINKS {
        symlink(*target, *path).map_err(|cause| make_error(path, cause))?;
    }
    match access(CORE, rustix::fs::Access::EXISTS) {
        Ok(()) => symlink(CORE, c"/dev/core").map_err(|cause| make_error(c"/dev/core", cause)),
        Err(Errno::NOENT) => Ok(()),
        Err(cause) => Err(make_error(c"/dev/core", cause)),
    }
}
