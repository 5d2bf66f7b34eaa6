//! The end: taking the writable disk down cleanly, with what it no longer needs given back to the
//! host, and ending the VM.

use std::os::fd::AsRawFd;
use std::thread::sleep;
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open, sync, syncfs};
use rustix::io;
use rustix::mount::{MountFlags, UnmountFlags, unmount};
use rustix::process::Pid;
use rustix::system::{RebootCommand, reboot};

use crate::boot::mounts::{DISK, DISK_DEVICE, MERGED, mount_new};
use crate::clone::{Namespaces, fork};

/// Tries at unmounting a disk that is busy, and the time between them. With the container's last
/// process its mounts are gone; only a file that was on its way through a socket may stay open a
/// moment longer.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

/// KiB that were written to the writable disk since it was mounted.
const WRITTEN: &str = "/sys/fs/ext4/vdb/session_write_kbytes";

/// KiB written from which on free space is discarded: less cannot have freed much.
const WORTH_DISCARDING: u64 = 16 << 10;

/// `FITRIM`, `_IOWR('X', 121, struct fstrim_range)`: start, length and smallest extent in bytes.
const FITRIM: libc::Ioctl = 0xc018_5879;

/// Unmounts the writable disk in a process of its own, so that the streams' last bytes need not
/// wait for it. When that process has ended, the disk is at rest.
pub(crate) fn unmount_in_background() -> io::Result<Pid> {
    let child = fork(Namespaces::default(), None, || {
        unmount_disk();
        0
    })?;
    Ok(child.pid)
}

/// Unmounts overlay and disk; what stays busy is synced, which the journal makes as safe.
pub(crate) fn unmount_disk() {
    // Space that stays allocated on the host is no reason to keep the disk mounted.
    let _ = discard_free_space();
    for target in [MERGED, DISK] {
        for _ in 0..TRIES {
            match unmount(target, UnmountFlags::empty()) {
                Err(io::Errno::BUSY) => sleep(PAUSE),
                Ok(()) | Err(_) => break,
            }
        }
    }
    if let Ok(disk) = open(DISK, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = syncfs(disk);
    }
    await_release();
}

/// Waits until the file system lets go of its device: the last of its mounts goes with the
/// container's mount namespace, which may take a moment longer than that of the agent.
fn await_release() {
    let exclusively = OFlags::RDONLY | OFlags::EXCL | OFlags::CLOEXEC;
    for _ in 0..TRIES {
        match open(DISK_DEVICE, exclusively, Mode::empty()) {
            Err(io::Errno::BUSY) => sleep(PAUSE),
            Ok(_) | Err(_) => break,
        }
    }
}

/// Discards what is free. While it is mounted, ext4 discards what is freed in the background, but
/// drops what it has not come to when it is unmounted. Worth it only where much was written.
fn discard_free_space() -> io::Result<()> {
    mount_new(c"sysfs", c"/sys", c"sysfs", MountFlags::RDONLY, c"")
        .map_err(|_| io::Errno::NODEV)?;
    let written = std::fs::read_to_string(WRITTEN).ok();
    let written = written.and_then(|kib| kib.trim().parse::<u64>().ok()).unwrap_or(u64::MAX);
    if written < WORTH_DISCARDING {
        return Ok(());
    }
    let root = open(DISK, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // What was deleted is free once the journal says so.
    syncfs(&root)?;
    let mut range = [0, u64::MAX, 0];
    // SAFETY: FITRIM reads and writes three 64-bit numbers (`struct fstrim_range`), to where three lie.
    match unsafe { libc::ioctl(root.as_raw_fd(), FITRIM, range.as_mut_ptr()) } {
        0 => Ok(()),
        _ => Err(crate::last_error()),
    }
}

/// Syncs what is mounted and restarts the machine, which is how a VM without power management
/// ends.
pub(crate) fn restart() {
    sync();
    let _ = reboot(RebootCommand::Restart);
}
