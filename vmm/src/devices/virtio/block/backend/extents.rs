//! A read-only disk put together from ranges of files.
//!
//! Every VM that uses a file shares the host's page cache of it. Parts of the disk that no extent
//! covers, and parts of an extent beyond the end of its file, read as zeroes.

use super::{Backend, BackendError, check_size};
use crate::virtqueue::Segments;
use rustix::fs::OFlags;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

/// The block size of the guest's root file system.
const BLOCK_SIZE: u32 = 4096;

/// A range of a file that is a range of the disk; all in bytes.
#[derive(Clone, Debug)]
pub struct Extent {
    /// Where it begins on the disk.
    pub start: u64,
    /// Its length.
    pub length: u64,
    /// Opened read-only.
    pub file: Arc<File>,
    /// Where it begins in the file.
    pub offset: u64,
}

impl Extent {
    /// First byte of the disk behind it. Cannot wrap: checked when the disk was made.
    fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }
}

/// A disk of sorted [`Extent`]s.
#[derive(Debug)]
pub struct ExtentDisk {
    extents: Vec<Extent>,
    size: u64,
}

impl ExtentDisk {
    /// A disk of `size` bytes. `extents` are sorted by their start and do not overlap.
    ///
    /// # Errors
    /// When they do, leave the disk, or a file is not open for reading only.
    pub fn new(extents: Vec<Extent>, size: u64) -> Result<Self, BackendError> {
        check_size(size, BLOCK_SIZE)?;
        let mut covered = 0;
        for extent in &extents {
            let &Extent { start, length, offset, .. } = extent;
            let impossible = BackendError::Extent { start, length };
            let Some(end) = start.checked_add(length).filter(|_| length > 0) else {
                return Err(impossible);
            };
            if offset.checked_add(length).is_none_or(|end| i64::try_from(end).is_err()) {
                return Err(impossible);
            }
            if start < covered {
                return Err(BackendError::Overlap { start });
            }
            if end > size {
                return Err(BackendError::BeyondDisk { start, length });
            }
            check_read_only(extent)?;
            covered = end;
        }
        Ok(Self { extents, size })
    }

    /// Bytes from `position` on that come from one place: an extent, with the place in its file,
    /// or a gap.
    fn locate(&self, position: u64) -> (Option<(&File, u64)>, u64) {
        let next = self.extents.partition_point(|extent| extent.start <= position);
        let here = next.checked_sub(1).and_then(|here| self.extents.get(here));
        if let Some(extent) = here.filter(|extent| position < extent.end()) {
            let inside = position.saturating_sub(extent.start);
            let source = (&*extent.file, extent.offset.saturating_add(inside));
            return (Some(source), extent.length.saturating_sub(inside));
        }
        let end = self.extents.get(next).map_or(self.size, |extent| extent.start);
        (None, end.saturating_sub(position))
    }
}

fn check_read_only(extent: &Extent) -> Result<(), BackendError> {
    let start = extent.start;
    let flags = rustix::fs::fcntl_getfl(&*extent.file)
        .map_err(|errno| BackendError::Mode { start, source: errno.into() })?;
    if flags & OFlags::RWMODE != OFlags::RDONLY {
        return Err(BackendError::Writable { start });
    }
    Ok(())
}

fn read_only_disk() -> io::Error {
    io::ErrorKind::ReadOnlyFilesystem.into()
}

impl Backend for ExtentDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn block_size(&self) -> u32 {
        BLOCK_SIZE
    }

    fn read_only(&self) -> bool {
        true
    }

    fn read(&self, offset: u64, into: &mut Segments<'_>) -> io::Result<()> {
        let mut position = offset;
        while !into.is_empty() {
            let (source, available) = self.locate(position);
            let length = usize::try_from(available).unwrap_or(usize::MAX).min(into.len());
            if length == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let read = match source {
                Some((file, offset)) => into.read_from(file.as_fd(), offset, length)?,
                None => 0,
            };
            if read == 0 {
                into.write_zeroes(length).map_err(io::Error::other)?;
            }
            let moved = if read == 0 { length } else { read };
            position = position.saturating_add(u64::try_from(moved).map_err(io::Error::other)?);
        }
        Ok(())
    }

    fn write(&self, _offset: u64, _from: &mut Segments<'_>) -> io::Result<()> {
        Err(read_only_disk())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }

    fn punch_hole(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Err(read_only_disk())
    }

    fn zero_range(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Err(read_only_disk())
    }
}
