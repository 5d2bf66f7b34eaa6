//! What an image may ask of the host. Every limit that hostile input could run into is here; the
//! ones that Linux or EROFS set are noted as such. Exceeding one is an error that names it. What
//! holds for any tar archive is in `tar_stream`.

pub(crate) use tar_stream::limits::{MAX_XATTR_VALUE, MAX_XATTRS};

/// Manifest, index or config (threats.md row 15).
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;

/// Indexes within indexes.
pub(crate) const MAX_INDEX_DEPTH: usize = 4;

/// Manifests and indexes read for one archive.
pub(crate) const MAX_DOCUMENTS: usize = 1024;

/// Members of an archive that holds images.
pub(crate) const MAX_ARCHIVE_MEMBERS: usize = 1 << 16;

/// Layers of an image. Docker stops at 128.
pub(crate) const MAX_LAYERS: usize = 512;

/// Longest path in bytes: Linux' `PATH_MAX` without its NUL.
pub(crate) const MAX_PATH: usize = 4095;

/// Longest name in bytes: Linux' `NAME_MAX`, EROFS' too.
pub(crate) const MAX_NAME: usize = 255;

/// Longest target of a symbolic link in bytes.
pub(crate) const MAX_SYMLINK: usize = 4095;

/// Directories within directories. A path cannot express more, but symlinks to deep directories
/// could build it.
pub(crate) const MAX_DEPTH: u32 = 2048;

/// Symlinks followed while one path is resolved, as Linux has it.
pub(crate) const MAX_SYMLINKS_FOLLOWED: u32 = 40;

/// Threads that ingest layers at once, whatever the number of cores: each holds about 2 MiB.
pub(crate) const MAX_WORKERS: usize = 8;

/// Layers that are pulled at once even on a single core: most of the time they wait.
pub(crate) const LEAST_STREAMS: usize = 3;

/// Largest zstd window, as a power of two: 32 MiB. One such stream is decompressed at a time.
pub(crate) const ZSTD_WIDE_WINDOW_LOG: u32 = 25;

/// Largest zstd window of streams that are decompressed side by side: 8 MiB, which encoders use
/// unless told otherwise and every decoder must have (RFC 8878 §3.1.1.1.2).
pub(crate) const ZSTD_WINDOW_LOG: u32 = 23;

/// Limits that tests lower.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Entries of one layer, and inodes of an image.
    pub(crate) entries: u64,
    /// Bytes of a layer's index.
    pub(crate) index_bytes: u64,
    /// Bytes of a layer after decompression, and the sum of the sizes its files declare.
    pub(crate) layer_bytes: u64,
    /// Bytes that any stream may inflate to, however short it is.
    pub(crate) free_inflation: u64,
    /// Bytes a stream may inflate to beyond that, for each byte of it that was read.
    pub(crate) inflation: u64,
}

impl Limits {
    pub(crate) const DEFAULT: Self = Self {
        entries: 1 << 20,
        index_bytes: 256 << 20,
        layer_bytes: 2 << 40,
        free_inflation: 4 << 30,
        inflation: 100,
    };
}
