//! The content of a file, which may have holes: a container's disk is nearly all hole.

use std::{collections::BTreeMap, fs::File, os::unix::fs::FileExt, path::Path};

const BLOCK: usize = 4096;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bytes {
    pub length: usize,
    /// What was written, by the number of the block; the rest are zeros.
    pub blocks: BTreeMap<usize, Vec<u8>>,
}

impl Bytes {
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.length = self.length.max(offset + bytes.len());
        let mut at = offset;
        let mut left = bytes;
        while !left.is_empty() {
            let within = at % BLOCK;
            let (now, later) = left.split_at(left.len().min(BLOCK - within));
            let block = self.blocks.entry(at / BLOCK).or_insert_with(|| vec![0; BLOCK]);
            block[within..within + now.len()].copy_from_slice(now);
            at += now.len();
            left = later;
        }
    }

    /// Makes zeros of what there is.
    pub fn zero(&mut self, offset: usize, length: usize) {
        let end = (offset + length).min(self.length);
        let (first, last) = (offset / BLOCK, end.div_ceil(BLOCK));
        for (number, block) in self.blocks.range_mut(first..last.max(first)) {
            let at = |byte: usize| byte.saturating_sub(number * BLOCK).min(BLOCK);
            block[at(offset)..at(end)].fill(0);
        }
        self.blocks.retain(|number, block| {
            !(first..last).contains(number) || block.iter().any(|byte| *byte != 0)
        });
    }

    pub fn resize(&mut self, length: usize) {
        if length < self.length {
            drop(self.blocks.split_off(&length.div_ceil(BLOCK)));
            if let Some(block) = self.blocks.get_mut(&(length / BLOCK)) {
                block[length % BLOCK..].fill(0);
            }
        }
        self.length = length;
    }

    /// Makes a file of it.
    pub fn save(&self, path: &Path) {
        let file = File::create(path).unwrap();
        for (number, block) in &self.blocks {
            file.write_all_at(block, (number * BLOCK) as u64).unwrap();
        }
        file.set_len(self.length as u64).unwrap();
    }
}

#[test]
fn what_is_written_and_cut_is_what_a_file_would_have() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = Bytes::default();
    bytes.write(4090, b"across blocks");
    bytes.resize(4099);
    bytes.write(5000, b"x");
    bytes.write(9000, b"gone");
    bytes.resize(9004);
    bytes.zero(8000, 3000);
    bytes.resize(5001);
    bytes.save(&folder.path().join("file"));
    let mut expected = vec![0; 5001];
    expected[4090..4099].copy_from_slice(b"across bl");
    expected[5000] = b'x';
    assert_eq!(std::fs::read(folder.path().join("file")).unwrap(), expected);
}
