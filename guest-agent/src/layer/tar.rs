//! Tar headers: ustar, with a PAX extended header ahead of what ustar cannot say.

use std::io::{self, Write};

use super::xattr::Xattr;

pub(super) const BLOCK: usize = 512;

/// One more than what 7 octal digits hold.
const MAX_ID: u32 = 1 << 21;
/// One more than what 11 octal digits hold.
const MAX_LONG: u64 = 1 << 33;
/// Longest name and link in a header.
const MAX_NAME: usize = 100;

/// What an entry is, as the header has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Regular = b'0',
    HardLink = b'1',
    Symlink = b'2',
    CharDevice = b'3',
    BlockDevice = b'4',
    Directory = b'5',
    Fifo = b'6',
    /// What the next entry's header has no room for.
    Extended = b'x',
}

/// An entry without its data.
#[derive(Debug)]
pub(super) struct Header {
    /// Relative.
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    /// Permission bits.
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Bytes of data that follow.
    pub(super) size: u64,
    /// Bytes of the file, where the data that follows is that of a sparse file: its map and its pieces.
    pub(super) sparse_size: Option<u64>,
    /// Seconds, and nanoseconds that count forward from them.
    pub(super) mtime: (i64, u32),
    /// Target of a hard or symbolic link.
    pub(super) link: Vec<u8>,
    /// Major and minor number.
    pub(super) device: (u32, u32),
    pub(super) xattrs: Vec<Xattr>,
}

impl Header {
    /// Of an empty file of root's.
    pub(super) fn new(path: Vec<u8>, kind: Kind) -> Self {
        Self {
            path,
            kind,
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            sparse_size: None,
            mtime: (0, 0),
            link: Vec::new(),
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }

    /// Writes it; the data and its padding have to follow.
    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        // GNU tar's name for readers that do not know sparse files, which so get a file that says it.
        let name = match self.sparse_size {
            Some(_) => beside(&self.path, b"GNUSparseFile.0"),
            None => self.path.clone(),
        };
        let records = self.records(&name);
        if !records.is_empty() {
            let extended = Self {
                mode: 0o644,
                size: records.len() as u64,
                ..Self::new(beside(&self.path, b"PaxHeaders.0"), Kind::Extended)
            };
            out.write_all(&extended.block(&extended.path))?;
            out.write_all(&records)?;
            pad(out, extended.size)?;
        }
        out.write_all(&self.block(&name))
    }

    /// The PAX records of what the block cannot say.
    fn records(&self, name: &[u8]) -> Vec<u8> {
        let mut records = Vec::new();
        let mut add = |key: &[u8], value: &[u8]| records.extend(record(key, value));
        let number = |number: u64| number.to_string().into_bytes();
        if name.len() > MAX_NAME {
            add(b"path", name);
        }
        if self.link.len() > MAX_NAME {
            add(b"linkpath", &self.link);
        }
        if self.size >= MAX_LONG {
            add(b"size", &number(self.size));
        }
        for (key, id) in [(&b"uid"[..], self.uid), (b"gid", self.gid)] {
            if id >= MAX_ID {
                add(key, &number(id.into()));
            }
        }
        let (seconds, nanoseconds) = self.mtime;
        if nanoseconds != 0 || short_time(seconds).is_none() {
            add(b"mtime", &time(seconds, nanoseconds));
        }
        for (key, value) in &self.xattrs {
            add(&[b"SCHILY.xattr.", &encode_name(key)[..]].concat(), value);
        }
        if let Some(size) = self.sparse_size {
            add(b"GNU.sparse.major", b"1");
            add(b"GNU.sparse.minor", b"0");
            add(b"GNU.sparse.name", &self.path);
            add(b"GNU.sparse.realsize", &number(size));
        }
        records
    }

    /// The block itself. Of what does not fit it says 0, or what does.
    fn block(&self, name: &[u8]) -> [u8; BLOCK] {
        let mut block = [0; BLOCK];
        let id = |id: u32| u64::from(if id < MAX_ID { id } else { 0 });
        let device = |number: u32| octal::<7>(u64::from(number));
        let size = if self.size < MAX_LONG { self.size } else { 0 };
        set(&mut block, 0, name.get(..MAX_NAME).unwrap_or(name));
        set(&mut block, 100, &octal::<7>(u64::from(self.mode)));
        set(&mut block, 108, &octal::<7>(id(self.uid)));
        set(&mut block, 116, &octal::<7>(id(self.gid)));
        set(&mut block, 124, &octal::<11>(size));
        set(&mut block, 136, &octal::<11>(short_time(self.mtime.0).unwrap_or(0)));
        set(&mut block, 156, &[self.kind as u8]);
        set(&mut block, 157, self.link.get(..MAX_NAME).unwrap_or(&self.link));
        set(&mut block, 257, b"ustar\x0000");
        set(&mut block, 329, &device(self.device.0));
        set(&mut block, 337, &device(self.device.1));
        // The sum of all bytes, its own field being spaces.
        set(&mut block, 148, b"        ");
        let sum = block.iter().map(|byte| u64::from(*byte)).sum();
        set(&mut block, 148, &octal::<6>(sum));
        set(&mut block, 154, b"\0 ");
        block
    }
}

/// Fills the last block of data up with zeros.
pub(super) fn pad(out: &mut dyn Write, size: u64) -> io::Result<()> {
    let over = usize::try_from(size % BLOCK as u64).unwrap_or(0);
    if over == 0 {
        return Ok(());
    }
    out.write_all(&[0; BLOCK][over..])
}

/// Two blocks of zeros.
pub(super) fn end(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK])
}

/// `folder/name` → `folder/<extra>/name`
fn beside(path: &[u8], extra: &[u8]) -> Vec<u8> {
    let path = path.strip_suffix(b"/").unwrap_or(path);
    let slash = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    let (folder, name) = path.split_at(slash);
    [folder, extra, b"/", name].concat()
}

fn set(block: &mut [u8; BLOCK], at: usize, bytes: &[u8]) {
    // The fields of a header lie in it.
    block[at..at + bytes.len()].copy_from_slice(bytes);
}

/// The last digits of a number, as many as the field has.
fn octal<const DIGITS: usize>(mut number: u64) -> [u8; DIGITS] {
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        *digit += u8::try_from(number % 8).unwrap_or(0);
        number /= 8;
    }
    digits
}

/// What of a time a header can say.
fn short_time(seconds: i64) -> Option<u64> {
    u64::try_from(seconds).ok().filter(|seconds| *seconds < MAX_LONG)
}

/// `LENGTH KEY=VALUE\n`; the length counts its own digits.
fn record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

/// `[-]SECONDS[.NANOSECONDS]`, which counts away from 1970.
fn time(seconds: i64, nanoseconds: u32) -> Vec<u8> {
    let whole = i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
    let sign = if whole < 0 { "-" } else { "" };
    let (seconds, nanoseconds) =
        (whole.unsigned_abs() / 1_000_000_000, whole.unsigned_abs() % 1_000_000_000);
    match nanoseconds {
        0 => format!("{sign}{seconds}").into_bytes(),
        _ => format!("{sign}{seconds}.{nanoseconds:09}").into_bytes(),
    }
}

/// An attribute's name in a key, as GNU tar writes it.
fn encode_name(name: &[u8]) -> Vec<u8> {
    name.iter().fold(Vec::with_capacity(name.len()), |mut encoded, byte| {
        match byte {
            b'%' => encoded.extend_from_slice(b"%25"),
            b'=' => encoded.extend_from_slice(b"%3D"),
            _ => encoded.push(*byte),
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_counts_its_own_length() {
        assert_eq!(record(b"path", b"x"), b"9 path=x\n");
        assert_eq!(record(b"path", b""), b"8 path=\n");
        for length in 80..120 {
            let record = record(b"k", &vec![b'v'; length]);
            let stated = record.split(|byte| *byte == b' ').next().unwrap();
            assert_eq!(str::from_utf8(stated).unwrap(), record.len().to_string());
        }
    }

    #[test]
    fn time_before_1970_counts_backwards() {
        assert_eq!(time(1, 5), b"1.000000005");
        assert_eq!(time(-1, 0), b"-1");
        assert_eq!(time(-2, 500_000_000), b"-1.500000000");
        assert_eq!(time(-1, 999_999_999), b"-0.000000001");
    }

    #[test]
    fn plain_entry_is_one_block() {
        let mut header = Header::new(b"a/b".to_vec(), Kind::Regular);
        header.mtime = (1, 0);
        let mut out = Vec::new();
        header.write(&mut out).unwrap();
        assert_eq!(out.len(), BLOCK);
        header.uid = MAX_ID;
        out.clear();
        header.write(&mut out).unwrap();
        assert_eq!(out.len(), 3 * BLOCK);
    }
}
