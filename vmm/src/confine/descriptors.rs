//! What is open in the process: nothing but what the VM was given.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::PathBuf;

use rustix::fs::{Dir, Mode, OFlags};
use thiserror::Error;

/// A descriptor is open that nobody accounts for, such as one inherited from a shell.
#[derive(Debug, Error)]
pub enum DescriptorError {
    #[error("cannot list the open descriptors in /proc/self/fd")]
    List(#[source] io::Error),
    #[error("descriptor {fd} ({}) is open and does not belong to the VM", target.display())]
    Unexpected { fd: RawFd, target: PathBuf },
}

/// Checks that no descriptor is open but standard input, output and error and those `expected`.
pub(crate) fn check_open(expected: &[RawFd]) -> Result<(), DescriptorError> {
    let stranger = open_descriptors()
        .map_err(DescriptorError::List)?
        .into_iter()
        .find(|fd| *fd > libc::STDERR_FILENO && !expected.contains(fd));
    stranger.map_or(Ok(()), |fd| {
        let target = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
        Err(DescriptorError::Unexpected { fd, target })
    })
}

/// Sets close-on-exec on every descriptor beyond standard error, and returns how many are open.
pub(super) fn close_all_on_exec() -> io::Result<usize> {
    let first = libc::STDERR_FILENO.cast_unsigned() + 1;
    let flags = libc::CLOSE_RANGE_CLOEXEC.cast_signed();
    // SAFETY: with this flag the call closes nothing; it only sets a flag on descriptors, which no
    // memory depends on.
    if unsafe { libc::close_range(first, u32::MAX, flags) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(open_descriptors()?.len())
}

/// The open descriptors, without the one that lists them.
fn open_descriptors() -> io::Result<Vec<RawFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
    let listing = folder.as_raw_fd();
    let mut open = Vec::new();
    for entry in Dir::new(folder)? {
        let name = entry?;
        let number = name.file_name().to_str().ok().and_then(|name| name.parse::<RawFd>().ok());
        open.extend(number.filter(|fd| *fd != listing));
    }
    Ok(open)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_descriptor_that_nobody_expects_is_named_with_its_target() {
        let file = File::open("/dev/null").unwrap();
        let everything_else: Vec<_> =
            open_descriptors().unwrap().into_iter().filter(|fd| *fd != file.as_raw_fd()).collect();
        let fault = check_open(&everything_else);
        // Other tests open and close files at the same time.
        if let Err(DescriptorError::Unexpected { fd, target }) = fault {
            assert!(fd != file.as_raw_fd() || target == std::path::Path::new("/dev/null"));
        } else {
            panic!("not noticed: {fault:?}");
        }
    }

    #[test]
    fn open_files_are_listed() {
        let file = File::open("/dev/null").unwrap();
        assert!(open_descriptors().unwrap().contains(&file.as_raw_fd()));
    }
}
