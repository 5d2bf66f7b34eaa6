//! The virtio socket device (VirtIO 1.2 §5.10) in user space: stream connections between programs
//! on the host, over unix sockets, and programs in the guest.
//!
//! - **Host to guest.** A program connects to the listening socket and sends `CONNECT <port>\n`. The
//!   device connects to that port of the guest and answers `OK <host port>\n`; when the guest
//!   refuses, it closes. From then on the bytes are the two programs' own.
//! - **Guest to host.** The first connection of the guest to CID 2 and a port of
//!   [`VsockConfig::guest_ports`] is joined to the socket given for it, which is then used up. Any
//!   other is refused: the VMM is locked in and could not connect to anything.
//!
//! ```text
//!   tx queue ─▶ Header ─▶ Table ─▶ Connection ─ sendmsg from guest memory ─▶ socket
//!                                      │ what does not fit: Backlog ─────────▶
//!   rx queue ◀─────────── Table ◀─ Connection ◀ recvmsg into guest memory ── socket
//! ```
//!
//! What each part bounds: a connection holds at most [`BUFFER_SIZE`] bytes of the guest, which is
//! the credit that the guest is given, so that a host program that does not read holds up its own
//! connection and no other; for the other direction nothing is held at all, bytes leave the socket
//! when the guest has room for them. There are at most [`MAX_CONNECTIONS`]; further programs wait
//! in the listener's queue. Refusals that wait for a receive buffer of the guest are bounded too,
//! by not taking its packets.
//!
//! What the guest sent before its connection ended is still written to the host's socket.
//!
//! Threads: all of it runs on the device's thread; see `worker`.
//!
//! Known flaw: a program on the host cannot tell a connection that the guest reset from one that
//! ended well.

mod backlog;
mod connection;
mod device;
mod greeting;
mod packet;
mod table;
#[cfg(test)]
mod tests;
mod worker;

pub use device::Vsock;

use std::fmt;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;
use thiserror::Error;

/// Descriptors of the receive, the transmit and the event queue.
pub const QUEUE_SIZES: [u16; 3] = [128, 128, 4];

/// Most programs of the host with an open socket at a time, whatever its state.
pub const MAX_CONNECTIONS: usize = 1024;

/// Bytes of the guest that a connection holds until its host program reads.
pub const BUFFER_SIZE: u32 = 256 << 10;

/// Most bytes of data in one packet of the guest.
const MAX_PACKET_DATA: u32 = 64 << 10;

/// Time for a program on the host to say which port it wants.
const GREETING_TIME: Duration = Duration::from_secs(10);

/// Time for the guest to accept or refuse a connection.
const ANSWER_TIME: Duration = Duration::from_secs(30);

/// The host's address.
const HOST_CID: u64 = 2;

/// A guest's address: 32 bits of which 0 to 2 and the last, "any", are reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cid(u32);

impl TryFrom<u64> for Cid {
    type Error = VsockError;

    fn try_from(cid: u64) -> Result<Self, VsockError> {
        match u32::try_from(cid) {
            Ok(valid @ 3..=0xffff_fffe) => Ok(Self(valid)),
            _ => Err(VsockError::Cid(cid)),
        }
    }
}

impl From<Cid> for u64 {
    fn from(Cid(cid): Cid) -> Self {
        Self::from(cid)
    }
}

impl fmt::Display for Cid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The sockets of the device, all made beforehand.
#[derive(Debug)]
pub struct VsockConfig {
    /// The guest's address.
    pub guest_cid: Cid,
    /// Where programs on the host ask for connections to the guest.
    pub listener: UnixListener,
    /// Ports of the host that the guest may connect to, once each, and where they lead.
    pub guest_ports: Vec<(u32, UnixStream)>,
}

/// The device cannot be made.
#[derive(Debug, Error)]
pub enum VsockError {
    /// Reserved, or too large.
    #[error("{0} is no vsock address of a guest")]
    Cid(u64),
    /// Two sockets for one port.
    #[error("vsock port {0} is given twice")]
    Port(u32),
    /// Refused by the host's kernel.
    #[error("cannot create the epoll instance of the vsock device")]
    Epoll(#[source] io::Error),
    /// Refused by the host's kernel.
    #[error("cannot make the listener of the vsock device non-blocking")]
    Listener(#[source] io::Error),
}
