//! Where a file has data. A file with large holes goes into a layer by its pieces, so that holes cost
//! nothing.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;

use rustix::fs::{SeekFrom, seek};
use rustix::io::{self, Errno};
use tar_stream::Piece;
use tar_stream::limits::MAX_SPARSE_PIECES;

/// Bytes of holes that are worth a map.
const WORTH_A_MAP: u64 = 64 << 10;

/// Most pieces of a file; the last one takes the holes behind it along. The map has one more.
const MAX_PIECES: usize = MAX_SPARSE_PIECES - 1;

/// The pieces of a file, if it is worth to write it by pieces.
pub(super) fn pieces(file: &File, metadata: &Metadata) -> io::Result<Option<Vec<Piece>>> {
    let size = metadata.len();
    // Blocks are of 512 bytes. Those of the file system's own map of the file count too, so this may
    // see fewer holes than there are.
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
    Ok((holes >= WORTH_A_MAP).then_some(pieces))
}
