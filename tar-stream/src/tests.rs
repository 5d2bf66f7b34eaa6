//! Archives put together by hand, and bytes put together by chance.

use proptest::prelude::*;

use super::*;
use crate::testing::{Header, TarBuilder, pax_record};

/// A member and all of its data.
type Read = (Member, Vec<u8>);

struct Collect(Vec<u8>);

impl DataSink for Collect {
    type Error = TarError;

    fn data(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn hole(&mut self, length: u64) -> Result<(), TarError> {
        // Hostile holes are not worth the memory.
        let length = usize::try_from(length.min(1 << 20)).unwrap();
        self.0.resize(self.0.len() + length, 0);
        Ok(())
    }
}

fn read(archive: &[u8]) -> Result<Vec<Read>, TarError> {
    let mut reader = TarReader::new(archive);
    let mut members = Vec::new();
    while let Some(member) = reader.next_member()? {
        let mut data = Collect(Vec::new());
        if member.kind == MemberKind::Regular {
            reader.read_data(&mut data)?;
        }
        members.push((member, data.0));
    }
    Ok(members)
}

fn one(archive: &TarBuilder) -> Read {
    let mut members = read(&archive.finish()).unwrap();
    assert_eq!(members.len(), 1);
    members.remove(0)
}

fn refused(archive: &TarBuilder) -> String {
    read(&archive.finish()).unwrap_err().to_string()
}

#[test]
fn long_names_come_from_prefix_gnu_and_pax_headers() {
    let mut header = Header::new(b"name", b'0', 0);
    header.set(345, b"pre/fix");
    assert_eq!(one(TarBuilder::new().raw(&header, b"")).0.path, b"pre/fix/name");
    // GNU headers have times where ustar has the prefix.
    header.set(257, b"ustar  \0");
    assert_eq!(one(TarBuilder::new().raw(&header, b"")).0.path, b"name");
    let long = [b'n'; 300];
    let mut tar = TarBuilder::new();
    tar.raw(&Header::new(b"././@LongLink", b'L', 301), &[&long[..], b"\0"].concat());
    tar.raw(&Header::new(b"././@LongLink", b'K', 301), &[&long[..], b"\0"].concat());
    let (member, _) = one(tar.symlink("x", "y"));
    assert_eq!((&member.path[..], &member.link[..]), (&long[..], &long[..]));
    assert_eq!(one(TarBuilder::new().pax(&[("path", &long)]).file("x", b"d")).0.path, long);
}

#[test]
fn v7_headers_and_directories_by_their_slash_are_read() {
    let mut header = Header::new(b"dir/", 0, 0);
    header.set(257, &[0; 8]);
    assert_eq!(one(TarBuilder::new().raw(&header, b"")).0.kind, MemberKind::Directory);
    let mut header = Header::new(b"file", 0, 1);
    header.set(257, &[0; 8]);
    assert_eq!(one(TarBuilder::new().raw(&header, b"x")).1, b"x");
}

#[test]
fn old_gnu_sparse_files_have_their_holes() {
    let mut header = Header::new(b"s", b'S', 6);
    header.set(257, b"ustar  \0");
    for (number, (offset, length)) in [(10u64, 1u64), (20, 2), (30, 1), (40, 1)].iter().enumerate()
    {
        header.octal(386 + number * 24, 11, *offset).octal(398 + number * 24, 11, *length);
    }
    header.set(482, b"\x01").octal(483, 11, 60);
    let mut extension = vec![0; 512];
    extension[..12].copy_from_slice(b"00000000062\0");
    extension[12..24].copy_from_slice(b"00000000001\0");
    let mut tar = TarBuilder::new();
    tar.raw(&header, b"").blocks(&extension).blocks(b"abbcde");
    let mut expected = vec![0; 60];
    for (at, byte) in [(10, b'a'), (20, b'b'), (21, b'b'), (30, b'c'), (40, b'd'), (50, b'e')] {
        expected[at] = byte;
    }
    let members = read(&tar.file("after", b"").finish()).unwrap();
    assert_eq!((members.len(), &members[0].1), (2, &expected));
}

#[test]
fn pax_sparse_files_of_every_version_have_their_holes() {
    let expected = b"ab\0\0\0\0\0\0cd\0\0";
    let v00 = [
        pax_record(b"GNU.sparse.size", b"12"),
        pax_record(b"GNU.sparse.numblocks", b"2"),
        pax_record(b"GNU.sparse.offset", b"0"),
        pax_record(b"GNU.sparse.numbytes", b"2"),
        pax_record(b"GNU.sparse.offset", b"8"),
        pax_record(b"GNU.sparse.numbytes", b"2"),
    ]
    .concat();
    let mut tar = TarBuilder::new();
    tar.raw(&Header::new(b"x", b'x', v00.len() as u64), &v00).file("s", b"abcd");
    assert_eq!(one(&tar).1, expected);

    let records: [(&str, &[u8]); 3] =
        [("GNU.sparse.size", b"12"), ("GNU.sparse.map", b"0,2,8,2"), ("GNU.sparse.name", b"real")];
    let (member, data) = one(TarBuilder::new().pax(&records).file("GNUSparseFile.0/s", b"abcd"));
    assert_eq!((&member.path[..], &data[..]), (&b"real"[..], &expected[..]));

    let records: [(&str, &[u8]); 4] = [
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.realsize", b"12"),
        ("GNU.sparse.name", b"real"),
    ];
    let mut stored = b"2\n0\n2\n8\n2\n".to_vec();
    stored.resize(512, 0);
    stored.extend_from_slice(b"abcd");
    let (member, data) = one(TarBuilder::new().pax(&records).file("s", &stored));
    assert_eq!((member.size, &data[..]), (12, &expected[..]));
}

#[test]
fn row08_sparse_maps_that_lie_are_refused() {
    for (map, size) in [
        ("0,2,1,2", "12"),
        ("8,2,0,2", "12"),
        ("0,2,8,2", "9"),
        ("0,2,8,1", "12"),
        ("0,2,8", "12"),
        ("0,2,18446744073709551615,2", "18446744073709551615"),
    ] {
        let records = [("GNU.sparse.size", size.as_bytes()), ("GNU.sparse.map", map.as_bytes())];
        assert!(refused(TarBuilder::new().pax(&records).file("s", b"abcd")).contains("sparse"));
    }
    let mut stored = b"99999999\n".to_vec();
    stored.resize(512, 0);
    let records: [(&str, &[u8]); 2] = [("GNU.sparse.major", b"1"), ("GNU.sparse.realsize", b"1")];
    let text = refused(TarBuilder::new().pax(&records).file("s", &stored));
    assert!(text.contains("too many pieces"), "{text}");
}

#[test]
fn row05_what_readers_could_differ_on_is_refused() {
    let mut tar = TarBuilder::new();
    tar.pax(&[("size", b"1")]);
    assert!(refused(tar.clone().file("a", b"")).contains("size is 0"));
    assert!(refused(tar.clone().pax(&[("path", b"b")]).file("a", b"x")).contains("PAX header"));
    assert!(matches!(read(&tar.finish()), Err(TarError::Truncated)));
    // The size is that of the entry, not of the long name between.
    let mut between = tar.clone();
    between.raw(&Header::new(b"././@LongLink", b'L', 5), b"long\0").file("a", b"x");
    assert_eq!(one(&between), {
        let mut plain = TarBuilder::new();
        one(plain.file("long", b"x"))
    });
    let mut twice = TarBuilder::new();
    twice.raw(&Header::new(b"l", b'L', 2), b"b\0").pax(&[("path", b"c")]).file("a", b"");
    assert!(refused(&twice).contains("more than one name"));
    assert!(refused(TarBuilder::new().raw(&Header::new(b"a", b'2', 9), b"")).contains("9 bytes"));
    assert!(refused(TarBuilder::new().raw(&Header::new(b"a", b'?', 0), b"")).contains("'?'"));
}

#[test]
fn a_large_size_comes_from_the_pax_header() {
    let size = 9u64 << 30;
    let mut tar = TarBuilder::new();
    tar.pax(&[("size", size.to_string().as_bytes())]).raw(&Header::new(b"a", b'0', 0), b"");
    let archive = tar.finish();
    let mut reader = TarReader::new(&archive[..]);
    assert_eq!(reader.next_member().unwrap().unwrap().size, size);
}

#[test]
fn archives_end_with_two_zero_blocks_one_or_none() {
    let whole = TarBuilder::new().file("a", b"x").finish();
    for end in [1024, 1536, 2048] {
        assert_eq!(read(&whole[..end]).unwrap().len(), 1);
    }
    assert_eq!(read(&[&whole[..], b"anything"].concat()).unwrap().len(), 1);
    assert!(read(&whole[..700]).is_err());
    let resumed = [&whole[..1536], &whole[..]].concat();
    assert!(matches!(read(&resumed), Err(TarError::Header(1024))));
}

#[test]
fn owners_beyond_32_bits_are_refused() {
    for (uid, valid) in [("4294967294", true), ("4294967295", false), ("4294967296", false)] {
        let tar = TarBuilder::new().pax(&[("uid", uid.as_bytes())]).file("a", b"").finish();
        assert_eq!(read(&tar).is_ok(), valid, "{uid}");
    }
}

#[test]
fn passing_over_a_file_that_ends_early_is_noticed() {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &Header::new(b"a", b'0', 1 << 40).bytes()).unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let mut reader = TarReader::new(SeekInput::new(file).unwrap());
    reader.next_member().unwrap().unwrap();
    assert!(matches!(reader.next_member(), Err(TarError::Truncated)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn row05_changed_bytes_never_make_the_reader_panic(
        changes in proptest::collection::vec((0usize..4096, any::<u8>()), 1..8),
        checksum in any::<bool>(),
    ) {
        let mut tar = TarBuilder::new();
        tar.pax(&[("path", b"p"), ("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"5")]);
        tar.file("a", b"x").symlink("b", "c").file("d", &[1; 600]);
        let mut bytes = tar.finish();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        if checksum {
            for block in bytes.chunks_mut(512) {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let _ = read(&bytes);
    }
}
