//! What an archive may ask for.

/// Bytes of one extended attribute's value: what EROFS can say, one less than what Linux allows.
pub const MAX_XATTR_VALUE: usize = 65535;

/// Bytes of the names and values of all extended attributes of one entry.
pub const MAX_XATTRS: usize = 128 << 10;

/// Bytes of one PAX header or GNU long name, as Go's reader has it.
pub const MAX_TAR_META: u64 = 1 << 20;

/// Pieces of data of one sparse file.
pub const MAX_SPARSE_PIECES: usize = 1 << 16;
