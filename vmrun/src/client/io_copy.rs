//! Copies one descriptor to another until its end.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

/// Bytes copied at a time.
const CHUNK: usize = 64 << 10;

/// Copies until the end of `from`. Waits where either side is non-blocking, as a terminal shared
/// with other programs may be.
pub fn copy(from: &OwnedFd, to: &OwnedFd) -> io::Result<()> {
    read_all(from, |bytes| write_all(to, bytes))
}

/// Reads until the end of `from`, or until what `take` does with it fails.
pub fn read_all(from: &OwnedFd, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = match rustix::io::read(from, &mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(Errno::INTR) => continue,
            Err(Errno::AGAIN) => {
                wait(from, PollFlags::IN)?;
                continue;
            }
            // A terminal whose other side is gone.
            Err(Errno::IO) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        take(&chunk[..count])?;
    }
}

/// Writes all of it, waiting where need be.
pub fn write_all(to: &OwnedFd, mut rest: &[u8]) -> io::Result<()> {
    while !rest.is_empty() {
        match rustix::io::write(to, rest) {
            Ok(written) => rest = &rest[written..],
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => wait(to, PollFlags::OUT)?,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn wait(fd: &OwnedFd, events: PollFlags) -> io::Result<()> {
    match poll(&mut [PollFd::from_borrowed_fd(fd.as_fd(), events)], None) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
