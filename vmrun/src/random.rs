//! Random bytes from the kernel.

use rustix::rand::{GetRandomFlags, getrandom};

/// Fills the buffer.
///
/// # Panics
/// Only where the kernel has no `getrandom`, which is older than the KVM features vmrun needs.
pub fn fill(buffer: &mut [u8]) {
    let mut filled = 0;
    while filled < buffer.len() {
        match getrandom(&mut buffer[filled..], GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(errno) => panic!("getrandom: {errno}"),
        }
    }
}

/// A number below `bound`, which is small: the slight bias does not matter for names.
pub fn below(bound: usize) -> usize {
    let mut bytes = [0; 4];
    fill(&mut bytes);
    usize::try_from(u32::from_le_bytes(bytes)).unwrap_or(0) % bound.max(1)
}
