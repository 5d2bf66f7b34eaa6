//! Tar archives as streams, on the host and in the guest.
//!
//! # Reading
//! [`TarReader`] reads V7, ustar, PAX, GNU and star headers, GNU and PAX sparse files, extended
//! attributes. Written for hostile archives. There is one rule for what one reader could take this
//! way and another that way (threats.md row 5): it is an error, and nothing is ever searched for a
//! next header. Memory is bounded whatever the archive says. It extracts nothing; paths are handed
//! on as they are in the archive.
//!
//! Not supported: multi-volume archives, incremental dumps. Global PAX headers are ignored, as
//! Docker does, and refused if they would change how the archive is read.
//!
//! # Writing
//! [`TarWriter`] writes ustar headers, with PAX headers for what those cannot hold.
//!
//! # Trees
//! [`tree`] packs and unpacks file trees.

#![forbid(unsafe_code)]

mod header;
mod input;
pub mod limits;
mod pax;
mod reader;
mod sparse;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod tree;
mod writer;

use std::io;

use thiserror::Error;

pub use input::{Input, SeekInput};
pub use reader::{DataSink, TarReader};
pub use sparse::Piece;
pub use writer::TarWriter;

/// Why an archive cannot be read.
#[derive(Debug, Error)]
pub enum TarError {
    /// The stream below failed: not readable, or its compression is damaged.
    #[error("cannot read the tar stream")]
    Read(#[source] io::Error),
    /// The stream ends inside an entry.
    #[error("the tar stream ends in the middle of an entry")]
    Truncated,
    /// Not a header where one must be.
    #[error("no tar header at byte {0}")]
    Header(u64),
    /// A number in a header.
    #[error("malformed {field} in the tar header")]
    Number {
        /// Which one.
        field: &'static str,
    },
    /// A PAX extended header.
    #[error("malformed PAX header: {0}")]
    Pax(&'static str),
    /// Header and PAX header both give a size, and not the same.
    #[error("size is {header} in the header and {pax} in the PAX header")]
    SizeConflict {
        /// The header's.
        header: u64,
        /// The PAX header's.
        pax: u64,
    },
    /// The map of a sparse file.
    #[error("malformed sparse file: {0}")]
    Sparse(&'static str),
    /// An entry type that is not understood.
    #[error("unknown tar entry type {0:?}")]
    Type(char),
    /// A directory, symlink, device or FIFO that claims to have data.
    #[error("{0} bytes of data in an entry that has none")]
    UnexpectedData(u64),
    /// Two long names, or two PAX headers, for one entry.
    #[error("more than one {0} for one entry")]
    Repeated(&'static str),
    /// Longer than a limit.
    #[error("{what} is longer than {limit} bytes")]
    TooLong {
        /// What.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A name with a NUL in it.
    #[error("NUL byte in a name")]
    Nul,
}

/// What an entry of an archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberKind {
    Regular,
    HardLink,
    Symlink,
    Directory,
    Fifo,
    CharDevice { major: u32, minor: u32 },
    BlockDevice { major: u32, minor: u32 },
}

/// A point in time; `nanoseconds` count forward from `seconds`, also before 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Timestamp {
    pub seconds: i64,
    pub nanoseconds: u32,
}

/// An extended attribute: full name and value.
pub type Xattr = (Vec<u8>, Vec<u8>);

/// An entry of an archive, with what extended headers said of it. Its data is read from the
/// [`TarReader`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// As in the archive, without NUL; may be anything else.
    pub path: Vec<u8>,
    pub kind: MemberKind,
    /// Permission bits, 07777.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Timestamp,
    /// Target of a hard or symbolic link; else empty.
    pub link: Vec<u8>,
    /// Size of the file with its holes; 0 unless `Regular`.
    pub size: u64,
    /// In the order of the archive, each name once.
    pub xattrs: Vec<Xattr>,
}
