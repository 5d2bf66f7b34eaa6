//! gzip (RFC 1952) of any number of members. `fdeflate` inflates, the fastest decoder there is in
//! safe Rust; it knows zlib's frame alone (RFC 1950), and reads some bytes too many at the end:
//! its checksum's four, and up to three more.

use std::io::{self, BufRead, ErrorKind, Read};

use fdeflate::{DecompressionError, Decompressor};
use flate2::Crc;

/// How far back a stream refers (RFC 1951 §2).
pub(super) const WINDOW: usize = 32 << 10;

/// A header of zlib's that says no more than that deflate follows.
const ZLIB_HEADER: [u8; 2] = [0x78, 0x01];

/// CRC and size behind each member.
const TRAILER: usize = size_of::<u64>();

/// Flags of a member's header (§2.3.1).
mod flag {
    pub(super) const HEADER_CRC: u8 = 1 << 1;
    pub(super) const EXTRA: u8 = 1 << 2;
    pub(super) const NAME: u8 = 1 << 3;
    pub(super) const COMMENT: u8 = 1 << 4;
    pub(super) const RESERVED: u8 = 0b111 << 5;
}

/// What comes out of a gzip stream, which has to end with its last member.
pub(super) struct Gzip<R> {
    input: R,
    member: Option<Member>,
}

struct Member {
    inflate: Decompressor,
    /// Of what came out.
    crc: Crc,
    /// Bytes to refer back to.
    window: usize,
    /// The last eight bytes that went in, the latest on top.
    taken: u64,
}

impl<R: BufRead> Gzip<R> {
    pub(super) const fn new(input: R) -> Self {
        Self { input, member: None }
    }

    pub(super) const fn get_ref(&self) -> &R {
        &self.input
    }

    pub(super) fn into_inner(self) -> R {
        self.input
    }

    /// Fills the buffer behind its first [`WINDOW`] bytes, which the caller has kept as the last
    /// that came out, and returns how many bytes there are: fewer at the end only.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut at = WINDOW;
        while at < buffer.len() {
            let member = match &mut self.member {
                Some(member) => member,
                None if fill(&mut self.input)?.is_empty() => break,
                none => none.insert(Member::begin(&mut self.input)?),
            };
            at += member.inflate(&mut self.input, buffer, at)?;
            if member.inflate.is_done() {
                member.end(&mut self.input)?;
                self.member = None;
            }
        }
        Ok(at - WINDOW)
    }
}

impl Member {
    /// Reads a header (§2.3). What it tells of the file is nobody's business here, and the whole
    /// stream has a digest.
    fn begin(input: &mut impl BufRead) -> io::Result<Self> {
        let [0x1f, 0x8b, 8, flags, ..] = fixed::<10>(input)? else {
            return Err(invalid("corrupt gzip stream: neither its end nor a header"));
        };
        if flags & flag::RESERVED != 0 {
            return Err(invalid("a gzip header with unknown flags"));
        }
        if flags & flag::EXTRA != 0 {
            let length = u16::from_le_bytes(fixed(input)?).into();
            io::copy(&mut input.by_ref().take(length), &mut io::sink())?;
        }
        for text in [flag::NAME, flag::COMMENT] {
            if flags & text != 0 {
                input.skip_until(0)?;
            }
        }
        if flags & flag::HEADER_CRC != 0 {
            fixed::<2>(input)?;
        }
        let mut inflate = Decompressor::new();
        inflate.ignore_adler32();
        inflate.read(&ZLIB_HEADER, &mut [], 0, false).map_err(corrupt)?;
        Ok(Self { inflate, crc: Crc::new(), window: 0, taken: 0 })
    }

    /// Inflates from what `input` has at once, to `at` in the buffer; returns how many bytes.
    fn inflate(
        &mut self,
        input: &mut impl BufRead,
        buffer: &mut [u8],
        at: usize,
    ) -> io::Result<usize> {
        let given = fill(input)?;
        // Nothing of an earlier member may be referred to.
        let known = at - self.window;
        let out = &mut buffer[known..];
        let (taken, made) =
            self.inflate.read(given, out, self.window, given.is_empty()).map_err(corrupt)?;
        if (taken, made) == (0, 0) && !self.inflate.is_done() {
            return Err(corrupt(DecompressionError::InsufficientInput));
        }
        for byte in &given[taken.saturating_sub(TRAILER)..taken] {
            self.note(*byte);
        }
        input.consume(taken);
        self.crc.update(&buffer[at..at + made]);
        self.window = WINDOW.min(self.window + made);
        Ok(made)
    }

    fn note(&mut self, byte: u8) {
        self.taken = self.taken >> 8 | u64::from(byte) << 56;
    }

    /// Reads what is left of the trailer (§2.3.1): it ends where the last eight bytes are what it
    /// has to be. Behind an empty member that is zeros; there as many are taken as may be its own,
    /// and one or two that are missing at the end of all are not missed.
    fn end(&mut self, input: &mut impl BufRead) -> io::Result<()> {
        let trailer = u64::from(self.crc.sum()) | u64::from(self.crc.amount()) << 32;
        let mut found = false;
        for _ in 0..4 {
            let before = self.taken;
            let Some(&next) = fill(input)?.first() else { break };
            self.note(next);
            if found && self.taken != trailer {
                self.taken = before;
                break;
            }
            input.consume(1);
            found = self.taken == trailer;
        }
        if found { Ok(()) } else { Err(invalid("corrupt gzip stream: its checksum is wrong")) }
    }
}

/// What there is to read. A signal is no reason to lose what has come out before it.
fn fill(input: &mut impl BufRead) -> io::Result<&[u8]> {
    loop {
        match input.fill_buf() {
            Ok([]) => return Ok(&[]),
            Ok(_) => return input.fill_buf(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn fixed<const LENGTH: usize>(input: &mut impl BufRead) -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    match input.read_exact(&mut bytes) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(cut_short()),
        read => read.map(|()| bytes),
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

fn corrupt(error: DecompressionError) -> io::Error {
    match error {
        DecompressionError::InsufficientInput => cut_short(),
        _ => invalid("corrupt gzip stream"),
    }
}

fn cut_short() -> io::Error {
    invalid("a gzip stream that is cut short")
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write};

    use flate2::bufread::{DeflateDecoder, MultiGzDecoder};
    use flate2::write::DeflateEncoder;
    use flate2::{Compression, GzBuilder};
    use proptest::prelude::*;

    use super::*;
    use crate::testing::gzip;

    /// What comes out, read in pieces of this many bytes into a buffer of that many.
    fn inflate(stream: &[u8], piece: usize, room: usize) -> io::Result<Vec<u8>> {
        let mut gzip = Gzip::new(BufReader::with_capacity(piece, stream));
        let mut buffer = vec![0; WINDOW + room];
        let mut out = Vec::new();
        loop {
            let count = gzip.read(&mut buffer)?;
            out.extend_from_slice(&buffer[WINDOW..WINDOW + count]);
            buffer.copy_within(count..count + WINDOW, 0);
            if count == 0 {
                return Ok(out);
            }
        }
    }

    /// zlib-rs's answer.
    fn judged(stream: &[u8]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        MultiGzDecoder::new(stream).read_to_end(&mut out)?;
        Ok(out)
    }

    /// A member whose trailer is of this content.
    fn member_of(deflated: &[u8], content: &[u8]) -> Vec<u8> {
        let mut crc = Crc::new();
        crc.update(content);
        let header = &gzip(b"")[..10];
        [header, deflated, &crc.sum().to_le_bytes(), &crc.amount().to_le_bytes()].concat()
    }

    /// Text, runs and noise, with references as far back as they go.
    fn content() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            (any::<u8>(), 0..70_000_usize).prop_map(|(byte, length)| vec![byte; length]),
            prop::collection::vec(any::<u8>(), 0..3000),
            prop::collection::vec(0..4_u8, 0..40_000),
            "[a-e ]{0,300}".prop_map(|text| text.repeat(150).into_bytes()),
        ];
        prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.concat())
    }

    /// A member of any level, with any of the fields that a header may have, flushed where it may be.
    fn member() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        (content(), 0..10_u32, any::<[bool; 3]>(), any::<prop::sample::Index>()).prop_map(
            |(content, level, [extra, name, flush], at)| {
                let mut builder = GzBuilder::new();
                if extra {
                    builder = builder.extra("\0more").comment("made by a test");
                }
                if name {
                    builder = builder.filename("layer.tar");
                }
                let mut encoder = builder.write(Vec::new(), Compression::new(level));
                let (first, rest) = content.split_at(at.index(content.len() + 1));
                encoder.write_all(first).unwrap();
                if flush {
                    encoder.flush().unwrap();
                }
                encoder.write_all(rest).unwrap();
                (encoder.finish().unwrap(), content)
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_members_come_out_as_they_went_in(
            members in prop::collection::vec(member(), 1..4),
            piece in prop_oneof![1..20_usize, 1000..9000_usize, Just(1 << 20)],
            room in prop_oneof![1..40_usize, 20_000..200_000_usize],
        ) {
            let (stream, content): (Vec<_>, Vec<_>) = members.into_iter().unzip();
            prop_assert!(inflate(&stream.concat(), piece, room).unwrap() == content.concat());
        }

        /// The trailer is made to fit, so that it does not tell.
        #[test]
        fn damaged_members_that_zlib_takes_come_out_as_of_zlib(
            content in content(),
            level in 0..10_u32,
            changes in prop::collection::vec((0..200_usize, any::<u8>()), 1..3),
        ) {
            let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(level));
            encoder.write_all(&content).unwrap();
            let mut body = encoder.finish().unwrap();
            for (at, byte) in changes {
                let at = at % body.len();
                body[at] = byte;
            }
            let mut theirs = Vec::new();
            let mut decoder = DeflateDecoder::new(&body[..]);
            if decoder.read_to_end(&mut theirs).is_ok() {
                body.truncate(usize::try_from(decoder.total_in()).unwrap());
                prop_assert!(inflate(&member_of(&body, &theirs), 999, 9999).unwrap() == theirs);
            } else {
                // Wherever it is refused, nothing else happens.
                let _ = inflate(&member_of(&body, &content), 999, 9999);
            }
        }

        #[test]
        fn damaged_members_are_refused_or_come_out_as_of_zlib(
            member in member(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            cut in prop::option::of(any::<prop::sample::Index>()),
        ) {
            let mut stream = member.0;
            for (at, byte) in changes {
                let at = at.index(stream.len());
                stream[at] = byte;
            }
            if let Some(cut) = cut {
                stream.truncate(cut.index(stream.len()));
            }
            if let (Ok(ours), Ok(theirs)) = (inflate(&stream, 999, 9999), judged(&stream)) {
                prop_assert!(ours == theirs);
            }
        }
    }

    #[test]
    fn end_of_a_member_is_found_wherever_the_pieces_are_cut() {
        let empty = gzip(b"");
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::none());
        encoder.write_all(b"stored").unwrap();
        let stored = member_of(&encoder.finish().unwrap(), b"stored");
        for stream in [
            [&empty[..], &gzip(b"one"), &empty, &empty, &stored, &gzip(b"two")].concat(),
            [&stored[..], &empty, &gzip(b"one"), &stored, &empty].concat(),
        ] {
            let expected = judged(&stream).unwrap();
            for piece in 1..=stream.len() {
                assert_eq!(inflate(&stream, piece, 64).unwrap(), expected, "{piece}");
            }
        }
    }

    #[test]
    fn streams_that_are_cut_short_are_refused_as_by_zlib() {
        let stream = [gzip(b"one"), gzip(b"two")].concat();
        for length in 1..stream.len() {
            let ours = inflate(&stream[..length], 7, 64).ok();
            assert_eq!(ours, judged(&stream[..length]).ok(), "{length}");
        }
    }

    #[test]
    fn a_member_cannot_refer_to_an_earlier_one() {
        // One block of fixed codes: a match of 3 bytes, 1 back (RFC 1951 §3.2.6), and the end.
        let stream = [gzip(b"one"), member_of(&[0x03, 0x02, 0x00], b"eee")].concat();
        assert!(judged(&stream).is_err());
        assert!(inflate(&stream, 64, 64).is_err());
    }

    /// Gives a byte at every second call.
    struct Interrupted<'a>(&'a [u8], bool);

    impl Read for Interrupted<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 { Err(ErrorKind::Interrupted.into()) } else { self.0.read(&mut buf[..1]) }
        }
    }

    #[test]
    fn nothing_is_lost_when_signals_come() {
        let stream = [gzip(b"one"), gzip(b"two")].concat();
        let mut gzip = Gzip::new(BufReader::new(Interrupted(&stream, false)));
        let mut buffer = [0; WINDOW + 10];
        assert_eq!(gzip.read(&mut buffer).unwrap(), 6);
        assert_eq!(buffer[WINDOW..WINDOW + 6], *b"onetwo");
    }

    #[test]
    fn trailer_is_checked() {
        let whole = gzip(b"some text");
        for at in whole.len() - 8..whole.len() {
            let mut stream = whole.clone();
            stream[at] ^= 1;
            assert!(inflate(&stream, 64, 64).is_err(), "{at}");
        }
    }
}
