//! Where an image archive comes from.

use std::fmt;
use std::io::Read;
use std::path::Path;

/// Where an image archive comes from.
pub enum Source<'a> {
    /// An archive file, or an OCI layout directory.
    Path(&'a Path),
    /// An archive read to its end, such as standard input.
    Stream(&'a mut dyn Read),
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.debug_tuple("Path").field(path).finish(),
            Self::Stream(_) => f.write_str("Stream"),
        }
    }
}
