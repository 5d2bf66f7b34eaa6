//! The header of a vsock packet (VirtIO 1.2 §5.10.6). Pure parsing and encoding of bytes.

use crate::virtqueue::{Segments, ShortChain};

/// Bytes of a header.
pub(super) const HEADER_SIZE: usize = 44;

/// Type of stream sockets, the only ones offered.
pub(super) const STREAM: u16 = 1;

/// Bits of [`Header::flags`] in a [`Operation::Shutdown`].
pub(super) const SHUTDOWN_RECEIVE: u32 = 1;
pub(super) const SHUTDOWN_SEND: u32 = 2;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Request,
    Response,
    Reset,
    Shutdown,
    Data,
    CreditUpdate,
    CreditRequest,
}

impl Operation {
    pub(super) fn code(self) -> u16 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Reset => 3,
            Self::Shutdown => 4,
            Self::Data => 5,
            Self::CreditUpdate => 6,
            Self::CreditRequest => 7,
        }
    }

    pub(super) fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Reset,
            4 => Self::Shutdown,
            5 => Self::Data,
            6 => Self::CreditUpdate,
            7 => Self::CreditRequest,
            _ => return None,
        })
    }
}

/// A header, field by field as on the wire; nothing in it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) src_cid: u64,
    pub(super) dst_cid: u64,
    pub(super) src_port: u32,
    pub(super) dst_port: u32,
    /// Bytes of data that follow.
    pub(super) len: u32,
    pub(super) kind: u16,
    pub(super) operation: u16,
    pub(super) flags: u32,
    /// Bytes that the sender can hold.
    pub(super) buf_alloc: u32,
    /// Bytes that the sender has passed on, modulo 2^32.
    pub(super) fwd_cnt: u32,
}

impl Header {
    /// Consumes a header at the front of `packet`.
    pub(super) fn read(packet: &mut Segments<'_>) -> Result<Self, ShortChain> {
        let mut bytes = [0; HEADER_SIZE];
        packet.read_exact(&mut bytes)?;
        let rest = &mut bytes.as_slice();
        Ok(Self {
            src_cid: u64::from_le_bytes(take(rest)?),
            dst_cid: u64::from_le_bytes(take(rest)?),
            src_port: u32::from_le_bytes(take(rest)?),
            dst_port: u32::from_le_bytes(take(rest)?),
            len: u32::from_le_bytes(take(rest)?),
            kind: u16::from_le_bytes(take(rest)?),
            operation: u16::from_le_bytes(take(rest)?),
            flags: u32::from_le_bytes(take(rest)?),
            buf_alloc: u32::from_le_bytes(take(rest)?),
            fwd_cnt: u32::from_le_bytes(take(rest)?),
        })
    }

    /// The header as it goes to the front of a packet.
    pub(super) fn encode(&self) -> [u8; HEADER_SIZE] {
        let fields = (self.src_cid.to_le_bytes().into_iter())
            .chain(self.dst_cid.to_le_bytes())
            .chain(self.src_port.to_le_bytes())
            .chain(self.dst_port.to_le_bytes())
            .chain(self.len.to_le_bytes())
            .chain(self.kind.to_le_bytes())
            .chain(self.operation.to_le_bytes())
            .chain(self.flags.to_le_bytes())
            .chain(self.buf_alloc.to_le_bytes())
            .chain(self.fwd_cnt.to_le_bytes());
        let mut bytes = [0; HEADER_SIZE];
        for (to, from) in bytes.iter_mut().zip(fields) {
            *to = from;
        }
        bytes
    }
}

/// Takes the next field off `rest`.
fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ShortChain> {
    let (field, after) = rest.split_first_chunk().ok_or(ShortChain)?;
    *rest = after;
    Ok(*field)
}
