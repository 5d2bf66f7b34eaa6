//! The virtio block device (VirtIO 1.2 §5.2): the read-only root and the writable disk.
//!
//! `request` parses what the guest asks, `worker` carries it out on the device's thread, and a
//! [`Backend`] stores the bytes: [`ExtentDisk`] puts a disk together from ranges of read-only
//! files, [`FileDisk`] is one sparse file.
//!
//! When the host's storage is full, a write is neither failed nor lost: the request stays pending
//! and is tried again every [`FULL_RETRY`], with everything queued behind it, because an error
//! would break the guest's journal. [`HostEvents`] hears of each such stall once.
//!
//! Known flaw: one request at a time. The page cache of the host makes most of them a copy; a read
//! that must wait for the host's storage holds up the others of its disk.

mod backend;
mod device;
mod request;
#[cfg(test)]
mod tests;
mod worker;

pub use backend::{Backend, BackendError, Extent, ExtentDisk, FileDisk, FlushPolicy};
pub use device::Block;

use std::fmt::Debug;
use std::time::Duration;

/// Unit of sectors on the wire, whatever the block size, in bytes.
pub const SECTOR_SIZE: u64 = 512;

/// Alignment of discarded ranges that gives space back, in sectors: a block of the host's file
/// systems.
const DISCARD_ALIGNMENT: u32 = 8;

/// Descriptors of the device's one queue.
pub const QUEUE_SIZE: u16 = 256;

/// Data segments of one request: the queue without header and status.
const MAX_DATA_SEGMENTS: u32 = QUEUE_SIZE as u32 - 2;

/// Ranges of one discard or write-zeroes request.
const MAX_RANGES: u32 = 64;

/// Sectors of one such range: 2 GiB.
const MAX_RANGE_SECTORS: u32 = 1 << 22;

/// How long a request that found the host's storage full waits for the next try.
pub const FULL_RETRY: Duration = Duration::from_secs(1);

/// Hears what the user should know about the host's storage. Called on device threads.
pub trait HostEvents: Debug + Send + Sync {
    /// A write of `disk` found the host's storage full; the guest waits.
    fn disk_full(&self, disk: &str);

    /// That write has succeeded.
    fn disk_resumed(&self, disk: &str);
}
