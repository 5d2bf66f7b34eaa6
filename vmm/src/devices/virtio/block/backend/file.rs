//! A writable disk in one sparse file.

use super::{Backend, BackendError, check_size};
use crate::virtqueue::Segments;
use rustix::fs::FallocateFlags;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

/// Fits every file system that a guest may have on the disk.
const BLOCK_SIZE: u32 = 512;

/// What a flush of the guest means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushPolicy {
    /// The data is on the host's storage afterwards.
    Durable,
    /// Nothing: the disk is thrown away with its VM.
    Ignore,
}

/// A disk in a file; what the file does not hold reads as zeroes.
#[derive(Debug)]
pub struct FileDisk {
    file: File,
    size: u64,
    policy: FlushPolicy,
}

impl FileDisk {
    /// A disk of `size` bytes in `file`, which is open for reading and writing.
    ///
    /// # Errors
    /// When no disk can have that size.
    pub fn new(file: File, size: u64, policy: FlushPolicy) -> Result<Self, BackendError> {
        check_size(size, BLOCK_SIZE)?;
        Ok(Self { file, size, policy })
    }

    fn fallocate(&self, what: FallocateFlags, offset: u64, length: u64) -> io::Result<()> {
        let flags = FallocateFlags::KEEP_SIZE | what;
        loop {
            match rustix::fs::fallocate(&self.file, flags, offset, length) {
                Err(rustix::io::Errno::INTR) => {}
                result => return Ok(result?),
            }
        }
    }
}

impl Backend for FileDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn block_size(&self) -> u32 {
        BLOCK_SIZE
    }

    fn read_only(&self) -> bool {
        false
    }

    fn read(&self, offset: u64, into: &mut Segments<'_>) -> io::Result<()> {
        let mut position = offset;
        while !into.is_empty() {
            match into.read_from(self.file.as_fd(), position, into.len())? {
                0 => into.write_zeroes(into.len()).map_err(io::Error::other)?,
                read => position = advance(position, read)?,
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, from: &mut Segments<'_>) -> io::Result<()> {
        let mut position = offset;
        while !from.is_empty() {
            match from.write_to(self.file.as_fd(), position, from.len())? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                written => position = advance(position, written)?,
            }
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        match self.policy {
            FlushPolicy::Durable => self.file.sync_data(),
            FlushPolicy::Ignore => Ok(()),
        }
    }

    fn punch_hole(&self, offset: u64, length: u64) -> io::Result<()> {
        self.fallocate(FallocateFlags::PUNCH_HOLE, offset, length)
    }

    fn zero_range(&self, offset: u64, length: u64) -> io::Result<()> {
        self.fallocate(FallocateFlags::ZERO_RANGE, offset, length)
    }
}

fn advance(position: u64, by: usize) -> io::Result<u64> {
    let by = u64::try_from(by).map_err(io::Error::other)?;
    position.checked_add(by).ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
