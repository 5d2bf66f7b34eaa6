//! Vsock sockets: the listener for streams and the connection to the host. Non-blocking, as
//! everything in the agent's loop.

use std::mem::size_of;
use std::os::fd::OwnedFd;

use rustix::io::{self, Errno};
use rustix::net::addr::{SocketAddrArg, SocketAddrLen, SocketAddrOpaque};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 32;

/// Size of a `sockaddr_vm` in bytes.
const ADDRESS_LENGTH: SocketAddrLen = 16;
const _: () = assert!(size_of::<libc::sockaddr_vm>() == 16);

/// A vsock address.
#[derive(Clone, Copy, Debug)]
struct Address {
    cid: u32,
    port: u32,
}

// SAFETY: the closure is called with a pointer to a whole, initialised `sockaddr_vm` that outlives
// the call, and with its size.
unsafe impl SocketAddrArg for Address {
    unsafe fn with_sockaddr<R>(
        &self,
        f: impl FnOnce(*const SocketAddrOpaque, SocketAddrLen) -> R,
    ) -> R {
        // SAFETY: an all-zero `sockaddr_vm` is a valid value of that plain C struct.
        let mut address: libc::sockaddr_vm = unsafe { std::mem::zeroed() };
        address.svm_family = AddressFamily::VSOCK.as_raw();
        address.svm_cid = self.cid;
        address.svm_port = self.port;
        f((&raw const address).cast(), ADDRESS_LENGTH)
    }
}

fn stream_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::VSOCK, SocketType::STREAM, flags, None)
}

/// Listens on `port` for connections from the host.
pub(crate) fn listen_on(port: u32) -> io::Result<OwnedFd> {
    let socket = stream_socket()?;
    bind(&socket, &Address { cid: libc::VMADDR_CID_ANY, port })?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Begins to connect to the host; the socket becomes writable when that has succeeded or failed.
pub(crate) fn dial_host(port: u32) -> io::Result<OwnedFd> {
    let socket = stream_socket()?;
    match connect(&socket, &Address { cid: libc::VMADDR_CID_HOST, port }) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// Takes one waiting connection; `None` when there is none.
pub(crate) fn accept(listener: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
        Ok(socket) => Ok(Some(socket)),
        Err(Errno::AGAIN) => Ok(None),
        Err(error) => Err(error),
    }
}
