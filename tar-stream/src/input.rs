//! What a tar archive is read from.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

/// A buffered stream that can pass over bytes.
pub trait Input: BufRead {
    /// Passes over `count` bytes; `UnexpectedEof` if there are fewer.
    fn skip(&mut self, mut count: u64) -> io::Result<()> {
        while count > 0 {
            let available = self.fill_buf()?.len();
            if available == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let step = usize::try_from(count).map_or(available, |count| count.min(available));
            self.consume(step);
            count -= step as u64;
        }
        Ok(())
    }
}

impl<I: Input> Input for &mut I {}

impl<R: Read> Input for BufReader<R> {}

/// Bytes in memory.
impl Input for &[u8] {}

/// A file in which passing over is seeking.
#[derive(Debug)]
pub struct SeekInput {
    reader: BufReader<File>,
    left: u64,
}

impl SeekInput {
    /// Reads `file` from its start, which is where its position must be.
    pub fn new(file: File) -> io::Result<Self> {
        let left = file.metadata()?.len();
        Ok(Self { reader: BufReader::new(file), left })
    }
}

impl Input for SeekInput {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let end = || io::Error::from(io::ErrorKind::UnexpectedEof);
        self.left = self.left.checked_sub(count).ok_or_else(end)?;
        self.reader.seek_relative(i64::try_from(count).map_err(|_| end())?)
    }
}

impl Read for SeekInput {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buf)?;
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }
}

impl BufRead for SeekInput {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.reader.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.left = self.left.saturating_sub(amount as u64);
        self.reader.consume(amount);
    }
}
