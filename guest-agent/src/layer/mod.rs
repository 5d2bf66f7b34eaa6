//! What a container changed, told as Docker tells it: a list (`vmrun diff`) and one layer of an image
//! (`vmrun commit`).
//!
//! # What is compared
//! ```text
//! lower    the image                              what was
//! merged   the overlay, as the container sees it  what is
//! upper    the writable layer                     where to look
//! ```
//! The truth is the difference of `merged` and `lower`. `upper` only says where there can be one: in a
//! folder that is the image's own, nothing differs but what `upper` names. So no whiteout, metacopy
//! or redirect has to be understood, but for the one question whether a folder still is the image's
//! folder of that path, or hides it (`walk.rs`). Overlayfs's own attributes are in neither result.
//!
//! # How it runs
//! Plain blocking functions, for a process of their own that writes to a pipe. The container must be
//! frozen to get a picture of one moment; of one that runs on, each file is as it was when it was
//! read, cut or filled to the length it had, and what vanishes on the way is left out.
//!
//! Memory grows with the longest listings of folders within each other, and with the number of
//! files that have several names; not with the number or the size of files.

mod archive;
mod list;
mod mount_points;
mod sparse;
#[cfg(test)]
mod tests;
mod walk;
mod xattr;

use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{self, BufWriter, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use tar_stream::tree::show;
pub use walk::Trees;

/// Bytes gathered before they are written.
const BUFFER: usize = 128 << 10;

/// Why the changes of a container cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    #[error("cannot read {}", show(.path.as_os_str().as_bytes()))]
    Read {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error("cannot write to the host")]
    Write(#[source] io::Error),
}

/// Writes a frame for each change, as `docker diff` would list it.
pub fn changes(trees: &Trees<'_>, out: &mut dyn Write) -> Result<(), LayerError> {
    let mut out = BufWriter::with_capacity(BUFFER, out);
    walk::walk(trees, &mut list::List::new(trees, &mut out))?;
    out.flush().map_err(LayerError::Write)
}

/// Writes a tar archive of the changes, as an image's layer: with whiteouts for what is gone.
pub fn archive(trees: &Trees<'_>, out: &mut dyn Write) -> Result<(), LayerError> {
    archive::write(trees, BufWriter::with_capacity(BUFFER, out))
}

/// The place of an absolute path in a tree.
fn place(root: &Path, path: &[u8]) -> PathBuf {
    Path::new(OsStr::from_bytes(&[root.as_os_str().as_bytes(), path].concat())).to_owned()
}

/// What is at a path, itself and not where it points; `None` for nothing.
fn look(root: &Path, path: &[u8]) -> Result<Option<Metadata>, LayerError> {
    let path = place(root, path);
    match fs::symlink_metadata(&path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(cause) => Err(LayerError::Read { path, cause }),
    }
}

/// The names in a folder, sorted; none of what is not one.
fn names(root: &Path, path: &[u8]) -> Result<Vec<Vec<u8>>, LayerError> {
    let path = place(root, path);
    let listed = fs::read_dir(&path).and_then(|entries| {
        entries.map(|entry| Ok(entry?.file_name().as_bytes().to_vec())).collect()
    });
    let mut names: Vec<Vec<u8>> = match listed {
        Ok(names) => names,
        Err(error) if is_absent(&error) => Vec::new(),
        Err(cause) => return Err(LayerError::Read { path, cause }),
    };
    names.sort_unstable();
    Ok(names)
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
