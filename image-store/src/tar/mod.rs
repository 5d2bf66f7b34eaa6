//! A streaming reader of tar archives: V7, ustar, PAX, GNU and star headers, GNU and PAX sparse
//! files, extended attributes.
//!
//! Written for hostile archives. There is one rule for what one reader could take this way and
//! another that way (threats.md row 5): it is an error, and nothing is ever searched for a next
//! header. Memory is bounded whatever the archive says. It extracts nothing; paths are handed on
//! as they are in the archive.
//!
//! Not supported: multi-volume archives, incremental dumps. Global PAX headers are ignored, as
//! Docker does, and refused if they would change how the archive is read.

mod header;
mod input;
mod pax;
mod reader;
mod sparse;
#[cfg(test)]
mod tests;

use std::io;

use thiserror::Error;

pub(crate) use input::{Input, SeekInput};
pub(crate) use reader::{DataSink, TarReader};

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
pub(crate) enum MemberKind {
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
pub(crate) struct Timestamp {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// An extended attribute: full name and value.
pub(crate) type Xattr = (Vec<u8>, Vec<u8>);

/// An entry of an archive, with what extended headers said of it. Its data is read from the
/// [`TarReader`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// As in the archive, without NUL; may be anything else.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: MemberKind,
    /// Permission bits, 07777.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    /// Target of a hard or symbolic link; else empty.
    pub(crate) link: Vec<u8>,
    /// Size of the file with its holes; 0 unless `Regular`.
    pub(crate) size: u64,
    /// In the order of the archive, each name once.
    pub(crate) xattrs: Vec<Xattr>,
}
