//! The host's random bytes, credited to the guest's pool before anything of the container runs.

use std::os::fd::AsRawFd;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{self, Errno};

/// `RNDADDENTROPY`, `_IOW('R', 0x03, int [2])`: credits bytes.
const ADD_ENTROPY: libc::Ioctl = 0x4008_5203;
/// `RNDRESEEDCRNG`, `_IO('R', 0x07)`: makes the generator use them at once.
const RESEED: libc::Ioctl = 0x5207;

/// Adds `bytes` to the pool with full credit.
pub(crate) fn credit(bytes: &[u8]) -> io::Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    let request = pool_info(bytes)?;
    let device = open(c"/dev/urandom", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    // SAFETY: RNDADDENTROPY reads a `rand_pool_info` and as many bytes after it as its second word
    // says, and `pool_info` has put them there; RNDRESEEDCRNG takes no argument.
    let done = unsafe {
        libc::ioctl(device.as_raw_fd(), ADD_ENTROPY, request.as_ptr()) == 0
            && libc::ioctl(device.as_raw_fd(), RESEED, 0) == 0
    };
    if done { Ok(()) } else { Err(crate::last_error()) }
}

/// The kernel's `rand_pool_info`: entropy in bits, length in bytes, the bytes, padded to words.
fn pool_info(bytes: &[u8]) -> io::Result<Vec<u32>> {
    let length = u32::try_from(bytes.len()).map_err(|_| Errno::INVAL)?;
    let bits = length.checked_mul(8).filter(|bits| *bits <= i32::MAX.unsigned_abs());
    let words = bytes.chunks(4).map(|chunk| {
        let mut word = [0; 4];
        word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
        u32::from_ne_bytes(word)
    });
    Ok([bits.ok_or(Errno::INVAL)?, length].into_iter().chain(words).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_info_says_bits_then_bytes() {
        let info = pool_info(&[1, 2, 3, 4, 5]).unwrap();
        let words = [u32::from_ne_bytes([1, 2, 3, 4]), u32::from_ne_bytes([5, 0, 0, 0])];
        assert_eq!(info, [40, 5, words[0], words[1]]);
    }
}
