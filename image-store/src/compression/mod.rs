//! Decompression of hostile streams: gzip (of any number of members), zstd, or none, with limits
//! on memory and on what comes out (threats.md row 6).

mod gzip;

use std::fmt;
use std::io::{self, BufRead, Read};

use sha2::{Digest as _, Sha256};
use thiserror::Error;
use zstd::zstd_safe::get_frame_content_size;

use self::gzip::{Gzip, WINDOW};
use crate::Digest;
use crate::limits::{Limits, ZSTD_WIDE_WINDOW_LOG, ZSTD_WINDOW_LOG};
use crate::tar::Input;

/// Bytes decompressed at once; small enough to stay in the cache until they are hashed and
/// written.
const BUFFER: usize = 128 << 10;

/// A zstd window that is chosen for content of no more than that, in bytes.
const LITTLE: u64 = 128 << 10;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

/// Why a stream cannot be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CompressionError {
    /// Another kind, by its first bytes.
    #[error("compressed with {0}, which is not supported")]
    Unsupported(&'static str),
    /// More comes out than is allowed.
    #[error("inflates to more than {0} bytes, or too far for its size")]
    Inflates(u64),
}

impl Compression {
    /// By the first bytes of a stream.
    pub(crate) fn detect(head: &[u8]) -> Result<Self, CompressionError> {
        match head {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            // A frame, or one that is to be skipped.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => Err(CompressionError::Unsupported("xz")),
            [b'B', b'Z', b'h', b'1'..=b'9', b'1', b'A', b'Y', ..] => {
                Err(CompressionError::Unsupported("bzip2"))
            }
            _ => Ok(Self::None),
        }
    }
}

/// Whether a stream may ask for more memory than others may have at the same time: zstd whose first
/// frame has a window of more than 8 MiB, or is not the only one, as far as its head and the length
/// of the whole tell. Of many frames the first is often small (zstd:chunked begins with a header of
/// tar's alone) and says nothing of the others.
pub(crate) fn is_wide(head: &[u8], length: Option<u64>) -> bool {
    let [0x28, 0xb5, 0x2f, 0xfd, flags, window, ..] = head else {
        return Compression::detect(head) == Ok(Compression::Zstd);
    };
    let (Ok(content), Some(length)) = (get_frame_content_size(head), length) else { return true };
    // One segment has a window for all its content. Else five bits of exponent, three of mantissa
    // (RFC 8878 §3.1.1.1.2), rounded up here.
    let is_one_segment = flags & 0x20 != 0;
    let declared = 1_u64 << (10 + window.div_ceil(8));
    let window = if is_one_segment { content.unwrap_or(u64::MAX) } else { declared };
    // Who does not say how much it is takes a window of 512 KiB or more, unless it is little.
    let content = content.or_else(|| (window <= LITTLE).then_some(window));
    // Blocks that are not compressed, in pieces as small as anyone makes them.
    let at_most = |content: u64| content.saturating_add(content / 64).saturating_add(64);
    window > 1 << ZSTD_WINDOW_LOG || content.is_some_and(|content| length > at_most(content))
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "uncompressed",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// A compressed stream that knows how much of it was read.
pub(crate) trait Compressed: BufRead {
    /// Bytes read so far.
    fn taken(&self) -> u64;

    /// Bytes that there are in all, where that is known.
    fn length(&self) -> Option<u64> {
        None
    }
}

/// Counts what is read of any stream.
#[derive(Debug)]
pub(crate) struct Counted<R> {
    inner: R,
    taken: u64,
}

impl<R: BufRead> Counted<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self { inner, taken: 0 }
    }
}

impl<R: BufRead> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        self.taken += count as u64;
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Counted<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.taken += amount as u64;
        self.inner.consume(amount);
    }
}

impl<R: BufRead> Compressed for Counted<R> {
    fn taken(&self) -> u64 {
        self.taken
    }
}

enum Inner<R: BufRead> {
    Plain(R),
    Gzip(Box<Gzip<R>>),
    Zstd(zstd::stream::read::Decoder<'static, R>),
}

/// A stream of what comes out, hashed on the way.
pub(crate) struct Decoder<R: BufRead> {
    inner: Inner<R>,
    /// The last bytes of what was consumed, as many as may be referred to; behind them what came
    /// out since.
    buffer: Box<[u8]>,
    /// The part of `buffer` that was not consumed yet.
    from: usize,
    to: usize,
    hasher: Option<Sha256>,
    produced: u64,
    limits: Limits,
}

/// What comes out of a stream that is compressed with gzip, zstd or not at all, by its first bytes.
pub fn decompress<R: BufRead>(mut input: R) -> io::Result<impl Read> {
    let compression = Compression::detect(input.fill_buf()?).map_err(io::Error::other)?;
    Decoder::new(Counted::new(input), compression, false, &Limits::DEFAULT)
}

impl<R: Compressed> Decoder<R> {
    /// Decompresses `input`; what comes out is hashed if `hashed`. One that [`is_wide`] may need
    /// 32 MiB, others never do: a later frame that wants more is an error.
    pub(crate) fn new(
        mut input: R,
        compression: Compression,
        hashed: bool,
        limits: &Limits,
    ) -> io::Result<Self> {
        let inner = match compression {
            Compression::None => Inner::Plain(input),
            Compression::Gzip => Inner::Gzip(Box::new(Gzip::new(input))),
            Compression::Zstd => {
                let length = input.length();
                let wide = is_wide(input.fill_buf()?, length);
                let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
                decoder.window_log_max(if wide {
                    ZSTD_WIDE_WINDOW_LOG
                } else {
                    ZSTD_WINDOW_LOG
                })?;
                Inner::Zstd(decoder)
            }
        };
        Ok(Self {
            inner,
            buffer: vec![0; WINDOW + BUFFER].into_boxed_slice(),
            from: WINDOW,
            to: WINDOW,
            hasher: hashed.then(Sha256::new),
            produced: 0,
            limits: *limits,
        })
    }

    /// Reads what is left; then the number of bytes that came out, their digest if it was asked
    /// for, and the input, read to its end.
    pub(crate) fn finish(mut self) -> io::Result<(u64, Option<Digest>, R)> {
        loop {
            let length = self.fill_buf()?.len();
            if length == 0 {
                break;
            }
            self.consume(length);
        }
        let digest = self.hasher.map(|hasher| Digest::from(<[u8; 32]>::from(hasher.finalize())));
        let mut input = match self.inner {
            Inner::Plain(input) => input,
            Inner::Gzip(decoder) => decoder.into_inner(),
            Inner::Zstd(decoder) => decoder.finish(),
        };
        if !input.fill_buf()?.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "data after the compressed end",
            ));
        }
        Ok((self.produced, digest, input))
    }

    fn check_quota(&self) -> io::Result<()> {
        let taken = match &self.inner {
            Inner::Plain(_) => self.produced,
            Inner::Gzip(decoder) => decoder.get_ref().taken(),
            Inner::Zstd(decoder) => decoder.get_ref().taken(),
        };
        let allowed = taken.saturating_mul(self.limits.inflation);
        let allowed = allowed.saturating_add(self.limits.free_inflation);
        let allowed = allowed.min(self.limits.layer_bytes);
        if self.produced > allowed {
            return Err(io::Error::other(CompressionError::Inflates(allowed)));
        }
        Ok(())
    }
}

impl<R: Compressed> Read for Decoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buf)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: Compressed> BufRead for Decoder<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.from == self.to {
            let count = match &mut self.inner {
                Inner::Plain(input) => input.read(&mut self.buffer[WINDOW..])?,
                Inner::Zstd(decoder) => decoder.read(&mut self.buffer[WINDOW..])?,
                Inner::Gzip(decoder) => {
                    self.buffer.copy_within(self.to - WINDOW..self.to, 0);
                    decoder.read(&mut self.buffer)?
                }
            };
            (self.from, self.to) = (WINDOW, WINDOW + count);
            self.produced = self.produced.saturating_add(count as u64);
            self.check_quota()?;
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&self.buffer[self.from..self.to]);
            }
        }
        Ok(self.buffer.get(self.from..self.to).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.from = self.from.saturating_add(amount).min(self.to);
    }
}

impl<R: Compressed> Input for Decoder<R> {}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::testing::{gzip, zstd};

    fn inflate(bytes: &[u8], limits: &Limits) -> io::Result<(u64, Option<Digest>)> {
        let compression = Compression::detect(bytes).map_err(io::Error::other)?;
        let decoder = Decoder::new(Counted::new(bytes), compression, true, limits)?;
        decoder.finish().map(|(size, digest, _)| (size, digest))
    }

    #[test]
    fn every_kind_comes_out_as_it_went_in() {
        let plain = b"some text, some text".repeat(50_000);
        let expected = (plain.len() as u64, Some(Digest::of(&plain)));
        for bytes in [plain.clone(), gzip(&plain), zstd(&plain)] {
            assert_eq!(inflate(&bytes, &Limits::DEFAULT).unwrap(), expected);
        }
    }

    #[test]
    fn row6_gzip_of_several_members_works_and_junk_behind_it_does_not() {
        let members = [gzip(b"one"), gzip(b"two")].concat();
        let digest = Some(Digest::of(b"onetwo"));
        assert_eq!(inflate(&members, &Limits::DEFAULT).unwrap(), (6, digest));
        for junk in [&b"junk"[..], b"\0", &[0x1f, 0x8b]] {
            assert!(inflate(&[&gzip(b"one")[..], junk].concat(), &Limits::DEFAULT).is_err());
            assert!(inflate(&[&zstd(b"one")[..], junk].concat(), &Limits::DEFAULT).is_err());
        }
    }

    #[test]
    fn row6_a_bomb_is_stopped_at_the_quota() {
        let limits = Limits { free_inflation: 1 << 18, inflation: 10, ..Limits::DEFAULT };
        for bomb in [gzip(&vec![0; 4 << 20]), zstd(&vec![0; 4 << 20])] {
            let error = inflate(&bomb, &limits).unwrap_err();
            assert!(error.to_string().contains("inflates to more than"), "{error}");
            assert!(inflate(&bomb, &Limits::DEFAULT).is_ok());
        }
    }

    /// A layer: its length is known.
    struct Layer<'a>(Counted<&'a [u8]>, usize);

    impl Read for Layer<'_> {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0.read(buf)
        }
    }

    impl BufRead for Layer<'_> {
        fn fill_buf(&mut self) -> io::Result<&[u8]> {
            self.0.fill_buf()
        }

        fn consume(&mut self, amount: usize) {
            self.0.consume(amount);
        }
    }

    impl Compressed for Layer<'_> {
        fn taken(&self) -> u64 {
            self.0.taken()
        }

        fn length(&self) -> Option<u64> {
            Some(self.1 as u64)
        }
    }

    /// Whether a layer is wide, and comes out.
    fn judge(bytes: &[u8]) -> (bool, bool) {
        let layer = Layer(Counted::new(bytes), bytes.len());
        let decoder = Decoder::new(layer, Compression::Zstd, false, &Limits::DEFAULT).unwrap();
        (is_wide(bytes, Some(bytes.len() as u64)), decoder.finish().is_ok())
    }

    fn frame(window_log: u32, content: &[u8], has_size: bool) -> Vec<u8> {
        let mut encoder = ::zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(window_log).unwrap();
        if has_size {
            encoder.set_pledged_src_size(Some(content.len() as u64)).unwrap();
        }
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn row6_zstd_windows_are_limited() {
        for (log, expected) in
            [(20, (false, true)), (23, (false, true)), (25, (true, true)), (27, (true, false))]
        {
            assert_eq!(judge(&frame(log, &[1; 100_000], false)), expected, "{log}");
        }
        // One segment: its window is its content.
        assert_eq!(judge(&frame(25, &vec![1; 8 << 20], true)), (false, true));
        assert_eq!(judge(&frame(25, &vec![1; 9 << 20], true)), (true, true));
        let hidden = [frame(20, &[1; 100_000], false), frame(25, &[1; 100_000], false)].concat();
        assert_eq!(judge(&hidden), (false, false));
    }

    #[test]
    fn wide_frames_behind_a_small_one_are_foreseen() {
        let noise: Vec<u8> =
            (0..40_000_u32).flat_map(|n| n.wrapping_mul(n ^ 0x9e37_79b9).to_le_bytes()).collect();
        let wide = frame(25, &noise, false);
        for first in [&b"a"[..], &[1; 300], &[1; 2048], &[1; 70_000]] {
            assert_eq!(judge(&frame(20, first, true)), (false, true));
            assert_eq!(judge(&[frame(20, first, true), wide.clone()].concat()), (true, true));
        }
        assert_eq!(judge(&[frame(10, b"untold", false), wide.clone()].concat()), (true, true));
        assert_eq!(judge(&frame(20, &noise, true)), (false, true));
        // A skippable frame first, as of pzstd.
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 7];
        assert_eq!(judge(&[&skippable[..], &wide].concat()), (true, true));
    }

    #[test]
    fn truncated_streams_are_errors() {
        for whole in [gzip(&[7; 100_000]), zstd(&[7; 100_000])] {
            for length in [4, 10, whole.len() - 1] {
                assert!(inflate(&whole[..length], &Limits::DEFAULT).is_err(), "{length}");
            }
        }
    }

    #[test]
    fn other_kinds_are_named() {
        let error = Compression::detect(b"\xfd7zXZ\0").unwrap_err();
        assert_eq!(error.to_string(), "compressed with xz, which is not supported");
    }
}
