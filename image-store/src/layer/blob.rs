//! Writing a layer's blob: the data of its files, one after another, each from a multiple of
//! 4 KiB on. Blocks of zeros are not written: holes of sparse files, tails, and files of zeros
//! take no room on the host's disk.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::BLOCK;
use crate::StoreError;
use crate::files::{create_new, io_error};

/// Bytes gathered before they are written.
const BUFFER: usize = 1 << 20;

/// A blob that is being written.
#[derive(Debug)]
pub(crate) struct BlobWriter {
    file: File,
    path: PathBuf,
    buffer: Vec<u8>,
    /// Where in the file the buffer begins; a multiple of [`BLOCK`].
    start: u64,
}

impl BlobWriter {
    pub(crate) fn create(path: &Path) -> Result<Self, StoreError> {
        let file = create_new(path)?;
        Ok(Self { file, path: path.to_owned(), buffer: Vec::with_capacity(BUFFER), start: 0 })
    }

    /// Begins a file; the number of the block it begins at.
    pub(crate) fn begin(&mut self) -> Result<u64, StoreError> {
        self.align()?;
        Ok(self.end() / BLOCK)
    }

    /// Appends bytes.
    pub(crate) fn data(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        while !bytes.is_empty() {
            let room = (BUFFER - self.buffer.len()).min(bytes.len());
            let (head, tail) = bytes.split_at(room);
            self.buffer.extend_from_slice(head);
            if self.buffer.len() == BUFFER {
                self.flush()?;
            }
            bytes = tail;
        }
        Ok(())
    }

    /// Appends zeros.
    pub(crate) fn hole(&mut self, length: u64) -> Result<(), StoreError> {
        if let Ok(length) = usize::try_from(length)
            && length < BUFFER - self.buffer.len()
        {
            self.buffer.resize(self.buffer.len() + length, 0);
            return Ok(());
        }
        // The limit on what a layer declares keeps this far from overflow.
        let end = self.end() + length;
        self.buffer.resize(self.buffer.len().next_multiple_of(4096), 0);
        self.flush()?;
        self.start = end - end % BLOCK;
        self.buffer.resize(usize::try_from(end % BLOCK).unwrap_or_default(), 0);
        Ok(())
    }

    /// Ends the blob and makes it durable; its length in bytes, a multiple of [`BLOCK`].
    pub(crate) fn finish(mut self) -> Result<u64, StoreError> {
        self.align()?;
        self.flush()?;
        let failed = io_error("write", &self.path);
        self.file.set_len(self.start).map_err(failed)?;
        self.file.sync_all().map_err(io_error("sync", &self.path))?;
        Ok(self.start)
    }

    fn end(&self) -> u64 {
        self.start + self.buffer.len() as u64
    }

    fn align(&mut self) -> Result<(), StoreError> {
        self.buffer.resize(self.buffer.len().next_multiple_of(4096), 0);
        if self.buffer.len() >= BUFFER { self.flush() } else { Ok(()) }
    }

    /// Writes the runs of blocks that are not zero.
    fn flush(&mut self) -> Result<(), StoreError> {
        let is_zero = |block: &[u8]| block.iter().all(|&byte| byte == 0);
        let mut at = self.start;
        let blocks: Vec<&[u8]> = self.buffer.chunks(4096).collect();
        for run in blocks.chunk_by(|a, b| is_zero(a) == is_zero(b)) {
            let length: usize = run.iter().map(|block| block.len()).sum();
            if run.first().is_some_and(|block| !is_zero(block)) {
                let from = usize::try_from(at - self.start).unwrap_or_default();
                let bytes = self.buffer.get(from..from + length).unwrap_or_default();
                let failed = io_error("write", &self.path);
                self.file.write_all_at(bytes, at).map_err(failed)?;
            }
            at += length as u64;
        }
        self.start = at;
        self.buffer.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn files_begin_at_blocks_and_zeros_take_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blob");
        let mut blob = BlobWriter::create(&path).unwrap();
        assert_eq!(blob.begin().unwrap(), 0);
        blob.data(b"one").unwrap();
        assert_eq!(blob.begin().unwrap(), 1);
        blob.hole(3 << 20).unwrap();
        blob.data(b"end").unwrap();
        blob.hole(5000).unwrap();
        assert_eq!(blob.begin().unwrap(), 1 + 768 + 2);
        blob.data(&vec![7; 3 << 20]).unwrap();
        blob.hole(1 << 30).unwrap();
        let length = blob.finish().unwrap();
        assert_eq!(length, (771 + 768 + (1 << 18)) * BLOCK);

        let file = File::open(&path).unwrap();
        assert_eq!(file.metadata().unwrap().len(), length);
        assert!(file.metadata().unwrap().blocks() * 512 < 4 << 20);
        let read = |at: u64| {
            let mut bytes = [0; 3];
            file.read_exact_at(&mut bytes, at).unwrap();
            bytes
        };
        assert_eq!(&read(0), b"one");
        assert_eq!(&read(4096 + (3 << 20)), b"end");
        assert_eq!(read(771 * BLOCK), [7; 3]);
        assert_eq!(read((771 + 768) * BLOCK), [0; 3]);
    }
}
