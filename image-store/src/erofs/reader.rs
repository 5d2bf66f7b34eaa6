//! Reads a root disk back, for tests: written from the format, not from the writer, and without
//! mercy for anything out of place.

use std::collections::BTreeMap;

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: (i64, u32),
    pub(crate) links: u32,
    pub(crate) nid: u64,
    /// A file's data or a symlink's target.
    pub(crate) data: Vec<u8>,
    pub(crate) device: u32,
    pub(crate) xattrs: BTreeMap<String, Vec<u8>>,
}

struct Disk<'a>(&'a [u8]);

impl Disk<'_> {
    fn bytes(&self, at: u64, length: u64) -> &[u8] {
        let at = usize::try_from(at).unwrap();
        &self.0[at..at + usize::try_from(length).unwrap()]
    }

    fn number(&self, at: u64, length: u64) -> u64 {
        self.bytes(at, length).iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    fn small<T: TryFrom<u64>>(&self, at: u64, length: u64) -> T
    where
        T::Error: std::fmt::Debug,
    {
        self.number(at, length).try_into().unwrap()
    }

    fn xattrs(&self, at: u64, count: u64) -> BTreeMap<String, Vec<u8>> {
        let mut xattrs = BTreeMap::new();
        if count == 0 {
            return xattrs;
        }
        assert_eq!(self.number(at + 4, 1), 0, "shared attributes");
        let (mut at, end) = (at + 12, at + 12 + (count - 1) * 4);
        while at < end {
            let (name, value) = (self.number(at, 1), self.number(at + 2, 2));
            let prefix = match self.number(at + 1, 1) {
                1 => "user.",
                2 => "system.posix_acl_access",
                3 => "system.posix_acl_default",
                4 => "trusted.",
                6 => "security.",
                other => panic!("attribute index {other}"),
            };
            let rest = String::from_utf8_lossy(self.bytes(at + 4, name)).into_owned();
            let value_bytes = self.bytes(at + 4 + name, value).to_vec();
            assert_eq!(xattrs.insert(format!("{prefix}{rest}"), value_bytes), None);
            at = (at + 4 + name + value).next_multiple_of(4);
        }
        assert_eq!(at, end);
        xattrs
    }

    fn inode(&self, nid: u64) -> Found {
        let at = nid * 32;
        let format = self.number(at, 2);
        let (count, size) = (self.number(at + 2, 2), self.number(at + 8, 8));
        let union = self.number(at + 16, 4);
        let mode: u16 = self.small(at + 4, 2);
        let head = 64 + if count == 0 { 0 } else { 12 + (count - 1) * 4 };
        let has_data = matches!(mode & 0o170_000, 0o100_000 | 0o040_000 | 0o120_000);
        let data = match format {
            1 if has_data && size > 0 => self.bytes(union * 4096, size).to_vec(),
            1 => Vec::new(),
            5 => {
                let (full, tail) = (size / 4096 * 4096, size % 4096);
                assert!(at % 4096 + head + tail <= 4096, "tail across blocks");
                [self.bytes(union * 4096, full), self.bytes(at + head, tail)].concat()
            }
            other => panic!("inode format {other}"),
        };
        Found {
            mode,
            uid: self.small(at + 24, 4),
            gid: self.small(at + 28, 4),
            mtime: (self.number(at + 32, 8).cast_signed(), self.small(at + 40, 4)),
            links: self.small(at + 44, 4),
            nid,
            data,
            device: if has_data { 0 } else { u32::try_from(union).unwrap() },
            xattrs: self.xattrs(at + 64, count),
        }
    }

    /// Names and inode numbers of a directory's data.
    fn names(data: &[u8]) -> Vec<(Vec<u8>, u64)> {
        let mut names: Vec<(Vec<u8>, u64)> = Vec::new();
        for block in data.chunks(4096) {
            let entry = Disk(block);
            let count = entry.number(8, 2) / 12;
            for number in 0..count {
                let start = entry.number(number * 12 + 8, 2);
                let next = (number + 1 < count).then(|| entry.number(number * 12 + 20, 2));
                let name = entry.bytes(start, next.unwrap_or(block.len() as u64) - start);
                let padding = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
                names.push((name[..padding].to_vec(), entry.number(number * 12, 8)));
            }
        }
        assert!(names.is_sorted_by(|a, b| a.0 < b.0), "directory is not sorted");
        names
    }
}

/// Everything on a disk by its path, the root being the empty one. Panics on what Linux would not
/// read.
pub(crate) fn read(disk: &[u8]) -> BTreeMap<Vec<u8>, Found> {
    let disk = Disk(disk);
    assert_eq!(disk.number(1024, 4), 0xe0f5_e1e2);
    assert_eq!(disk.number(1024 + 36, 4) * 4096, disk.0.len() as u64);
    let mut block = disk.bytes(1024, 3072).to_vec();
    block[4..8].fill(0);
    assert_eq!(disk.number(1028, 4), u64::from(!crc32c::crc32c(&block)), "checksum");

    let root = disk.number(1024 + 14, 2);
    let mut found = BTreeMap::from([(Vec::new(), disk.inode(root))]);
    let mut folders = vec![(Vec::new(), root, root)];
    while let Some((path, nid, parent)) = folders.pop() {
        let inode: Found = found.get(&path).cloned().unwrap();
        let names = Disk::names(&inode.data);
        let mut subfolders = 0;
        for (name, child) in names {
            match name.as_slice() {
                b"." => assert_eq!(child, nid),
                b".." => assert_eq!(child, parent),
                _ => {
                    let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
                    let child_path = [&path, slash, &name].concat();
                    let inode = disk.inode(child);
                    if inode.mode & 0o170_000 == 0o040_000 {
                        subfolders += 1;
                        folders.push((child_path.clone(), child, nid));
                    }
                    assert!(found.insert(child_path, inode).is_none());
                }
            }
        }
        assert_eq!(inode.links, 2 + subfolders);
    }
    let inodes: std::collections::BTreeSet<u64> = found.values().map(|found| found.nid).collect();
    assert_eq!(disk.number(1024 + 16, 8), inodes.len() as u64);
    for inode in found.values().filter(|inode| inode.mode & 0o170_000 != 0o040_000) {
        let names = found.values().filter(|other| other.nid == inode.nid).count();
        assert_eq!(inode.links as usize, names);
    }
    found
}
