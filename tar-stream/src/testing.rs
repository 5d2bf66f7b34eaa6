//! What tests put archives together with, field by field, also wrongly. Panics where a field does
//! not fit.

/// A tar archive that is put together field by field, also wrongly.
#[derive(Clone, Debug, Default)]
pub struct TarBuilder(Vec<u8>);

/// A ustar header to be.
#[derive(Clone, Debug)]
pub struct Header([u8; 512]);

/// A PAX record with the right length.
pub fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length.to_string().len() + rest != length {
        length += 1;
    }
    [length.to_string().as_bytes(), b" ", key, b"=", value, b"\n"].concat()
}

impl Header {
    pub fn new(name: &[u8], kind: u8, size: u64) -> Self {
        let mut header = Self([0; 512]);
        header.set(257, b"ustar\x0000");
        header.set(0, name);
        header.octal(100, 7, 0o644).octal(108, 7, 0).octal(116, 7, 0);
        header.octal(124, 11, size).octal(136, 11, 1_000_000_000);
        header.0[156] = kind;
        header
    }

    pub fn set(&mut self, at: usize, bytes: &[u8]) -> &mut Self {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    pub fn octal(&mut self, at: usize, digits: usize, number: u64) -> &mut Self {
        self.set(at, format!("{number:0digits$o}\0").as_bytes())
    }

    pub fn link(&mut self, target: &[u8]) -> &mut Self {
        self.set(157, target)
    }

    pub fn bytes(&self) -> [u8; 512] {
        let mut bytes = self.0;
        bytes[148..156].fill(b' ');
        let sum: u32 = bytes.iter().map(|&byte| u32::from(byte)).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes
    }
}

impl TarBuilder {
    pub fn new() -> Self {
        Self::default()
    }

    /// A header and data, padded.
    pub fn raw(&mut self, header: &Header, data: &[u8]) -> &mut Self {
        self.0.extend_from_slice(&header.bytes());
        self.blocks(data)
    }

    /// Data without a header, padded.
    pub fn blocks(&mut self, data: &[u8]) -> &mut Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    /// A PAX header for the next entry.
    pub fn pax(&mut self, records: &[(&str, &[u8])]) -> &mut Self {
        let records = records.iter().map(|(key, value)| pax_record(key.as_bytes(), value));
        let data = records.collect::<Vec<_>>().concat();
        self.raw(&Header::new(b"pax", b'x', data.len() as u64), &data)
    }

    pub fn file(&mut self, name: &str, data: &[u8]) -> &mut Self {
        self.raw(&Header::new(name.as_bytes(), b'0', data.len() as u64), data)
    }

    pub fn dir(&mut self, name: &str) -> &mut Self {
        self.raw(Header::new(name.as_bytes(), b'5', 0).octal(100, 7, 0o755), b"")
    }

    pub fn symlink(&mut self, name: &str, target: &str) -> &mut Self {
        self.raw(Header::new(name.as_bytes(), b'2', 0).link(target.as_bytes()), b"")
    }

    pub fn hard_link(&mut self, name: &str, target: &str) -> &mut Self {
        self.raw(Header::new(name.as_bytes(), b'1', 0).link(target.as_bytes()), b"")
    }

    pub fn device(&mut self, name: &str, major: u64, minor: u64) -> &mut Self {
        let mut header = Header::new(name.as_bytes(), b'3', 0);
        self.raw(header.octal(329, 7, major).octal(337, 7, minor), b"")
    }

    /// The archive with its end mark.
    pub fn finish(&self) -> Vec<u8> {
        [&self.0[..], &[0; 1024]].concat()
    }
}
