//! Where the bytes of a disk are on the host.

mod extents;
mod file;

pub use extents::{Extent, ExtentDisk};
pub use file::{FileDisk, FlushPolicy};

use crate::virtqueue::Segments;
use std::fmt::Debug;
use std::io;
use thiserror::Error;

/// Storage behind a block device. Ranges handed in lie inside the disk; all calls come from the
/// device's thread and may wait for the host's storage.
pub trait Backend: Send + Debug {
    /// Size in bytes, a multiple of the block size; never changes.
    fn size(&self) -> u64;

    /// Logical block size that the guest sees, in bytes: no file system with smaller blocks can be
    /// on the disk.
    fn block_size(&self) -> u32;

    /// Whether the guest may only read; then no other operation is called.
    fn read_only(&self) -> bool;

    /// Fills all of `into` from byte `offset` on.
    ///
    /// # Errors
    /// Those of the host's file.
    fn read(&self, offset: u64, into: &mut Segments<'_>) -> io::Result<()>;

    /// Writes all of `from` to byte `offset` on. After an error, what was consumed is written.
    ///
    /// # Errors
    /// Those of the host's file.
    fn write(&self, offset: u64, from: &mut Segments<'_>) -> io::Result<()>;

    /// Makes every completed write durable, as far as the disk promises that.
    ///
    /// # Errors
    /// Those of the host's file.
    fn flush(&self) -> io::Result<()>;

    /// Zeroes a range and gives its space back to the host.
    ///
    /// # Errors
    /// Those of the host's file; `EOPNOTSUPP` where its file system cannot.
    fn punch_hole(&self, offset: u64, length: u64) -> io::Result<()>;

    /// Zeroes a range and keeps its space.
    ///
    /// # Errors
    /// Those of the host's file; `EOPNOTSUPP` where its file system cannot.
    fn zero_range(&self, offset: u64, length: u64) -> io::Result<()>;
}

/// A disk cannot be made as described.
#[derive(Debug, Error)]
pub enum BackendError {
    /// Zero, not a multiple of the block size, or beyond what a file offset can name.
    #[error("disk size of {size} bytes is not a multiple of {block_size}")]
    Size { size: u64, block_size: u32 },
    /// An extent is empty, wraps around, or its part of the file cannot exist.
    #[error("extent of {length} bytes at byte {start} of the disk is not possible")]
    Extent { start: u64, length: u64 },
    /// Extents are not sorted, or overlap.
    #[error("extent at byte {start} of the disk begins before the one before it ends")]
    Overlap { start: u64 },
    /// An extent ends beyond the disk.
    #[error("extent of {length} bytes at byte {start} ends beyond the disk")]
    BeyondDisk { start: u64, length: u64 },
    /// A file of the read-only disk was opened for writing.
    #[error("file of the extent at byte {start} is open for writing")]
    Writable { start: u64 },
    /// The mode of a file cannot be read.
    #[error("cannot read the mode of the file of the extent at byte {start}")]
    Mode {
        start: u64,
        #[source]
        source: io::Error,
    },
}

fn check_size(size: u64, block_size: u32) -> Result<(), BackendError> {
    if size == 0 || !size.is_multiple_of(u64::from(block_size)) || i64::try_from(size).is_err() {
        return Err(BackendError::Size { size, block_size });
    }
    Ok(())
}
