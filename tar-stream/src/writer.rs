//! The writer: [`Member`]s to blocks.
//!
//! What it writes is what Docker writes: a ustar header, and a PAX header before it only for what
//! that cannot hold (names over 100 bytes, large numbers, parts of a second, extended attributes).
//! An archive of short names is as long as Docker's to the byte.

use std::io::{self, Write};

use crate::header::{BLOCK, BLOCK_U64, OCTAL_SIZE_LIMIT};
use crate::{Member, MemberKind, Piece, Timestamp};

/// Longest name or link target of a ustar header.
const NAME_FIELD: usize = 100;
/// Largest owner of the 7 octal digits of its field, plus one.
const OCTAL_ID_LIMIT: u32 = 1 << 21;

/// Writes an archive, member by member.
///
/// A regular file's data comes after its member, in pieces of any length. What is missing of it
/// when the next member begins is filled with zeros: a file that got shorter while it was read
/// still leaves a sound archive.
#[derive(Debug)]
pub struct TarWriter<W> {
    out: W,
    /// Bytes that the current file still lacks, then of its padding.
    data: u64,
    padding: u64,
}

impl<W: Write> TarWriter<W> {
    /// An archive that goes to `out`, which had better be buffered.
    pub fn new(out: W) -> Self {
        Self { out, data: 0, padding: 0 }
    }

    /// Begins a member. Its size is that of the data that will follow; only a regular file has any.
    /// A directory's path is written with a slash at its end.
    pub fn member(&mut self, member: &Member) -> io::Result<()> {
        self.finish_member()?;
        let path = match member.kind {
            MemberKind::Directory if !member.path.ends_with(b"/") => {
                [&member.path[..], b"/"].concat()
            }
            _ => member.path.clone(),
        };
        self.headers(member, &path, pax_records(member, &path))?;
        if member.kind == MemberKind::Regular {
            (self.data, self.padding) = (member.size, padding(member.size));
        }
        Ok(())
    }

    /// Begins a regular file with holes, as GNU tar does (PAX sparse format 1.0). The size is the
    /// whole file's; the data that will follow is that of the pieces, which ascend and do not overlap.
    pub fn sparse_member(&mut self, member: &Member, pieces: &[Piece]) -> io::Result<()> {
        self.finish_member()?;
        let map = sparse_map(pieces, member.size);
        let data: u64 = pieces.iter().map(|piece| piece.length).sum();
        let stored = Member { size: data + map.len() as u64, ..member.clone() };
        // Readers that do not know such files make one of another name of it.
        let path = beside(&member.path, b"GNUSparseFile.0");
        let mut records = pax_records(&stored, &path);
        push_record(&mut records, b"GNU.sparse.major", b"1");
        push_record(&mut records, b"GNU.sparse.minor", b"0");
        push_record(&mut records, b"GNU.sparse.name", &member.path);
        push_record(&mut records, b"GNU.sparse.realsize", member.size.to_string().as_bytes());
        self.headers(&stored, &path, records)?;
        self.out.write_all(&map)?;
        (self.data, self.padding) = (data, padding(stored.size));
        Ok(())
    }

    /// Writes a member's header, with a PAX header before it where there are records.
    fn headers(&mut self, member: &Member, path: &[u8], records: Vec<u8>) -> io::Result<()> {
        if !records.is_empty() {
            self.out.write_all(&pax_header(path, records.len()))?;
            self.out.write_all(&records)?;
            self.zeros(padding(records.len() as u64))?;
        }
        self.out.write_all(&header(member, path))
    }

    /// The next bytes of the current member's data; those beyond its size are dropped. Whether
    /// more are wanted.
    pub fn data(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let wanted = usize::try_from(self.data).map_or(bytes.len(), |data| data.min(bytes.len()));
        let (bytes, _) = bytes.split_at(wanted);
        self.out.write_all(bytes)?;
        self.data -= bytes.len() as u64;
        Ok(self.data > 0)
    }

    /// Writes the end mark and flushes; gives back what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.finish_member()?;
        self.zeros(2 * BLOCK_U64)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn finish_member(&mut self) -> io::Result<()> {
        let (data, padding) = (self.data, self.padding);
        (self.data, self.padding) = (0, 0);
        self.zeros(data)?;
        self.zeros(padding)
    }

    fn zeros(&mut self, count: u64) -> io::Result<()> {
        io::copy(&mut io::Read::take(io::repeat(0), count), &mut self.out).map(drop)
    }
}

fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK_U64) - size
}

/// Where the data of a sparse file goes, in whole blocks. A last, empty piece says where it ends.
fn sparse_map(pieces: &[Piece], size: u64) -> Vec<u8> {
    let mut map = format!("{}\n", pieces.len() + 1);
    for piece in pieces.iter().chain([&Piece { offset: size, length: 0 }]) {
        map.push_str(&format!("{}\n{}\n", piece.offset, piece.length));
    }
    let mut map = map.into_bytes();
    map.resize(map.len().next_multiple_of(BLOCK), 0);
    map
}

/// `folder/name` → `folder/EXTRA/name`
fn beside(path: &[u8], extra: &[u8]) -> Vec<u8> {
    let slash = path.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let (folder, name) = path.split_at(slash);
    [folder, extra, b"/", name].concat()
}

/// What of a member its ustar header cannot say.
fn pax_records(member: &Member, path: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    if path.len() > NAME_FIELD {
        push_record(&mut records, b"path", path);
    }
    if member.link.len() > NAME_FIELD {
        push_record(&mut records, b"linkpath", &member.link);
    }
    if member.size >= OCTAL_SIZE_LIMIT {
        push_record(&mut records, b"size", member.size.to_string().as_bytes());
    }
    for (key, id) in [(b"uid", member.uid), (b"gid", member.gid)] {
        if id >= OCTAL_ID_LIMIT {
            push_record(&mut records, key, id.to_string().as_bytes());
        }
    }
    if octal_seconds(member.mtime).is_none() || member.mtime.nanoseconds != 0 {
        push_record(&mut records, b"mtime", decimal(member.mtime).as_bytes());
    }
    for (name, value) in &member.xattrs {
        push_record(&mut records, &[b"SCHILY.xattr.", &encode_schily(name)[..]].concat(), value);
    }
    records
}

/// `LENGTH KEY=VALUE\n`, where the length counts its own digits too.
fn push_record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + b" =\n".len();
    let mut length = rest;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    for part in [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"] {
        records.extend_from_slice(part);
    }
}

/// As GNU tar does it: the first `=` ends a key.
fn encode_schily(name: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b'%' => encoded.extend_from_slice(b"%25"),
            b'=' => encoded.extend_from_slice(b"%3D"),
            _ => encoded.push(byte),
        }
    }
    encoded
}

/// Seconds since 1970 with as many digits of the fraction as there are.
fn decimal(time: Timestamp) -> String {
    let nanoseconds = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let (sign, size) = (if nanoseconds < 0 { "-" } else { "" }, nanoseconds.unsigned_abs());
    let text = format!("{sign}{}.{:09}", size / 1_000_000_000, size % 1_000_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn octal_seconds(time: Timestamp) -> Option<u64> {
    u64::try_from(time.seconds).ok().filter(|&seconds| seconds < OCTAL_SIZE_LIMIT)
}

/// The header of a PAX header, which has a name that only old readers see.
fn pax_header(path: &[u8], length: usize) -> [u8; BLOCK] {
    let base = path.split(|&byte| byte == b'/').rfind(|name| !name.is_empty()).unwrap_or_default();
    let mut block = Block::new();
    block.text(0, b"PaxHeaders.0/").text(13, base.get(..NAME_FIELD - 13).unwrap_or(base));
    block.octal(100, 7, 0o644).octal(108, 7, 0).octal(116, 7, 0);
    block.octal(124, 11, length as u64).octal(136, 11, 0);
    block.finish(b'x')
}

/// The header of a member; numbers too large for it are in its PAX header, and 0 here.
fn header(member: &Member, path: &[u8]) -> [u8; BLOCK] {
    let mut block = Block::new();
    let fitting = |id| if id < OCTAL_ID_LIMIT { u64::from(id) } else { 0 };
    block.text(0, path.get(..NAME_FIELD).unwrap_or(path));
    block.octal(100, 7, member.mode.into());
    block.octal(108, 7, fitting(member.uid)).octal(116, 7, fitting(member.gid));
    block.octal(124, 11, if member.size < OCTAL_SIZE_LIMIT { member.size } else { 0 });
    block.octal(136, 11, octal_seconds(member.mtime).unwrap_or(0));
    block.text(157, member.link.get(..NAME_FIELD).unwrap_or(&member.link));
    let kind = match member.kind {
        MemberKind::Regular => b'0',
        MemberKind::HardLink => b'1',
        MemberKind::Symlink => b'2',
        MemberKind::CharDevice { major, minor } => {
            block.octal(329, 7, major.into()).octal(337, 7, minor.into());
            b'3'
        }
        MemberKind::BlockDevice { major, minor } => {
            block.octal(329, 7, major.into()).octal(337, 7, minor.into());
            b'4'
        }
        MemberKind::Directory => b'5',
        MemberKind::Fifo => b'6',
    };
    block.finish(kind)
}

/// A ustar header to be.
struct Block([u8; BLOCK]);

impl Block {
    fn new() -> Self {
        let mut block = Self([0; BLOCK]);
        block.text(257, b"ustar\x0000");
        block
    }

    /// A field up to its end or that of the text, which fits.
    fn text(&mut self, at: usize, text: &[u8]) -> &mut Self {
        for (field, &byte) in self.0.iter_mut().skip(at).zip(text) {
            *field = byte;
        }
        self
    }

    /// A number that has no more digits than this, with a NUL after it.
    fn octal(&mut self, at: usize, digits: usize, number: u64) -> &mut Self {
        self.text(at, format!("{number:0digits$o}").as_bytes())
    }

    fn finish(mut self, kind: u8) -> [u8; BLOCK] {
        // The checksum is taken with its own field as spaces.
        self.text(148, b"        ").text(156, &[kind]);
        let sum: u64 = self.0.iter().map(|&byte| u64::from(byte)).sum();
        self.octal(148, 6, sum).text(154, b"\0 ");
        self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{DataSink, TarError, TarReader};

    fn member(path: &[u8], kind: MemberKind) -> Member {
        Member {
            path: path.to_vec(),
            kind,
            mode: 0o4755,
            uid: 1000,
            gid: 100,
            mtime: Timestamp { seconds: 1_700_000_000, nanoseconds: 0 },
            link: Vec::new(),
            size: 0,
            xattrs: Vec::new(),
        }
    }

    struct Collect(Vec<u8>);

    impl DataSink for Collect {
        type Error = TarError;

        fn data(&mut self, bytes: &[u8]) -> Result<(), TarError> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }

        fn hole(&mut self, length: u64) -> Result<(), TarError> {
            self.0.resize(self.0.len() + usize::try_from(length).unwrap(), 0);
            Ok(())
        }
    }

    /// Writes members and reads them again.
    fn there_and_back(members: &[(Member, &[u8])]) -> Vec<(Member, Vec<u8>)> {
        let mut writer = TarWriter::new(Vec::new());
        for (member, data) in members {
            writer.member(member).unwrap();
            writer.data(data).unwrap();
        }
        let archive = writer.finish().unwrap();
        assert_eq!(archive.len() % BLOCK, 0);
        let mut reader = TarReader::new(&archive[..]);
        let mut read = Vec::new();
        while let Some(member) = reader.next_member().unwrap() {
            let mut data = Collect(Vec::new());
            reader.read_data(&mut data).unwrap();
            read.push((member, data.0));
        }
        read
    }

    #[test]
    fn every_kind_of_member_is_read_as_it_was_written() {
        let mut file = member(b"file", MemberKind::Regular);
        file.size = 3;
        let mut symlink = member(b"link", MemberKind::Symlink);
        symlink.link = b"to".to_vec();
        let mut hard = member(b"hard", MemberKind::HardLink);
        hard.link = b"file".to_vec();
        let device = MemberKind::CharDevice { major: 136, minor: 0xf_ffff };
        let members = [
            (member(b"dir/", MemberKind::Directory), &b""[..]),
            (file, b"abc"),
            (symlink, b""),
            (hard, b""),
            (member(b"tty", device), b""),
            (member(b"disk", MemberKind::BlockDevice { major: 8, minor: 1 }), b""),
            (member(b"fifo", MemberKind::Fifo), b""),
        ];
        let read = there_and_back(&members);
        let expected: Vec<_> =
            members.iter().map(|(member, data)| (member.clone(), data.to_vec())).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn what_a_header_cannot_hold_is_in_a_pax_header() {
        let mut file = member(&[b'n'; 3000], MemberKind::Symlink);
        file.link = vec![b'l'; 101];
        (file.uid, file.gid) = (OCTAL_ID_LIMIT, u32::MAX - 1);
        file.xattrs = vec![
            (b"user.a=b%3D".to_vec(), b"\0\n=".to_vec()),
            (b"security.capability".to_vec(), vec![1; 20]),
        ];
        for (seconds, nanoseconds) in [(-2, 500_000_000), (-1, 0), (1 << 33, 0), (7, 1)] {
            file.mtime = Timestamp { seconds, nanoseconds };
            assert_eq!(there_and_back(&[(file.clone(), b"")])[0].0, file);
        }
    }

    #[test]
    fn a_large_size_is_in_the_pax_header_alone() {
        let mut file = member(b"large", MemberKind::Regular);
        file.size = 9 << 30;
        let mut writer = TarWriter::new(Vec::new());
        writer.member(&file).unwrap();
        let archive = writer.out;
        let mut reader = TarReader::new(&archive[..]);
        assert_eq!(reader.next_member().unwrap().unwrap().size, 9 << 30);
    }

    #[test]
    fn a_sparse_file_is_read_with_its_holes() {
        for (path, pieces, size) in [
            (vec![b'n'; 300], vec![(5000, 3), (9000, 700)], 20_000),
            (b"folder/file".to_vec(), vec![(0, 3)], 3),
            (b"hole".to_vec(), Vec::new(), 1 << 20),
        ] {
            let mut file = member(&path, MemberKind::Regular);
            file.size = size;
            let pieces: Vec<_> =
                pieces.into_iter().map(|(offset, length)| Piece { offset, length }).collect();
            let mut writer = TarWriter::new(Vec::new());
            writer.sparse_member(&file, &pieces).unwrap();
            for piece in &pieces {
                writer.data(&vec![7; usize::try_from(piece.length).unwrap()]).unwrap();
            }
            writer.member(&member(b"after", MemberKind::Fifo)).unwrap();
            let archive = writer.finish().unwrap();
            let mut reader = TarReader::new(&archive[..]);
            assert_eq!(reader.next_member().unwrap().unwrap(), file);
            let mut data = Collect(Vec::new());
            reader.read_data(&mut data).unwrap();
            assert_eq!(data.0.len() as u64, size);
            for (at, byte) in (0u64..).zip(data.0) {
                let is_data =
                    |piece: &Piece| (piece.offset..piece.offset + piece.length).contains(&at);
                assert_eq!(byte == 7, pieces.iter().any(is_data), "{at}");
            }
            assert_eq!(reader.next_member().unwrap().unwrap().path, b"after");
        }
    }

    #[test]
    fn a_file_that_changes_its_length_is_cut_or_filled() {
        let mut file = member(b"file", MemberKind::Regular);
        file.size = 4;
        let read = there_and_back(&[(file.clone(), b"ab"), (file, b"abcdef")]);
        assert_eq!(read[0].1, b"ab\0\0");
        assert_eq!(read[1].1, b"abcd");
    }

    #[test]
    fn one_small_file_is_as_long_as_in_docker() {
        let mut file = member(b"file", MemberKind::Regular);
        file.size = 1;
        let mut writer = TarWriter::new(Vec::new());
        writer.member(&file).unwrap();
        writer.data(b"x").unwrap();
        assert_eq!(writer.finish().unwrap().len(), 2048);
    }

    /// GNU tar is the judge of what a header means.
    #[test]
    fn gnu_tar_lists_what_was_written() {
        let mut file = member("naïve ".repeat(30).as_bytes(), MemberKind::Regular);
        (file.size, file.uid) = (700, 3_000_000);
        let mut writer = TarWriter::new(Vec::new());
        writer.member(&member(b"dir", MemberKind::Directory)).unwrap();
        writer.member(&file).unwrap();
        writer.data(&[7; 700]).unwrap();
        let archive = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(archive.path(), writer.finish().unwrap()).unwrap();
        let output = std::process::Command::new("tar")
            .args(["--numeric-owner", "--utc", "--quoting-style=literal", "-tvf"])
            .arg(archive.path())
            .output()
            .unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[0].starts_with("drwsr-xr-x 1000/100"), "{text}");
        assert!(lines[0].ends_with("2023-11-14 22:13 dir/"), "{text}");
        assert!(lines[1].starts_with("-rwsr-xr-x 3000000/100"), "{text}");
        assert!(lines[1].contains(" 700 ") && lines[1].ends_with(&"naïve ".repeat(30)), "{text}");
    }

    proptest! {
        #[test]
        fn any_member_is_read_as_it_was_written(
            path in proptest::collection::vec(1u8.., 1..300),
            link in proptest::collection::vec(1u8.., 1..300),
            mode in 0u16..0o10000,
            uid in 0u32..u32::MAX,
            seconds in -(1i64 << 40)..1 << 40,
            nanoseconds in 0u32..1_000_000_000,
            xattr in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut member = member(&path, MemberKind::Symlink);
            member.mtime = Timestamp { seconds, nanoseconds };
            member.xattrs = vec![(b"user.x".to_vec(), xattr)];
            (member.link, member.mode, member.uid) = (link, mode, uid);
            prop_assert_eq!(&there_and_back(&[(member.clone(), b"")])[0].0, &member);
        }
    }
}
