//! PAX extended headers: records, and what they say of an entry.
//!
//! Records are `LENGTH KEY=VALUE\n` (POSIX.1-2001, pax, "pax Header Block"); an empty value takes
//! back what was said before. Extended attributes come as `SCHILY.xattr.NAME` with the value as it
//! is (star, GNU tar, Docker) or as `LIBARCHIVE.xattr.NAME` percent-encoded with the value in
//! base64 (bsdtar, beside the former, which wins).

use crate::limits::{MAX_XATTR_VALUE, MAX_XATTRS};
use crate::sparse::PaxSparse;
use crate::{TarError, Timestamp, Xattr};

/// What a PAX header says of the entry that follows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PaxHeader {
    pub(crate) path: Option<Vec<u8>>,
    pub(crate) link: Option<Vec<u8>>,
    pub(crate) size: Option<u64>,
    pub(crate) uid: Option<u64>,
    pub(crate) gid: Option<u64>,
    pub(crate) mtime: Option<Timestamp>,
    pub(crate) xattrs: Vec<Xattr>,
    pub(crate) sparse: PaxSparse,
}

impl PaxHeader {
    /// Parses the data of an `x` header.
    pub(crate) fn parse(mut data: &[u8]) -> Result<Self, TarError> {
        let mut header = Self::default();
        let mut libarchive = Vec::new();
        while !data.is_empty() {
            let record = Record::split(&mut data)?;
            header.set(record.key, record.value, &mut libarchive)?;
        }
        for (name, value) in libarchive {
            if !header.xattrs.iter().any(|(known, _)| *known == name) {
                header.xattrs.push((name, value));
            }
        }
        let bytes: usize = header.xattrs.iter().map(|(name, value)| name.len() + value.len()).sum();
        if bytes > MAX_XATTRS {
            let (what, limit) = ("the sum of extended attributes", MAX_XATTRS as u64);
            return Err(TarError::TooLong { what, limit });
        }
        Ok(header)
    }

    fn set(
        &mut self,
        key: &[u8],
        value: &[u8],
        libarchive: &mut Vec<Xattr>,
    ) -> Result<(), TarError> {
        match key {
            b"path" => self.path = name(value)?,
            b"linkpath" => self.link = name(value)?,
            b"size" => self.size = optional(value, decimal)?,
            b"uid" => self.uid = optional(value, decimal)?,
            b"gid" => self.gid = optional(value, decimal)?,
            b"mtime" => self.mtime = optional(value, timestamp)?,
            _ => {
                if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    return self.sparse.set(key, value);
                }
                if let Some(key) = key.strip_prefix(b"SCHILY.xattr.") {
                    return set_xattr(&mut self.xattrs, decode_schily(key), value.to_vec());
                }
                if let Some(key) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let name = decode_percent(key).ok_or(TarError::Pax("attribute name"))?;
                    let value = decode_base64(value).ok_or(TarError::Pax("attribute value"))?;
                    return set_xattr(libarchive, name, value);
                }
            }
        }
        Ok(())
    }
}

/// Refuses a global header that would change where entries begin or what they are called; all
/// else that one may say is ignored.
pub(crate) fn check_global(mut data: &[u8]) -> Result<(), TarError> {
    while !data.is_empty() {
        let key = Record::split(&mut data)?.key;
        if matches!(key, b"path" | b"linkpath" | b"size") || key.starts_with(b"GNU.sparse.") {
            return Err(TarError::Pax("global name or size"));
        }
    }
    Ok(())
}

struct Record<'a> {
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> Record<'a> {
    /// Splits the first record off `data`.
    fn split(data: &mut &'a [u8]) -> Result<Self, TarError> {
        let wrong = || TarError::Pax("record length");
        let space = data.iter().take(20).position(|&byte| byte == b' ').ok_or_else(wrong)?;
        let (digits, _) = data.split_at_checked(space).ok_or_else(wrong)?;
        let length = decimal(digits).and_then(|n| usize::try_from(n).ok()).ok_or_else(wrong)?;
        let (record, rest) = data.split_at_checked(length).ok_or_else(wrong)?;
        *data = rest;
        let body = record.get(space + 1..).and_then(|body| body.strip_suffix(b"\n"));
        let body = body.ok_or_else(wrong)?;
        let equals = body.iter().position(|&byte| byte == b'=').ok_or(TarError::Pax("no value"))?;
        let (key, value) = body.split_at_checked(equals).ok_or_else(wrong)?;
        if key.is_empty() || key.contains(&0) {
            return Err(TarError::Pax("key"));
        }
        Ok(Self { key, value: value.get(1..).unwrap_or_default() })
    }
}

fn name(value: &[u8]) -> Result<Option<Vec<u8>>, TarError> {
    if value.contains(&0) {
        return Err(TarError::Nul);
    }
    Ok((!value.is_empty()).then(|| value.to_vec()))
}

fn optional<T>(value: &[u8], parse: fn(&[u8]) -> Option<T>) -> Result<Option<T>, TarError> {
    if value.is_empty() {
        return Ok(None);
    }
    parse(value).map(Some).ok_or(TarError::Pax("number"))
}

/// Decimal digits and nothing else.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |value, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

/// `[-]SECONDS[.FRACTION]`; digits beyond nanoseconds are cut off towards the past.
fn timestamp(text: &[u8]) -> Option<Timestamp> {
    let (negative, text) = match text.strip_prefix(b"-") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut parts = text.splitn(2, |&byte| byte == b'.');
    let seconds = i64::try_from(decimal(parts.next()?)?).ok()?;
    let fraction = parts.next().unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    let mut nanoseconds = digits.fold(0u32, |value, digit| value * 10 + u32::from(digit - b'0'));
    if !negative {
        return Some(Timestamp { seconds, nanoseconds });
    }
    if fraction.iter().skip(9).any(|&digit| digit != b'0') {
        nanoseconds += 1;
    }
    if nanoseconds == 0 {
        return Some(Timestamp { seconds: -seconds, nanoseconds });
    }
    Some(Timestamp { seconds: -seconds - 1, nanoseconds: 1_000_000_000 - nanoseconds })
}

fn set_xattr(xattrs: &mut Vec<Xattr>, name: Vec<u8>, value: Vec<u8>) -> Result<(), TarError> {
    if name.contains(&0) {
        return Err(TarError::Nul);
    }
    if value.len() > MAX_XATTR_VALUE {
        let (what, limit) = ("an extended attribute", MAX_XATTR_VALUE as u64);
        return Err(TarError::TooLong { what, limit });
    }
    match xattrs.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = value,
        None => xattrs.push((name, value)),
    }
    Ok(())
}

/// GNU tar writes `%` and `=` in a name as `%25` and `%3D`, and nothing else so.
fn decode_schily(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        let (byte, after) = match (rest.strip_prefix(b"%25"), rest.strip_prefix(b"%3D")) {
            (Some(after), _) => (b'%', after),
            (_, Some(after)) => (b'=', after),
            _ => (byte, after),
        };
        decoded.push(byte);
        rest = after;
    }
    decoded
}

fn decode_percent(text: &[u8]) -> Option<Vec<u8>> {
    let hex = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => (hex(bytes.next()?)? << 4) | hex(bytes.next()?)?,
            _ => byte,
        });
    }
    Some(decoded)
}

/// RFC 4648 base64, with or without its padding.
fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut decoded = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for group in digits.chunks(4) {
        let mut bits = 0u32;
        for &digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = (bits << 6) | u32::from(value);
        }
        let missing = 4 - group.len();
        if missing == 3 {
            return None;
        }
        let bytes = (bits << (6 * missing)).to_be_bytes();
        decoded.extend_from_slice(bytes.get(1..4 - missing)?);
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(key: &str, value: &[u8]) -> Vec<u8> {
        crate::testing::pax_record(key.as_bytes(), value)
    }

    #[test]
    fn times_before_1970_count_forward() {
        let time = |text: &str| timestamp(text.as_bytes()).map(|t| (t.seconds, t.nanoseconds));
        assert_eq!(time("1.5"), Some((1, 500_000_000)));
        assert_eq!(time("-1.5"), Some((-2, 500_000_000)));
        assert_eq!(time("-1"), Some((-1, 0)));
        assert_eq!(time("-0.0000000001"), Some((-1, 999_999_999)));
        assert_eq!(time("1.0000000019"), Some((1, 1)));
        assert_eq!(time("7."), Some((7, 0)));
        for bad in ["", "-", ".5", "1.x", "--1", "1e3", "99999999999999999999"] {
            assert_eq!(time(bad), None, "{bad}");
        }
    }

    #[test]
    fn row5_malformed_records_are_refused() {
        for bad in [
            &b"x"[..],
            b"5 a=b",
            b"6 a=b\nx",
            b"9 a=b\n",
            b"-6 a=b\n",
            b"06 a=b ",
            b"5 ab\n",
            b"5 =b\n",
            b"99999999999999999999 a=b\n",
            b"0 a=b\n",
            b"2 \n",
            b"10 size=1x\n",
            b"10 uid=-1 \n",
            b"10 path=\0a\n",
            b"7 a\0=b\n",
        ] {
            assert!(PaxHeader::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn later_records_win_and_empty_ones_take_back() {
        let data = [record("path", b"a"), record("path", b"b"), record("size", b"1")].concat();
        let header = PaxHeader::parse(&data).unwrap();
        assert_eq!((header.path.as_deref(), header.size), (Some(&b"b"[..]), Some(1)));
        let data = [record("path", b"a"), record("path", b"")].concat();
        assert_eq!(PaxHeader::parse(&data).unwrap().path, None);
    }

    #[test]
    fn both_spellings_of_attributes_are_read() {
        let data = [
            record("LIBARCHIVE.xattr.user.a%3Db", b"AAEC/w"),
            record("LIBARCHIVE.xattr.user.c", b"eHg="),
            record("SCHILY.xattr.user.c", b"raw\n\0="),
            record("SCHILY.xattr.user.100%25%3D%41", b""),
        ];
        let header = PaxHeader::parse(&data.concat()).unwrap();
        let expected: [(&[u8], &[u8]); 3] =
            [(b"user.c", b"raw\n\0="), (b"user.100%=%41", b""), (b"user.a=b", b"\0\x01\x02\xff")];
        let found: Vec<_> = header.xattrs.iter().map(|(n, v)| (&n[..], &v[..])).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn attributes_that_erofs_cannot_hold_are_refused() {
        let data = record("SCHILY.xattr.user.a", &vec![0; MAX_XATTR_VALUE + 1]);
        assert!(matches!(PaxHeader::parse(&data), Err(TarError::TooLong { .. })));
    }

    #[test]
    fn global_headers_may_not_rename_or_resize() {
        assert!(check_global(&record("comment", b"from git")).is_ok());
        assert!(check_global(&record("size", b"1")).is_err());
        assert!(check_global(&record("path", b"x")).is_err());
    }

    proptest! {
        #[test]
        fn row5_no_bytes_make_the_parser_panic(data in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = PaxHeader::parse(&data);
            let _ = check_global(&data);
        }

        #[test]
        fn row5_no_record_makes_the_parser_panic(
            key in "(path|size|mtime|GNU.sparse.(map|size|numblocks|offset|numbytes|major)|SCHILY.xattr.x|LIBARCHIVE.xattr.%4)",
            value in "[-0-9.,%=a\n]{0,24}",
        ) {
            let _ = PaxHeader::parse(&record(&key, value.as_bytes()));
        }
    }
}
