//! The index of a layer: its entries in tar order, in a compact file.
//!
//! ```text
//! header, 48 bytes, little endian
//!   0  magic "vmrunidx"
//!   8  u32 version
//!  12  u32 CRC-32C of the body, then of the header with this field 0
//!  16  u64 entries
//!  24  u64 bytes of the body
//!  32  u64 bytes of the layer's files, each counted once
//!  40  u64 bytes of the layer's blob
//! body, for each entry (numbers are LEB128; signed ones zigzag first)
//!   kind · bytes shared with the path before · rest of the path
//!   unless a whiteout: mode · uid · gid · seconds · nanoseconds · what the kind needs ·
//!                      number of attributes · (name · value)…
//! ```
//!
//! It is the store's own file, yet it is read as if it were not: a damaged one is an error, and
//! every limit that held when it was written is checked again, blob bounds above all.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::entry::{check_symlink, normalise};
use super::{BLOCK, Entry, EntryKind};
use crate::StoreError;
use crate::files::{create_new, io_error};
use crate::limits::{MAX_XATTR_VALUE, MAX_XATTRS};
use crate::tar::Timestamp;

const MAGIC: &[u8; 8] = b"vmrunidx";
const VERSION: u32 = 1;
const HEADER: usize = 48;

/// Why an index cannot be read.
#[derive(Debug, Error)]
pub(crate) enum IndexError {
    #[error("not an index of version {VERSION}")]
    Version,
    #[error("checksum is wrong")]
    Checksum,
    #[error("malformed entry {0}")]
    Entry(u64),
}

/// An index that is being written.
#[derive(Debug)]
pub(crate) struct IndexWriter {
    out: BufWriter<File>,
    path: PathBuf,
    scratch: Vec<u8>,
    last_path: Vec<u8>,
    crc: u32,
    entries: u64,
    bytes: u64,
}

impl IndexWriter {
    pub(crate) fn create(path: &Path) -> Result<Self, StoreError> {
        let mut out = BufWriter::with_capacity(128 << 10, create_new(path)?);
        out.write_all(&[0; HEADER]).map_err(io_error("write", path))?;
        Ok(Self {
            out,
            path: path.to_owned(),
            scratch: Vec::new(),
            last_path: Vec::new(),
            crc: 0,
            entries: 0,
            bytes: 0,
        })
    }

    /// Entries written so far.
    pub(crate) fn entries(&self) -> u64 {
        self.entries
    }

    /// Bytes written so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn push(&mut self, entry: &Entry) -> Result<(), StoreError> {
        self.scratch.clear();
        encode(&mut self.scratch, entry, &self.last_path);
        self.last_path.clone_from(&entry.path);
        self.crc = crc32c::crc32c_append(self.crc, &self.scratch);
        self.entries += 1;
        self.bytes += self.scratch.len() as u64;
        self.out.write_all(&self.scratch).map_err(io_error("write", &self.path))
    }

    /// Ends the index and makes it durable.
    pub(crate) fn finish(self, file_bytes: u64, blob_size: u64) -> Result<(), StoreError> {
        let Self { out, path, crc, entries, bytes, .. } = self;
        let file =
            out.into_inner().map_err(|error| io_error("write", &path)(error.into_error()))?;
        let mut header = Vec::with_capacity(HEADER);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        for number in [entries, bytes, file_bytes, blob_size] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32c::crc32c_append(crc, &header);
        let (head, tail) = header.split_at(12);
        let header = [head, &crc.to_le_bytes(), tail.get(4..).unwrap_or_default()].concat();
        file.write_all_at(&header, 0).map_err(io_error("write", &path))?;
        file.sync_all().map_err(io_error("sync", &path))
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    loop {
        let low = u8::try_from(number & 0x7f).unwrap_or_default();
        number >>= 7;
        if number == 0 {
            out.push(low);
            return;
        }
        out.push(low | 0x80);
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Codes of [`EntryKind`].
mod code {
    pub(super) const REGULAR: u64 = 0;
    pub(super) const HARD_LINK: u64 = 1;
    pub(super) const SYMLINK: u64 = 2;
    pub(super) const DIRECTORY: u64 = 3;
    pub(super) const FIFO: u64 = 4;
    pub(super) const CHAR_DEVICE: u64 = 5;
    pub(super) const BLOCK_DEVICE: u64 = 6;
    pub(super) const WHITEOUT: u64 = 7;
    pub(super) const OPAQUE: u64 = 8;
}

fn encode(out: &mut Vec<u8>, entry: &Entry, last_path: &[u8]) {
    put_number(
        out,
        match entry.kind {
            EntryKind::Regular { .. } => code::REGULAR,
            EntryKind::HardLink(_) => code::HARD_LINK,
            EntryKind::Symlink(_) => code::SYMLINK,
            EntryKind::Directory => code::DIRECTORY,
            EntryKind::Fifo => code::FIFO,
            EntryKind::CharDevice { .. } => code::CHAR_DEVICE,
            EntryKind::BlockDevice { .. } => code::BLOCK_DEVICE,
            EntryKind::Whiteout => code::WHITEOUT,
            EntryKind::Opaque => code::OPAQUE,
        },
    );
    let shared = entry.path.iter().zip(last_path).take_while(|(a, b)| a == b).count();
    put_number(out, shared as u64);
    put_bytes(out, entry.path.get(shared..).unwrap_or_default());
    if matches!(entry.kind, EntryKind::Whiteout | EntryKind::Opaque) {
        return;
    }
    put_number(out, u64::from(entry.mode));
    put_number(out, u64::from(entry.uid));
    put_number(out, u64::from(entry.gid));
    let seconds = entry.mtime.seconds;
    put_number(out, ((seconds << 1) ^ (seconds >> 63)).cast_unsigned());
    put_number(out, u64::from(entry.mtime.nanoseconds));
    match &entry.kind {
        EntryKind::Regular { size, block } => {
            put_number(out, *size);
            put_number(out, *block);
        }
        EntryKind::HardLink(target) | EntryKind::Symlink(target) => put_bytes(out, target),
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            put_number(out, u64::from(*major));
            put_number(out, u64::from(*minor));
        }
        _ => {}
    }
    put_number(out, entry.xattrs.len() as u64);
    for (name, value) in &entry.xattrs {
        put_bytes(out, name);
        put_bytes(out, value);
    }
}

/// An index in memory.
#[derive(Debug)]
pub(crate) struct Index {
    file: Vec<u8>,
    entries: u64,
    file_bytes: u64,
    blob_size: u64,
}

impl Index {
    /// Checks the header and the checksum of an index.
    pub(crate) fn parse(file: Vec<u8>) -> Result<Self, IndexError> {
        let (header, body) = file.split_at_checked(HEADER).ok_or(IndexError::Version)?;
        let magic = [&MAGIC[..], &VERSION.to_le_bytes()].concat();
        let fields = header.strip_prefix(&magic[..]).ok_or(IndexError::Version)?;
        let (crc, numbers) = fields.split_at(4);
        let header_without = [&magic[..], &[0; 4], numbers].concat();
        let expected = crc32c::crc32c_append(crc32c::crc32c(body), &header_without);
        if crc != expected.to_le_bytes() {
            return Err(IndexError::Checksum);
        }
        let number = |at: usize| numbers.as_chunks::<8>().0.get(at).map(|b| u64::from_le_bytes(*b));
        let (Some(entries), Some(bytes), Some(file_bytes), Some(blob_size)) =
            (number(0), number(1), number(2), number(3))
        else {
            return Err(IndexError::Version);
        };
        if bytes != body.len() as u64 || !blob_size.is_multiple_of(BLOCK) {
            return Err(IndexError::Version);
        }
        Ok(Self { file, entries, file_bytes, blob_size })
    }

    /// Bytes of the layer's files, each counted once however many names it has.
    pub(crate) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Bytes of the layer's blob, a multiple of [`BLOCK`].
    pub(crate) fn blob_size(&self) -> u64 {
        self.blob_size
    }

    /// What [`Index::file_bytes`] of that file would say, without a look at its entries.
    pub(crate) fn read_file_bytes(path: &Path) -> Result<u64, StoreError> {
        let mut header = [0; HEADER];
        let file = File::open(path).map_err(io_error("open", path))?;
        file.read_exact_at(&mut header, 0).map_err(io_error("read", path))?;
        if !header.starts_with(MAGIC) {
            let source = IndexError::Version.into();
            return Err(StoreError::Damaged { path: path.to_owned(), source });
        }
        let number = header.as_chunks::<8>().0.get(4);
        Ok(number.map_or(0, |bytes| u64::from_le_bytes(*bytes)))
    }

    /// The entries in tar order.
    pub(crate) fn entries(&self) -> Entries<'_> {
        let rest = self.file.get(HEADER..).unwrap_or_default();
        Entries { rest, at: 0, index: self, path: Vec::new() }
    }
}

/// Iterates over an index; ends after the first error.
#[derive(Debug)]
pub(crate) struct Entries<'a> {
    rest: &'a [u8],
    at: u64,
    index: &'a Index,
    path: Vec<u8>,
}

impl Iterator for Entries<'_> {
    type Item = Result<Entry, IndexError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.index.entries {
            // Bytes beyond the last entry are as wrong as too few.
            let rest = std::mem::take(&mut self.rest);
            return (!rest.is_empty()).then_some(Err(IndexError::Entry(self.at)));
        }
        let entry = self.decode();
        self.at = if entry.is_some() { self.at + 1 } else { self.index.entries };
        if entry.is_none() {
            self.rest = &[];
        }
        Some(entry.ok_or(IndexError::Entry(self.at)))
    }
}

impl Entries<'_> {
    fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Option<T> {
        T::try_from(self.number()?).ok()
    }

    fn bytes(&mut self) -> Option<Vec<u8>> {
        let length = self.small()?;
        let (bytes, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(bytes.to_vec())
    }

    fn decode(&mut self) -> Option<Entry> {
        let kind = self.number()?;
        let shared: usize = self.small()?;
        if shared > self.path.len() {
            return None;
        }
        self.path.truncate(shared);
        let rest = self.bytes()?;
        self.path.extend_from_slice(&rest);
        let path = self.path.clone();
        // Only the root's path is empty, and only a path that is normal already is left as it is.
        if !path.is_empty() && normalise(&path).ok()? != path {
            return None;
        }
        let without = |kind| {
            let (path, mtime, xattrs) = (path.clone(), Timestamp::default(), Vec::new());
            Some(Entry { path, kind, mode: 0, uid: 0, gid: 0, mtime, xattrs })
        };
        match kind {
            code::WHITEOUT => return without(EntryKind::Whiteout),
            code::OPAQUE => return without(EntryKind::Opaque),
            _ => {}
        }
        let mode: u16 = self.small()?;
        let (uid, gid) = (self.small()?, self.small()?);
        let zigzag = self.number()?;
        let seconds = (zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed();
        let nanoseconds = self.small()?;
        let kind = self.kind(kind)?;
        let xattrs = self.xattrs()?;
        let valid = mode <= 0o7777 && nanoseconds < 1_000_000_000;
        let mtime = Timestamp { seconds, nanoseconds };
        valid.then_some(Entry { path, kind, mode, uid, gid, mtime, xattrs })
    }

    fn kind(&mut self, code: u64) -> Option<EntryKind> {
        Some(match code {
            code::REGULAR => {
                let (size, block): (u64, u64) = (self.number()?, self.number()?);
                let end = block.checked_mul(BLOCK)?.checked_add(size)?;
                if end > self.index.blob_size {
                    return None;
                }
                EntryKind::Regular { size, block }
            }
            code::HARD_LINK => {
                let target = self.bytes()?;
                if normalise(&target).ok()? != target {
                    return None;
                }
                EntryKind::HardLink(target)
            }
            code::SYMLINK => {
                let target = self.bytes()?;
                check_symlink(&target).ok()?;
                EntryKind::Symlink(target)
            }
            code::DIRECTORY => EntryKind::Directory,
            code::FIFO => EntryKind::Fifo,
            code::CHAR_DEVICE => {
                EntryKind::CharDevice { major: self.small()?, minor: self.small()? }
            }
            code::BLOCK_DEVICE => {
                EntryKind::BlockDevice { major: self.small()?, minor: self.small()? }
            }
            _ => return None,
        })
    }

    fn xattrs(&mut self) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
        let count = self.number()?;
        let (mut xattrs, mut total) = (Vec::new(), 0usize);
        for _ in 0..count {
            let (name, value) = (self.bytes()?, self.bytes()?);
            total = total.checked_add(name.len())?.checked_add(value.len())?;
            if name.len() > 255 || value.len() > MAX_XATTR_VALUE || total > MAX_XATTRS {
                return None;
            }
            xattrs.push((name, value));
        }
        Some(xattrs)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(entries: &[Entry]) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let mut writer = IndexWriter::create(&path).unwrap();
        for entry in entries {
            writer.push(entry).unwrap();
        }
        writer.finish(10240, 16 * BLOCK).unwrap();
        std::fs::read(path).unwrap()
    }

    fn entry(path: &[u8], kind: EntryKind) -> Entry {
        Entry {
            path: path.to_vec(),
            kind,
            mode: 0o4755,
            uid: 70_000,
            gid: 1,
            mtime: Timestamp { seconds: -2, nanoseconds: 5 },
            xattrs: vec![(b"user.a".to_vec(), vec![0; 300])],
        }
    }

    fn samples() -> Vec<Entry> {
        let plain = |path: &[u8], kind| Entry {
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            xattrs: Vec::new(),
            ..entry(path, kind)
        };
        vec![
            entry(b"", EntryKind::Directory),
            entry(b"usr/bin/a", EntryKind::Regular { size: 5, block: 15 }),
            entry(b"usr/bin/\xff", EntryKind::Symlink(b"../a".to_vec())),
            entry(b"usr/x", EntryKind::HardLink(b"usr/bin/a".to_vec())),
            entry(b"dev/n", EntryKind::CharDevice { major: 0xfff, minor: 0xf_ffff }),
            plain(b"gone", EntryKind::Whiteout),
            plain(b"", EntryKind::Opaque),
        ]
    }

    #[test]
    fn entries_come_back_as_they_were() {
        let index = Index::parse(written(&samples())).unwrap();
        assert_eq!((index.file_bytes(), index.blob_size()), (10240, 16 * BLOCK));
        let entries: Vec<Entry> = index.entries().map(Result::unwrap).collect();
        assert_eq!(entries, samples());
    }

    #[test]
    fn data_beyond_the_blob_and_unsafe_paths_are_refused() {
        for wrong in [
            entry(b"a", EntryKind::Regular { size: 4097, block: 15 }),
            entry(b"a", EntryKind::Regular { size: 1, block: u64::MAX }),
            entry(b"a/../b", EntryKind::Directory),
            entry(b"/a", EntryKind::Directory),
            entry(b"a", EntryKind::HardLink(b"../b".to_vec())),
            entry(b"a", EntryKind::Symlink(Vec::new())),
        ] {
            let index = Index::parse(written(&[wrong])).unwrap();
            assert!(index.entries().any(|entry| entry.is_err()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_changed_byte_is_noticed(at in 0usize..200, bit in 0u8..8) {
            let mut file = written(&samples());
            let at = at % file.len();
            file[at] ^= 1 << bit;
            prop_assert!(Index::parse(file).is_err());
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let index = Index {
                file: [&[0; HEADER][..], &body].concat(), entries: 100, file_bytes: 0, blob_size: 1 << 20,
            };
            let _ = index.entries().count();
        }
    }
}
