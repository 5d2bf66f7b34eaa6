//! Parsing a request of the guest (VirtIO 1.2 §5.2.6). Pure: nothing is read, written or changed
//! on a disk here, and everything that comes out lies within the disk.

use super::{MAX_RANGE_SECTORS, MAX_RANGES, SECTOR_SIZE};
use crate::virtqueue::{ByteSlot, Chain, Segments, ShortChain};
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_S_IOERR, VIRTIO_BLK_S_OK, VIRTIO_BLK_S_UNSUPP, VIRTIO_BLK_T_DISCARD,
    VIRTIO_BLK_T_FLUSH, VIRTIO_BLK_T_GET_ID, VIRTIO_BLK_T_IN, VIRTIO_BLK_T_OUT,
    VIRTIO_BLK_T_WRITE_ZEROES, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
};

/// Bytes of `struct virtio_blk_req` before the data.
const HEADER_SIZE: usize = 16;

/// Bytes of one range of a discard or write-zeroes request.
const RANGE_SIZE: usize = 16;

/// What the disk allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Bytes.
    pub(super) size: u64,
    pub(super) read_only: bool,
}

/// Answer to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Ok,
    IoError,
    Unsupported,
}

impl Verdict {
    fn status(self) -> u8 {
        let status = match self {
            Self::Ok => VIRTIO_BLK_S_OK,
            Self::IoError => VIRTIO_BLK_S_IOERR,
            Self::Unsupported => VIRTIO_BLK_S_UNSUPP,
        };
        status.to_le_bytes()[0]
    }
}

impl From<ShortChain> for Verdict {
    fn from(ShortChain: ShortChain) -> Self {
        Self::IoError
    }
}

/// A part of the disk in bytes, known to be inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// What is asked. Data of reads and writes stays in the chain: all that is left of its writable or
/// readable part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Read(Range),
    Write(Range),
    Flush,
    GetId,
    /// The contents are of no more use.
    Discard(Vec<Range>),
    /// The contents are zero from now on; `unmap` if the space may be given back.
    WriteZeroes(Vec<ZeroRange>),
}

/// One range of a write-zeroes request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ZeroRange {
    pub(super) range: Range,
    pub(super) unmap: bool,
}

/// Where the verdict goes: the last writable byte of the chain.
#[derive(Debug)]
pub(super) struct StatusByte<'m>(ByteSlot<'m>);

impl StatusByte<'_> {
    pub(super) fn write(self, verdict: Verdict) {
        self.0.write(verdict.status());
    }
}

/// Parses the request in `chain`; none if there is no byte to put the verdict in.
pub(super) fn parse<'m>(
    chain: &mut Chain<'m>,
    limits: Limits,
) -> Option<(StatusByte<'m>, Result<Operation, Verdict>)> {
    let status = StatusByte(chain.writable.split_last()?);
    Some((status, parse_operation(chain, limits)))
}

fn parse_operation(chain: &mut Chain<'_>, limits: Limits) -> Result<Operation, Verdict> {
    let mut header = [0; HEADER_SIZE];
    chain.readable.read_exact(&mut header)?;
    let [t0, t1, t2, t3, _, _, _, _, sector @ ..] = header;
    let sector = u64::from_le_bytes(sector);
    match u32::from_le_bytes([t0, t1, t2, t3]) {
        VIRTIO_BLK_T_IN => Ok(Operation::Read(data_range(sector, &chain.writable, limits)?)),
        VIRTIO_BLK_T_GET_ID => Ok(Operation::GetId),
        VIRTIO_BLK_T_OUT if limits.read_only => Err(Verdict::IoError),
        VIRTIO_BLK_T_OUT => Ok(Operation::Write(data_range(sector, &chain.readable, limits)?)),
        // The features of these are not offered by a read-only disk.
        _ if limits.read_only => Err(Verdict::Unsupported),
        VIRTIO_BLK_T_FLUSH => Ok(Operation::Flush),
        VIRTIO_BLK_T_DISCARD => {
            let ranges = zero_ranges(&mut chain.readable, limits)?;
            // VirtIO 1.2 §5.2.6.2: the flag has no meaning for a discard.
            if ranges.iter().any(|range| range.unmap) {
                return Err(Verdict::Unsupported);
            }
            Ok(Operation::Discard(ranges.into_iter().map(|range| range.range).collect()))
        }
        VIRTIO_BLK_T_WRITE_ZEROES => {
            Ok(Operation::WriteZeroes(zero_ranges(&mut chain.readable, limits)?))
        }
        _ => Err(Verdict::Unsupported),
    }
}

/// The part of the disk that `data` is for.
fn data_range(sector: u64, data: &Segments<'_>, limits: Limits) -> Result<Range, Verdict> {
    let length = u64::try_from(data.len()).map_err(|_| Verdict::IoError)?;
    if !length.is_multiple_of(SECTOR_SIZE) {
        return Err(Verdict::IoError);
    }
    disk_range(sector, length, limits)
}

fn disk_range(sector: u64, length: u64, limits: Limits) -> Result<Range, Verdict> {
    let offset = sector.checked_mul(SECTOR_SIZE).ok_or(Verdict::IoError)?;
    let end = offset.checked_add(length).ok_or(Verdict::IoError)?;
    if length == 0 || end > limits.size {
        return Err(Verdict::IoError);
    }
    Ok(Range { offset, length })
}

fn zero_ranges(data: &mut Segments<'_>, limits: Limits) -> Result<Vec<ZeroRange>, Verdict> {
    let count = data.len() / RANGE_SIZE;
    let fits = u32::try_from(count).is_ok_and(|count| count <= MAX_RANGES);
    if data.is_empty() || !data.len().is_multiple_of(RANGE_SIZE) || !fits {
        return Err(Verdict::IoError);
    }
    (0..count).map(|_| zero_range(data, limits)).collect()
}

fn zero_range(data: &mut Segments<'_>, limits: Limits) -> Result<ZeroRange, Verdict> {
    let (mut sector, mut sectors, mut flags) = ([0; 8], [0; 4], [0; 4]);
    data.read_exact(&mut sector)?;
    data.read_exact(&mut sectors)?;
    data.read_exact(&mut flags)?;
    let sectors = u32::from_le_bytes(sectors);
    let flags = u32::from_le_bytes(flags);
    if flags & !VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP != 0 {
        return Err(Verdict::Unsupported);
    }
    if sectors > MAX_RANGE_SECTORS {
        return Err(Verdict::IoError);
    }
    let length = u64::from(sectors) * SECTOR_SIZE;
    let range = disk_range(u64::from_le_bytes(sector), length, limits)?;
    Ok(ZeroRange { range, unmap: flags != 0 })
}
