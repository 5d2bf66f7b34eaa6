//! A line of a log, as it is in the file and as the container wrote it.

use agent_protocol::Stream;
use jiff::Timestamp;

use super::escape::{escape, unescape};

const BEGIN: &[u8] = b"{\"log\":\"";
const STDOUT: &[u8] = b"\",\"stream\":\"stdout\",\"time\":\"";
const STDERR: &[u8] = b"\",\"stream\":\"stderr\",\"time\":\"";
const END: &[u8] = b"\"}";

/// A line that a container wrote, or a piece of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogLine<'a> {
    pub stream: Stream,
    pub time: Timestamp,
    /// With the newline, where there was one.
    pub bytes: &'a [u8],
}

/// Appends a line to what goes into the file. `time` is in RFC 3339.
pub(super) fn encode(stream: Stream, time: &str, bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(BEGIN);
    if let Some(line) = bytes.strip_suffix(b"\n") {
        escape(line, out);
        out.extend_from_slice(b"\\n");
    } else {
        escape(bytes, out);
    }
    out.extend_from_slice(if stream == Stream::Stderr { STDERR } else { STDOUT });
    out.extend_from_slice(time.as_bytes());
    out.extend_from_slice(b"\"}\n");
}

/// A line of the file, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Encoded<'a> {
    pub(super) stream: Stream,
    pub(super) time: Timestamp,
    text: &'a [u8],
}

impl<'a> Encoded<'a> {
    /// Takes a line apart; `None` for one that a crash has left half written. From the end, so that
    /// the text is looked at only where it is wanted.
    pub(super) fn parse(line: &'a [u8]) -> Option<Self> {
        let rest = line.strip_prefix(BEGIN)?.strip_suffix(END)?;
        let quote = memchr::memrchr(b'"', rest)?;
        let (rest, time) = rest.split_at_checked(quote.checked_add(1)?)?;
        let (stream, text) = match (rest.strip_suffix(STDOUT), rest.strip_suffix(STDERR)) {
            (Some(text), _) => (Stream::Stdout, text),
            (None, text) => (Stream::Stderr, text?),
        };
        Some(Self { stream, time: str::from_utf8(time).ok()?.parse().ok()?, text })
    }

    /// Puts the container's bytes into `out`; `None` as with [`Self::parse`].
    pub(super) fn decode(&self, out: &mut Vec<u8>) -> Option<()> {
        out.clear();
        unescape(self.text, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-01-01T00:00:00.00000001Z";

    #[test]
    fn line_in_the_file_is_docker_s() {
        let mut out = Vec::new();
        encode(Stream::Stdout, TIME, b"hello\n", &mut out);
        encode(Stream::Stderr, TIME, b"half", &mut out);
        let expected = "{\"log\":\"hello\\n\",\"stream\":\"stdout\",\"time\":\"TIME\"}\n\
                        {\"log\":\"half\",\"stream\":\"stderr\",\"time\":\"TIME\"}\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected.replace("TIME", TIME));
    }

    #[test]
    fn line_comes_back_as_it_was() {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let bytes = b"\",\"stream\":\"stderr\",\"time\":\"\xff\\\n";
            let mut out = Vec::new();
            encode(stream, TIME, bytes, &mut out);
            let mut decoded = Vec::new();
            let line = Encoded::parse(out.strip_suffix(b"\n").unwrap()).unwrap();
            assert_eq!((line.stream, line.time), (stream, TIME.parse().unwrap()));
            assert_eq!(line.decode(&mut decoded), Some(()));
            assert_eq!(decoded, bytes);
        }
    }

    #[test]
    fn every_cut_of_a_line_is_no_line() {
        let mut out = Vec::new();
        encode(Stream::Stdout, TIME, b"hello\n", &mut out);
        out.pop();
        for cut in 0..out.len() {
            assert_eq!(Encoded::parse(&out[..cut]), None, "{cut}");
            // The next one right after it.
            let joined = [&out[..cut], &out].concat();
            let decoded = Encoded::parse(&joined).and_then(|line| line.decode(&mut Vec::new()));
            assert!(cut == 0 || decoded.is_none(), "{cut}");
        }
    }
}
