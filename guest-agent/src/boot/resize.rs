//! Grows the file system of the writable disk to the size of the disk. No tool of the host may do
//! that, as the host never touches a disk that a guest wrote.

use std::os::fd::AsRawFd;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;

use super::mounts::{DISK, DISK_DEVICE};

/// `BLKGETSIZE64`, `_IOR(0x12, 114, size_t)`: size of a disk in bytes.
const GET_SIZE: libc::Ioctl = 0x8008_1272;
/// `EXT4_IOC_RESIZE_FS`, `_IOW('f', 16, __u64)`: new size of the file system in blocks.
const RESIZE: libc::Ioctl = 0x4008_6610;
/// Size of a block of the file systems that vmrun makes, in bytes.
const BLOCK: u64 = 4096;

/// Grows the mounted file system; one that is as large as its disk stays as it is.
pub(crate) fn grow_disk() -> Result<(), Errno> {
    let device = open(DISK_DEVICE, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes: u64 = 0;
    // SAFETY: BLKGETSIZE64 writes one 64-bit number, to where one lies.
    check(unsafe { libc::ioctl(device.as_raw_fd(), GET_SIZE, &raw mut bytes) })?;
    let blocks = bytes / BLOCK;

    let root = open(DISK, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // SAFETY: EXT4_IOC_RESIZE_FS reads one 64-bit number, which outlives the call.
    check(unsafe { libc::ioctl(root.as_raw_fd(), RESIZE, &raw const blocks) })
}

fn check(result: libc::c_int) -> Result<(), Errno> {
    match result {
        0 => Ok(()),
        _ => Err(crate::last_error()),
    }
}
