//! The reader itself: blocks to [`Member`]s, and their data.

use std::io;

use crate::header::{BLOCK, BLOCK_U64, Header, OCTAL_SIZE_LIMIT};
use crate::limits::MAX_TAR_META;
use crate::pax::{self, PaxHeader};
use crate::sparse::{self, MapInData, PaxSparseFile, Piece};
use crate::{Input, Member, MemberKind, TarError, Timestamp};

/// Takes the data of a file from its start to its end.
pub trait DataSink {
    /// Why it could not.
    type Error: From<TarError>;
    /// The next bytes of the file.
    fn data(&mut self, bytes: &[u8]) -> Result<(), Self::Error>;
    /// The next `length` bytes of the file are zeros.
    fn hole(&mut self, length: u64) -> Result<(), Self::Error>;
}

/// Reads an archive, entry by entry.
#[derive(Debug)]
pub struct TarReader<R> {
    input: R,
    /// Bytes read so far.
    position: u64,
    /// Bytes of the current entry's data that are not read yet, then of its padding.
    data: u64,
    padding: u64,
    /// Where the current entry's data goes; one piece unless the file is sparse.
    pieces: Vec<Piece>,
    /// Size of the current file.
    size: u64,
    ended: bool,
}

/// What extended headers said ahead of an entry.
#[derive(Default)]
struct Extended {
    pax: Option<PaxHeader>,
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl<R: Input> TarReader<R> {
    pub fn new(input: R) -> Self {
        let pieces = Vec::new();
        Self { input, position: 0, data: 0, padding: 0, pieces, size: 0, ended: false }
    }

    /// Where in the stream the next unread byte is: after [`Self::next_member`], where the
    /// member's data begins.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Whether the current member's data in the archive is the file as it is.
    pub fn is_plain(&self) -> bool {
        matches!(self.pieces[..], [Piece { offset: 0, length }] if length == self.size)
            || self.size == 0
    }

    /// The next member, passing over what is left of the current one; `None` after the last.
    pub fn next_member(&mut self) -> Result<Option<Member>, TarError> {
        let mut extended = Extended::default();
        loop {
            self.finish_member()?;
            let Some(header) = self.next_header()? else {
                if extended.pax.is_some() || extended.path.is_some() || extended.link.is_some() {
                    return Err(TarError::Truncated);
                }
                return Ok(None);
            };
            match header.kind() {
                b'x' => {
                    let parsed = PaxHeader::parse(&self.read_meta(&header)?)?;
                    set_once(&mut extended.pax, parsed, "PAX header")?;
                }
                b'g' => pax::check_global(&self.read_meta(&header)?)?,
                b'L' => {
                    let name = long_name(self.read_meta(&header)?)?;
                    set_once(&mut extended.path, name, "long name")?;
                }
                b'K' => {
                    let name = long_name(self.read_meta(&header)?)?;
                    set_once(&mut extended.link, name, "long link name")?;
                }
                // GNU volume label.
                b'V' => self.set_data(header.size()?, Vec::new())?,
                _ => return self.member(&header, extended).map(Some),
            }
        }
    }

    /// Hands the current member's data to `sink`, holes and all, to the end of the file.
    pub fn read_data<S: DataSink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        let mut at = 0;
        for piece in std::mem::take(&mut self.pieces) {
            if piece.offset > at {
                sink.hole(piece.offset - at)?;
            }
            at = piece.offset + piece.length;
            let mut left = piece.length;
            while left > 0 {
                let bytes = self.input.fill_buf().map_err(read_error)?;
                if bytes.is_empty() {
                    return Err(TarError::Truncated.into());
                }
                let step = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                let (bytes, _) = bytes.split_at(step);
                sink.data(bytes)?;
                self.input.consume(step);
                self.position += step as u64;
                self.data -= step as u64;
                left -= step as u64;
            }
        }
        if self.size > at {
            sink.hole(self.size - at)?;
        }
        Ok(())
    }

    fn finish_member(&mut self) -> Result<(), TarError> {
        let rest = self.data.checked_add(self.padding).ok_or(TarError::Truncated)?;
        self.input.skip(rest).map_err(read_error)?;
        self.position = self.position.checked_add(rest).ok_or(TarError::Truncated)?;
        (self.data, self.padding) = (0, 0);
        self.pieces.clear();
        Ok(())
    }

    /// The next header block; `None` at the end mark or the end of the stream.
    fn next_header(&mut self) -> Result<Option<Header>, TarError> {
        if self.ended || self.input.fill_buf().map_err(read_error)?.is_empty() {
            self.ended = true;
            return Ok(None);
        }
        let at = self.position;
        let block = self.read_block()?;
        if block == [0; BLOCK] {
            // The end mark is two such blocks; one with nothing after it is taken as well.
            self.ended = true;
            let more = !self.input.fill_buf().map_err(read_error)?.is_empty();
            if more && self.read_block()? != [0; BLOCK] {
                return Err(TarError::Header(at));
            }
            return Ok(None);
        }
        Header::new(block).map(Some).ok_or(TarError::Header(at))
    }

    fn read_block(&mut self) -> Result<[u8; BLOCK], TarError> {
        let mut block = [0; BLOCK];
        self.input.read_exact(&mut block).map_err(read_error)?;
        self.position += BLOCK_U64;
        Ok(block)
    }

    /// The data of a header that only says something of the next one.
    fn read_meta(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let size = header.size()?;
        if size > MAX_TAR_META {
            return Err(TarError::TooLong { what: "an extended header", limit: MAX_TAR_META });
        }
        let length = usize::try_from(size).map_err(|_| TarError::Truncated)?;
        let mut data = vec![0; length];
        self.input.read_exact(&mut data).map_err(read_error)?;
        self.position += size;
        self.padding = padding(size);
        Ok(data)
    }

    fn set_data(&mut self, data: u64, pieces: Vec<Piece>) -> Result<(), TarError> {
        self.data = data;
        self.padding = padding(data);
        self.pieces = pieces;
        Ok(())
    }

    fn member(&mut self, header: &Header, extended: Extended) -> Result<Member, TarError> {
        let pax = extended.pax.unwrap_or_default();
        if extended.path.is_some() && pax.path.is_some() {
            return Err(TarError::Repeated("name"));
        }
        if extended.link.is_some() && pax.link.is_some() {
            return Err(TarError::Repeated("link name"));
        }
        let sparse_name = pax.sparse.name.clone();
        let path = sparse_name.or(pax.path).or(extended.path).unwrap_or_else(|| header.path());
        let link = pax.link.or(extended.link).unwrap_or_else(|| header.link().to_vec());
        let kind = member_kind(header, &path)?;
        let stored = stored_size(header.size()?, pax.size)?;
        self.size = 0;
        match kind {
            MemberKind::Regular => {
                let sparse = pax.sparse.file()?;
                self.set_file_data(header, stored, sparse)?;
            }
            // GNU tar and Go's reader agree that no data follows a hard link, whatever its size.
            MemberKind::HardLink => {}
            _ if stored != 0 => return Err(TarError::UnexpectedData(stored)),
            _ => {}
        }
        let is_link = matches!(kind, MemberKind::HardLink | MemberKind::Symlink);
        let mtime = || {
            let seconds = header.mtime()?;
            Ok::<_, TarError>(Timestamp { seconds, nanoseconds: 0 })
        };
        Ok(Member {
            path,
            kind,
            mode: header.mode()?,
            uid: owner(pax.uid.map_or_else(|| header.uid(), Ok)?, "uid")?,
            gid: owner(pax.gid.map_or_else(|| header.gid(), Ok)?, "gid")?,
            mtime: pax.mtime.map_or_else(mtime, Ok)?,
            link: if is_link { link } else { Vec::new() },
            size: self.size,
            xattrs: pax.xattrs,
        })
    }

    /// Finds out where the data of a regular file goes, reading the map ahead of it if there is one.
    fn set_file_data(
        &mut self,
        header: &Header,
        stored: u64,
        sparse: PaxSparseFile,
    ) -> Result<(), TarError> {
        self.set_data(stored, Vec::new())?;
        let (size, pieces) = match (sparse, header.kind()) {
            (PaxSparseFile::No, b'S') => {
                let (fields, mut more, size) = header.gnu_sparse()?;
                let mut pieces = Vec::new();
                sparse::push_gnu_pieces(&mut pieces, fields)?;
                while more {
                    // Extension blocks come before the data and are not counted in its size.
                    let block = self.read_block()?;
                    let (fields, rest) = block.split_at(504);
                    sparse::push_gnu_pieces(&mut pieces, fields)?;
                    more = rest.first() != Some(&0);
                    if pieces.is_empty() {
                        return Err(TarError::Sparse("empty map"));
                    }
                }
                (size, pieces)
            }
            (_, b'S') => return Err(TarError::Sparse("two maps")),
            (PaxSparseFile::No, _) => (stored, vec![Piece { offset: 0, length: stored }]),
            (PaxSparseFile::Map { size, pieces }, _) => (size, pieces),
            (PaxSparseFile::MapInData { size }, _) => (size, self.read_map()?),
        };
        sparse::check(&pieces, size, self.data)?;
        (self.size, self.pieces) = (size, pieces);
        Ok(())
    }

    fn read_map(&mut self) -> Result<Vec<Piece>, TarError> {
        let mut map = MapInData::default();
        loop {
            self.data = self.data.checked_sub(BLOCK_U64).ok_or(TarError::Sparse("map"))?;
            let block = self.read_block()?;
            if let Some(pieces) = map.push_block(&block)? {
                return Ok(pieces);
            }
        }
    }
}

fn padding(size: u64) -> u64 {
    (BLOCK_U64 - size % BLOCK_U64) % BLOCK_U64
}

fn read_error(error: io::Error) -> TarError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof if error.get_ref().is_none() => TarError::Truncated,
        _ => TarError::Read(error),
    }
}

fn set_once<T>(slot: &mut Option<T>, value: T, what: &'static str) -> Result<(), TarError> {
    if slot.replace(value).is_some() {
        return Err(TarError::Repeated(what));
    }
    Ok(())
}

/// The name in a GNU `L` or `K` entry, which ends with a NUL.
fn long_name(mut data: Vec<u8>) -> Result<Vec<u8>, TarError> {
    let end = data.iter().position(|&byte| byte == 0).unwrap_or(data.len());
    if data.iter().skip(end).any(|&byte| byte != 0) {
        return Err(TarError::Nul);
    }
    data.truncate(end);
    Ok(data)
}

/// The PAX size counts. A header that could have said the same and says something else is a
/// second opinion on where the next header is.
fn stored_size(header: u64, pax: Option<u64>) -> Result<u64, TarError> {
    match pax {
        // At and above the limit an octal header says nothing of use; one in base 256 would.
        Some(pax) if pax != header && (pax < OCTAL_SIZE_LIMIT || header >= OCTAL_SIZE_LIMIT) => {
            Err(TarError::SizeConflict { header, pax })
        }
        Some(pax) => Ok(pax),
        None => Ok(header),
    }
}

fn owner(id: u64, field: &'static str) -> Result<u32, TarError> {
    match u32::try_from(id) {
        // The largest means "nobody in particular" to chown(2).
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(TarError::Number { field }),
    }
}

fn member_kind(header: &Header, path: &[u8]) -> Result<MemberKind, TarError> {
    // What the kernel's 32-bit device numbers, and so EROFS, can hold.
    let device = || {
        let (major, minor) = header.device()?;
        if major > 0xfff || minor > 0xf_ffff {
            return Err(TarError::Number { field: "device number" });
        }
        let narrow = |number| u32::try_from(number).unwrap_or_default();
        Ok((narrow(major), narrow(minor)))
    };
    Ok(match header.kind() {
        // Before ustar a directory was a file whose name ends so, and GNU tar still takes it.
        0 | b'0' | b'7' if path.ends_with(b"/") => MemberKind::Directory,
        0 | b'0' | b'7' | b'S' => MemberKind::Regular,
        b'1' => MemberKind::HardLink,
        b'2' => MemberKind::Symlink,
        b'3' => device().map(|(major, minor)| MemberKind::CharDevice { major, minor })?,
        b'4' => device().map(|(major, minor)| MemberKind::BlockDevice { major, minor })?,
        b'5' => MemberKind::Directory,
        b'6' => MemberKind::Fifo,
        other => return Err(TarError::Type(char::from(other))),
    })
}
