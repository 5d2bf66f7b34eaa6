//! Layers: from a tar stream to a blob of file data and an index of entries.
//!
//! The stream is read once. Entries are kept in the order of the archive, duplicates and all:
//! what they come to is decided when layers are merged (`tree`), so that a layer is the same
//! whatever image it is part of, and memory does not grow with the number of entries.

pub(crate) mod blob;
mod entry;
pub(crate) mod index;
mod unpack;
mod xattr;

pub use entry::PathError;
pub(crate) use entry::{Entry, EntryKind, normalise, show, split_last};
pub(crate) use unpack::unpack;

use thiserror::Error;

use crate::StoreError;
use crate::tar::TarError;

/// Bytes of a block of the root disk, and the alignment of every file in a blob.
pub(crate) const BLOCK: u64 = 4096;

fn place(after: &str) -> String {
    match after {
        "" => "at the first entry".to_owned(),
        after => format!("after entry {after:?}"),
    }
}

/// Why a layer's tar stream cannot become a layer.
#[derive(Debug, Error)]
pub enum LayerError {
    /// The archive itself.
    #[error("{}", place(after))]
    Tar {
        /// The last entry that was read; empty if none was.
        after: String,
        /// What is wrong.
        source: TarError,
    },
    /// An entry's name, or where it links to.
    #[error("entry {entry:?}")]
    Path {
        /// The entry.
        entry: String,
        /// What is wrong.
        source: PathError,
    },
    /// The root of the image as something else than a directory.
    #[error("entry {0:?} would replace the root directory")]
    Root(String),
    /// More entries than allowed.
    #[error("more than {0} entries")]
    Entries(u64),
    /// Names and attributes of more bytes than allowed.
    #[error("more than {0} bytes of names and attributes")]
    IndexSize(u64),
    /// The files of the layer claim more bytes than allowed.
    #[error("files of more than {limit} bytes in all, at entry {entry:?}")]
    DeclaredSize {
        /// The entry that passed the limit.
        entry: String,
        /// The limit.
        limit: u64,
    },
    /// What was read cannot be written down.
    #[error(transparent)]
    Store(#[from] StoreError),
}
