//! Bytes as the inside of a JSON string, and back, exactly.
//!
//! The characters that are escaped are Docker's: quotes, backslashes, controls, and `<`, `>`, `&`.

use memchr::memchr2;

/// Bytes looked at together for something to escape.
const BLOCK: usize = 32;

/// Longest escape.
const LONGEST: usize = 6;

/// How a byte is written, and how many bytes of that count. A byte from 0x80 on is no text here.
struct Written {
    text: [u8; 8],
    length: usize,
}

static WRITTEN: [Written; 256] = {
    let mut table = [const { Written { text: [0; 8], length: 0 } }; 256];
    let mut index = 0;
    while index < table.len() {
        table[index] = written(index.to_le_bytes()[0]);
        index += 1;
    }
    table
};

const fn written(byte: u8) -> Written {
    let hex = b"0123456789abcdef";
    let (high, low) = (hex[(byte >> 4) as usize], hex[(byte & 0xf) as usize]);
    match byte {
        b'"' | b'\\' => Written { text: [b'\\', byte, 0, 0, 0, 0, 0, 0], length: 2 },
        b'\n' => Written { text: *b"\\n\0\0\0\0\0\0", length: 2 },
        b'\r' => Written { text: *b"\\r\0\0\0\0\0\0", length: 2 },
        _ if is_special(byte) => {
            Written { text: [b'\\', b'u', b'0', b'0', high, low, 0, 0], length: LONGEST }
        }
        0x80.. => Written { text: [b'\\', b'u', b'd', b'c', high, low, 0, 0], length: LONGEST },
        _ => Written { text: [byte, 0, 0, 0, 0, 0, 0, 0], length: 1 },
    }
}

const fn is_special(byte: u8) -> bool {
    (byte < b' ')
        | (byte == b'"')
        | (byte == b'\\')
        | (byte == b'<')
        | (byte == b'>')
        | (byte == b'&')
}

/// Appends bytes, escaped.
pub(super) fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    if str::from_utf8(bytes).is_err() {
        return escape_each(bytes, character, out);
    }
    for block in bytes.chunks(BLOCK) {
        // Without a branch a byte, so that it is done with vectors.
        if block.iter().fold(false, |any, &byte| any | is_special(byte)) {
            escape_each(block, |rest| usize::from(!rest.first().is_some_and(u8::is_ascii)), out);
        } else {
            out.extend_from_slice(block);
        }
    }
}

/// Appends what the table has for each byte; those are kept as they are, as many as `kept` says,
/// that stand at the beginning of what is left.
fn escape_each(bytes: &[u8], kept: impl Fn(&[u8]) -> usize, out: &mut Vec<u8>) {
    let mut end = out.len();
    // Room for all of them and for what a fixed length copies too much: no look at the capacity, no
    // copy of a length of its own a byte.
    out.resize(end + LONGEST * bytes.len() + 2, 0);
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        let count = kept(rest);
        if count == 0 {
            let Written { text, length } = &WRITTEN[usize::from(byte)];
            out[end..end + text.len()].copy_from_slice(text);
            end += length;
            rest = after;
        } else {
            out[end..end + count].copy_from_slice(&rest[..count]);
            end += count;
            rest = &rest[count..];
        }
    }
    out.truncate(end);
}

/// How long the character is, beyond ASCII, that bytes begin with; 0 if there is none.
fn character(bytes: &[u8]) -> usize {
    let length = match bytes {
        [0xc2..=0xdf, 0x80..=0xbf, ..] => 2,
        [0xe0..=0xef, 0x80..=0xbf, ..] => 3,
        [0xf0..=0xf4, 0x80..=0xbf, ..] => 4,
        _ => return 0,
    };
    let is_whole = bytes.get(..length).is_some_and(|bytes| str::from_utf8(bytes).is_ok());
    if is_whole { length } else { 0 }
}

/// Appends what was escaped; `None` where this is not the inside of a JSON string.
pub(super) fn unescape(mut text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    while let Some(at) = memchr2(b'\\', b'"', text) {
        let (plain, rest) = text.split_at_checked(at)?;
        out.extend_from_slice(plain);
        let (&kind, rest) = rest.strip_prefix(b"\\")?.split_first()?;
        text = rest;
        match kind {
            b'"' | b'\\' | b'/' => out.push(kind),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'u' => {
                let (digits, rest) = text.split_first_chunk::<4>()?;
                text = rest;
                push_unit(hex(digits)?, out);
            }
            _ => return None,
        }
    }
    out.extend_from_slice(text);
    Some(())
}

/// Appends a UTF-16 unit, or the byte that it stands for.
fn push_unit(unit: u16, out: &mut Vec<u8>) {
    let [high, low] = unit.to_be_bytes();
    match char::from_u32(unit.into()) {
        None if high == 0xdc => out.push(low),
        // One that is not ours.
        None => out.extend("\u{fffd}".as_bytes()),
        Some(character) => out.extend(character.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

fn hex(digits: &[u8; 4]) -> Option<u16> {
    digits.iter().try_fold(0_u16, |value, &digit| {
        let digit = char::from(digit).to_digit(16)?;
        Some(value << 4 | u16::try_from(digit).ok()?)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        escape(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn unescaped(text: &str) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        unescape(text.as_bytes(), &mut out).map(|()| out)
    }

    #[test]
    fn characters_are_escaped_as_docker_escapes_them() {
        for (bytes, text) in [
            (&b"plain"[..], "plain"),
            (b"\"\\\n\r\t\x1b<>&", r#"\"\\\n\r\u0009\u001b\u003c\u003e\u0026"#),
            ("grün \u{10ffff}".as_bytes(), "grün \u{10ffff}"),
            (b"a\xffb\x80", r"a\udcffb\udc80"),
            // Half a character, and a surrogate that somebody wrote as if it were UTF-8.
            (b"\xe2\x82|\xed\xb3\xbf", r"\udce2\udc82|\udced\udcb3\udcbf"),
        ] {
            assert_eq!(escaped(bytes), text);
            assert_eq!(unescaped(text).unwrap(), bytes);
        }
    }

    #[test]
    fn what_is_no_string_is_refused() {
        for text in ["\"", "a\"b", "\\", "\\x", "\\u", "\\u12", "\\u12g4", "\\u+123"] {
            assert_eq!(unescaped(text), None, "{text}");
        }
        assert_eq!(unescaped("\\ud800").unwrap(), "\u{fffd}".as_bytes());
        assert_eq!(unescaped("\\u00e4\\b\\f\\t\\/").unwrap(), "ä\u{8}\u{c}\t/".as_bytes());
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_and_others_can_read_them(
            bytes in proptest::collection::vec(any::<u8>(), 0..200)
        ) {
            let text = escaped(&bytes);
            prop_assert_eq!(unescaped(&text).unwrap(), bytes);
            let json = format!("\"{text}\"");
            prop_assert!(text.contains("\\udc") || serde_json::from_str::<String>(&json).is_ok());
        }

        #[test]
        fn hostile_text_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = unescape(&bytes, &mut Vec::new());
        }
    }
}
