//! The guest's network, which is the container's: for now the loopback interface.

use std::os::fd::AsRawFd;

use rustix::io;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

/// `IFF_UP`, in the type of the field it goes into.
const UP: libc::c_short = 1;

/// Brings `lo` up; the kernel gives it its addresses.
pub(super) fn bring_loopback_up() -> io::Result<()> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: an all-zero `ifreq` is a valid value of that plain C struct.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(c"lo".to_bytes()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = UP;
    // SAFETY: SIOCSIFFLAGS reads one `ifreq`, which outlives the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } {
        0 => Ok(()),
        _ => Err(crate::last_error()),
    }
}
