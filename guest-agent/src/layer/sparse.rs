//! Where a file has data. A file with large holes goes into a layer as GNU tar writes it (PAX format
//! 1.0): a map of the pieces, then the pieces, so that holes cost nothing.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::{self, Errno};

use super::tar::BLOCK;

/// Bytes of holes that are worth a map.
const WORTH_A_MAP: u64 = 64 << 10;

/// Most pieces, half of what the host allows; the last one takes the holes behind it along.
const MAX_PIECES: usize = 1 << 15;

/// A run of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// The pieces of a file, if it is worth to write it by pieces.
pub(super) fn pieces(file: &File, metadata: &Metadata) -> io::Result<Option<Vec<Piece>>> {
    let size = metadata.len();
    // Blocks are of 512 bytes; those of the file's map count too, so this may see fewer holes.
    if metadata.blocks().saturating_mul(512).saturating_add(WORTH_A_MAP) > size {
        return Ok(None);
    }
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) if start < size => start,
            Ok(_) | Err(Errno::NXIO) => break,
            Err(error) => return Err(error),
        };
        let is_last = pieces.len() + 1 == MAX_PIECES;
        at = if is_last { size } else { seek(file, SeekFrom::Hole(start))?.min(size) };
        // A file that changes meanwhile must not keep this here for ever.
        if at <= start {
            break;
        }
        pieces.push(Piece { offset: start, length: at - start });
    }
    let holes = size - pieces.iter().map(|piece| piece.length).sum::<u64>();
    seek(file, SeekFrom::Start(0))?;
    Ok((holes >= WORTH_A_MAP).then_some(pieces))
}

/// The map ahead of the pieces, in whole blocks. A last, empty piece says where the file ends.
pub(super) fn map(pieces: &[Piece], size: u64) -> Vec<u8> {
    let mut map = format!("{}\n", pieces.len() + 1);
    for piece in pieces.iter().chain([&Piece { offset: size, length: 0 }]) {
        map.push_str(&format!("{}\n{}\n", piece.offset, piece.length));
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}
