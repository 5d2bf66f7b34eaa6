//! What vmrun made in the container's tree to mount on, where the image had nothing, and the link
//! `/etc/mtab`: no change that the container made. Docker makes these in a layer of their own.

use std::fs::{self, Metadata};

use super::{LayerError, Trees, look, names, place};

/// The folders of `container/rootfs.rs` and the files of `container/identity_files.rs`, and the
/// folder that these are in.
const PLACES: &[&[u8]] = &[
    b"/dev",
    b"/dev/pts",
    b"/dev/shm",
    b"/etc",
    b"/etc/hostname",
    b"/etc/hosts",
    MTAB,
    b"/etc/resolv.conf",
    b"/proc",
    b"/sys",
];

const MTAB: &[u8] = b"/etc/mtab";

/// Whether making mount points may have changed the times of a folder of the image.
pub(super) fn may_be_in(folder: &[u8]) -> bool {
    folder == b"/etc" || folder == b"/dev"
}

/// Whether that, which the image does not have, is nothing but a mount point or a folder of some.
pub(super) fn is_one(
    trees: &Trees<'_>,
    path: &[u8],
    merged: &Metadata,
) -> Result<bool, LayerError> {
    if !PLACES.contains(&path) {
        return Ok(false);
    }
    if path == MTAB {
        let target = fs::read_link(place(trees.merged, path));
        return Ok(target.is_ok_and(|target| target.as_os_str() == "/proc/mounts"));
    }
    if !merged.is_dir() {
        return Ok(merged.is_file() && merged.len() == 0);
    }
    for name in names(trees.merged, path)? {
        let child = [path, b"/", &name].concat();
        match look(trees.merged, &child)? {
            Some(merged) if !is_one(trees, &child, &merged)? => return Ok(false),
            _ => {}
        }
    }
    Ok(true)
}
