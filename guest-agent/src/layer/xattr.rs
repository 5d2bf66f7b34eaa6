//! Extended attributes of files, read without following links.

use std::ffi::{CStr, CString};
use std::path::Path;

use rustix::fs::{lgetxattr, lgetxattr_query, llistxattr, llistxattr_query};
use rustix::io::{self, Errno};

use tar_stream::Xattr;

use super::{LayerError, place};

/// Overlayfs's own, which the overlay does not show by itself.
const OVERLAY: &[&[u8]] = &[b"trusted.overlay.", b"user.overlay."];

/// All that a layer carries, sorted by name.
pub(super) fn all(root: &Path, path: &[u8]) -> Result<Vec<Xattr>, LayerError> {
    let place = place(root, path);
    let listed = match filled(llistxattr_query(&place), |buffer| llistxattr(&place, buffer)) {
        Ok(listed) => listed,
        Err(Errno::NOTSUP | Errno::NOENT) => Vec::new(),
        Err(cause) => return Err(LayerError::Read { path: place, cause: cause.into() }),
    };
    let mut xattrs = Vec::new();
    for name in listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if OVERLAY.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        // A list of names between NULs has none with a NUL.
        let Ok(c_name) = CString::new(name) else { continue };
        if let Some(value) = one(root, path, &c_name)? {
            xattrs.push((name.to_vec(), value));
        }
    }
    xattrs.sort_unstable();
    Ok(xattrs)
}

/// The value of one, if it is there.
pub(super) fn one(root: &Path, path: &[u8], name: &CStr) -> Result<Option<Vec<u8>>, LayerError> {
    let place = place(root, path);
    let length = lgetxattr_query(&place, name);
    match filled(length, |buffer| lgetxattr(&place, name, buffer)) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::NOTSUP | Errno::NOENT) => Ok(None),
        Err(cause) => Err(LayerError::Read { path: place, cause: cause.into() }),
    }
}

/// What a call gives into a buffer of the length that another call gave.
fn filled(
    length: io::Result<usize>,
    fill: impl FnOnce(&mut [u8]) -> io::Result<usize>,
) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length?];
    let length = fill(&mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// Whether a folder of the upper layer is not merged with the image's folder of the same path: it
/// is opaque, or it was moved here and is merged with the one it was moved from.
pub(super) fn hides_lower(upper: &Path, path: &[u8]) -> Result<bool, LayerError> {
    Ok(one(upper, path, c"trusted.overlay.opaque")?.is_some_and(|value| value == b"y")
        || one(upper, path, c"trusted.overlay.redirect")?.is_some())
}
