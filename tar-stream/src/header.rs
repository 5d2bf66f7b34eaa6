//! The 512-byte header block: fields, numbers, checksum.

use crate::TarError;

/// Bytes of a tar block.
pub(crate) const BLOCK: usize = 512;
/// [`BLOCK`] as the stream counts.
pub(crate) const BLOCK_U64: u64 = 512;

/// Largest number of the 11 octal digits of a size field, plus one.
pub(crate) const OCTAL_SIZE_LIMIT: u64 = 1 << 33;

/// A header block whose checksum was right.
#[derive(Clone, Debug)]
pub(crate) struct Header(pub(crate) [u8; BLOCK]);

/// Field positions of POSIX.1-1988 §10.1.1, and of GNU and star where they differ.
impl Header {
    /// `None` if the checksum is wrong.
    pub(crate) fn new(block: [u8; BLOCK]) -> Option<Self> {
        let header = Self(block);
        let stated = octal_or_binary(header.field(148, 8))?;
        // The field itself counts as spaces; old writers summed signed bytes.
        let (mut unsigned, mut signed) = (0i64, 0i64);
        for (at, &byte) in header.0.iter().enumerate() {
            let byte = if (148..156).contains(&at) { b' ' } else { byte };
            unsigned += i64::from(byte);
            signed += i64::from(i8::from_ne_bytes([byte]));
        }
        (stated == unsigned || stated == signed).then_some(header)
    }

    fn field(&self, start: usize, length: usize) -> &[u8] {
        self.0.get(start..start + length).unwrap_or_default()
    }

    /// A field up to its first NUL.
    fn text(&self, start: usize, length: usize) -> &[u8] {
        self.field(start, length).split(|&byte| byte == 0).next().unwrap_or_default()
    }

    fn number(&self, start: usize, length: usize, field: &'static str) -> Result<i64, TarError> {
        octal_or_binary(self.field(start, length)).ok_or(TarError::Number { field })
    }

    fn unsigned(&self, start: usize, length: usize, field: &'static str) -> Result<u64, TarError> {
        u64::try_from(self.number(start, length, field)?).map_err(|_| TarError::Number { field })
    }

    /// The name, with the prefix that ustar and star headers have and GNU ones have not.
    pub(crate) fn path(&self) -> Vec<u8> {
        let name = self.text(0, 100);
        let prefix: &[u8] = if self.field(257, 6) != b"ustar\0" {
            b""
        } else if self.field(508, 4) == b"tar\0" {
            self.text(345, 131)
        } else {
            self.text(345, 155)
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
    }

    pub(crate) fn link(&self) -> &[u8] {
        self.text(157, 100)
    }

    pub(crate) fn kind(&self) -> u8 {
        self.field(156, 1).first().copied().unwrap_or_default()
    }

    pub(crate) fn mode(&self) -> Result<u16, TarError> {
        // Only the permission bits; some writers put the file type above them.
        let mode = self.unsigned(100, 8, "mode")? & 0o7777;
        u16::try_from(mode).map_err(|_| TarError::Number { field: "mode" })
    }

    pub(crate) fn uid(&self) -> Result<u64, TarError> {
        self.unsigned(108, 8, "uid")
    }

    pub(crate) fn gid(&self) -> Result<u64, TarError> {
        self.unsigned(116, 8, "gid")
    }

    pub(crate) fn size(&self) -> Result<u64, TarError> {
        self.unsigned(124, 12, "size")
    }

    pub(crate) fn mtime(&self) -> Result<i64, TarError> {
        self.number(136, 12, "mtime")
    }

    pub(crate) fn device(&self) -> Result<(u64, u64), TarError> {
        Ok((self.unsigned(329, 8, "device major")?, self.unsigned(337, 8, "device minor")?))
    }

    /// Old GNU sparse header: four pairs, whether more follow, and the file's real size.
    pub(crate) fn gnu_sparse(&self) -> Result<(&[u8], bool, u64), TarError> {
        let more = self.field(482, 1) != [0];
        Ok((self.field(386, 96), more, self.unsigned(483, 12, "sparse size")?))
    }
}

/// A numeric field: octal digits between spaces and NULs, or GNU's base 256 with the top bit set;
/// an empty field is 0.
pub(crate) fn octal_or_binary(field: &[u8]) -> Option<i64> {
    let (&first, rest) = field.split_first()?;
    if first & 0x80 != 0 {
        // The bit below the marker is the sign, and stands for all bits that are not there.
        let negative = first & 0x40 != 0;
        let head = if negative { first | 0x80 } else { first & 0x7f };
        let mut value = i64::from(i8::from_ne_bytes([head]));
        for &byte in rest {
            value = value.checked_mul(256)?.checked_add(i64::from(byte))?;
        }
        return Some(value);
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_blank(byte));
    let end = field.iter().rposition(|byte| !is_blank(byte));
    let (Some(start), Some(end)) = (start, end) else { return Some(0) };
    field.get(start..=end)?.iter().try_fold(0i64, |value, &digit| {
        let digit = matches!(digit, b'0'..=b'7').then(|| i64::from(digit - b'0'))?;
        value.checked_mul(8)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(octal_or_binary(b"0000644\0"), Some(0o644));
        assert_eq!(octal_or_binary(b"   644 \0"), Some(0o644));
        assert_eq!(octal_or_binary(b"\0\0\0\0\0\0\0\0"), Some(0));
        assert_eq!(octal_or_binary(b"77777777777\0"), Some((1 << 33) - 1));
        assert_eq!(octal_or_binary(b"\x80\0\0\0\0\0\0\x01\0\0\0\0"), Some(1 << 32));
        assert_eq!(octal_or_binary(&[0xff; 12]), Some(-1));
        assert_eq!(octal_or_binary(b"\xff\xff\xff\xff\xff\xff\xff\xfe"), Some(-2));
        assert_eq!(octal_or_binary(b"12x45\0"), None);
        assert_eq!(octal_or_binary(b"08\0"), None);
        assert_eq!(octal_or_binary(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(octal_or_binary(b"-1\0"), None);
    }
}
