//! What a container changed in its image's tree, one message a file.

use serde::{Deserialize, Serialize};

/// What happened to a file of the image's tree, or to one that is new in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// `C`: it, or something below it.
    Changed,
    /// `A`
    Added,
    /// `D`, with all that was below it.
    Deleted,
}

/// A line of `vmrun diff`. They come as frames, sorted by path name for name, parents ahead of their
/// children, and end with the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub kind: ChangeKind,
    /// Absolute, as the container sees it; any bytes.
    pub path: Vec<u8>,
}
