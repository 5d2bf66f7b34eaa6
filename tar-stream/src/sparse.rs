//! Sparse files: the four ways in which GNU tar writes where the data is.
//!
//! | kind | map |
//! |---|---|
//! | old GNU (type `S`) | in the header and extension blocks after it |
//! | PAX 0.0 | repeated `GNU.sparse.offset` and `GNU.sparse.numbytes` records |
//! | PAX 0.1 | `GNU.sparse.map`, numbers separated by commas |
//! | PAX 1.0 | lines of numbers ahead of the file's data, padded to a block |
//!
//! However it is written, it ends as a list of [`Piece`]s that ascend, do not overlap, lie within
//! the file and together are as long as the data in the archive: anything else is an error.

use crate::TarError;
use crate::header::octal_or_binary;
use crate::limits::MAX_SPARSE_PIECES;
use crate::pax::decimal;

/// A run of data in a sparse file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub offset: u64,
    pub length: u64,
}

/// The `GNU.sparse.*` records of a PAX header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PaxSparse {
    /// The file's name: that of the entry is made up.
    pub(crate) name: Option<Vec<u8>>,
    major: Option<u64>,
    minor: Option<u64>,
    /// `GNU.sparse.size` or `GNU.sparse.realsize`.
    size: Option<u64>,
    numbers: Vec<u64>,
    has_map: bool,
}

/// What a PAX header says of a sparse file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PaxSparseFile {
    /// Not sparse.
    No,
    /// The map is in the header.
    Map { size: u64, pieces: Vec<Piece> },
    /// The map is ahead of the data.
    MapInData { size: u64 },
}

impl PaxSparse {
    /// Takes the record `GNU.sparse.<key>`.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        let number = || decimal(value).ok_or(TarError::Sparse("number"));
        match key {
            b"name" => {
                if value.contains(&0) {
                    return Err(TarError::Nul);
                }
                self.name = Some(value.to_vec());
            }
            b"major" => self.major = Some(number()?),
            b"minor" => self.minor = Some(number()?),
            b"size" | b"realsize" => self.size = Some(number()?),
            // Pairs follow each other: an offset, then its length.
            b"offset" if self.numbers.len().is_multiple_of(2) => self.push(number()?)?,
            b"numbytes" if !self.numbers.len().is_multiple_of(2) => self.push(number()?)?,
            b"offset" | b"numbytes" => return Err(TarError::Sparse("order of the map")),
            b"map" => {
                if self.has_map {
                    return Err(TarError::Sparse("two maps"));
                }
                for text in value.split(|&byte| byte == b',').filter(|_| !value.is_empty()) {
                    self.push(decimal(text).ok_or(TarError::Sparse("map"))?)?;
                }
                self.has_map = true;
            }
            // The number of pairs says nothing that the pairs do not.
            _ => {}
        }
        Ok(())
    }

    fn push(&mut self, number: u64) -> Result<(), TarError> {
        self.has_map = true;
        push_bounded(&mut self.numbers, number)
    }

    /// What the records come to.
    pub(crate) fn file(&self) -> Result<PaxSparseFile, TarError> {
        let size = || self.size.ok_or(TarError::Sparse("no size"));
        match (self.major, self.minor) {
            (Some(1), Some(0) | None) if !self.has_map => {
                Ok(PaxSparseFile::MapInData { size: size()? })
            }
            (None | Some(0), _) if self.has_map => {
                Ok(PaxSparseFile::Map { size: size()?, pieces: pairs(&self.numbers)? })
            }
            (None, None) if self.size.is_none() => Ok(PaxSparseFile::No),
            _ => Err(TarError::Sparse("unknown version")),
        }
    }
}

fn push_bounded(numbers: &mut Vec<u64>, number: u64) -> Result<(), TarError> {
    if numbers.len() >= 2 * MAX_SPARSE_PIECES {
        return Err(TarError::Sparse("too many pieces"));
    }
    numbers.push(number);
    Ok(())
}

fn pairs(numbers: &[u64]) -> Result<Vec<Piece>, TarError> {
    let (pairs, rest) = numbers.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(TarError::Sparse("odd map"));
    }
    Ok(pairs.iter().map(|&[offset, length]| Piece { offset, length }).collect())
}

/// Adds the pairs of an old GNU header or extension block; an empty pair ends them.
pub(crate) fn push_gnu_pieces(pieces: &mut Vec<Piece>, fields: &[u8]) -> Result<(), TarError> {
    for pair in fields.as_chunks::<24>().0 {
        let (offset, length) = pair.split_at(12);
        if length.first() == Some(&0) {
            break;
        }
        let number = |field| {
            let number = octal_or_binary(field).and_then(|number| u64::try_from(number).ok());
            number.ok_or(TarError::Sparse("number"))
        };
        if pieces.len() >= MAX_SPARSE_PIECES {
            return Err(TarError::Sparse("too many pieces"));
        }
        pieces.push(Piece { offset: number(offset)?, length: number(length)? });
    }
    Ok(())
}

/// Collects the numbers of a PAX 1.0 map, which comes in blocks.
#[derive(Debug, Default)]
pub(crate) struct MapInData {
    line: Option<u64>,
    numbers: Vec<u64>,
    count: Option<u64>,
}

impl MapInData {
    /// Takes a block; the pieces once the map is complete, after which the data begins.
    pub(crate) fn push_block(&mut self, block: &[u8]) -> Result<Option<Vec<Piece>>, TarError> {
        let wrong = || TarError::Sparse("map");
        for &byte in block {
            if byte == b'\n' {
                let number = self.line.take().ok_or_else(wrong)?;
                match self.count {
                    Some(_) => push_bounded(&mut self.numbers, number)?,
                    None if number > MAX_SPARSE_PIECES as u64 => {
                        return Err(TarError::Sparse("too many pieces"));
                    }
                    None => self.count = Some(number),
                }
                if self.count.is_some_and(|count| self.numbers.len() as u64 == 2 * count) {
                    return pairs(&self.numbers).map(Some);
                }
                continue;
            }
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0')).ok_or_else(wrong)?;
            let line = self.line.unwrap_or(0).checked_mul(10).and_then(|n| n.checked_add(digit));
            self.line = Some(line.ok_or_else(wrong)?);
        }
        Ok(None)
    }
}

/// Checks a map against the file's size and the bytes of data in the archive.
pub(crate) fn check(pieces: &[Piece], size: u64, data: u64) -> Result<(), TarError> {
    let (mut end, mut total) = (0u64, 0u64);
    for piece in pieces {
        if piece.offset < end {
            return Err(TarError::Sparse("overlapping pieces"));
        }
        end = piece.offset.checked_add(piece.length).ok_or(TarError::Sparse("offset"))?;
        // Cannot overflow: the pieces do not overlap, so the sum is not above `end`.
        total += piece.length;
    }
    if end > size {
        return Err(TarError::Sparse("data beyond the end"));
    }
    if total != data {
        return Err(TarError::Sparse("pieces and data differ in length"));
    }
    Ok(())
}
