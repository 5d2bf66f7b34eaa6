//! Random trees through the writer, the test's own reader and, some of them, `fsck.erofs`.

use proptest::prelude::*;

use super::reader;
use crate::layer::{Entry, EntryKind};
use crate::limits::Limits;
use crate::tar::Timestamp;
use crate::testing::fsck;
use crate::tree::Tree;

fn kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        4 => (0u64..9000, 0u64..5).prop_map(|(size, block)| EntryKind::Regular { size, block }),
        2 => Just(EntryKind::Directory),
        2 => proptest::collection::vec(1u8..=255, 1..4096).prop_map(EntryKind::Symlink),
        1 => Just(EntryKind::Fifo),
        1 => (0u32..=0xfff, 0u32..=0xf_ffff)
            .prop_map(|(major, minor)| EntryKind::CharDevice { major, minor }),
        1 => Just(EntryKind::Whiteout),
    ]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = any::<u8>().prop_map(|byte| if matches!(byte, 0 | b'/') { b'x' } else { byte });
    let long = proptest::collection::vec(byte, 1..=255);
    prop_oneof![3 => "[a-c]".prop_map(String::into_bytes), 1 => long]
        .prop_filter("dots", |name| !matches!(&name[..], b"." | b".."))
}

fn entry() -> impl Strategy<Value = Entry> {
    let path = proptest::collection::vec(name(), 1..4).prop_map(|names| names.join(&b'/'));
    let xattr = ("user\\.[a-z]{1,20}", proptest::collection::vec(any::<u8>(), 0..5000));
    let xattrs = proptest::collection::btree_map(xattr.0, xattr.1, 0..3);
    let mtime = (any::<i64>(), 0u32..1_000_000_000);
    let (mode, owner) = (0u16..=0o7777, (any::<u32>(), any::<u32>()));
    (path, kind(), mode, owner, mtime, xattrs).prop_map(
        |(path, kind, mode, owner, mtime, xattrs)| Entry {
            path,
            kind,
            mode,
            uid: owner.0,
            gid: owner.1,
            mtime: Timestamp { seconds: mtime.0, nanoseconds: mtime.1 },
            xattrs: xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect(),
        },
    )
}

/// A disk whose blobs' blocks each begin with their number.
fn disk(tree: &Tree) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata");
    let length = super::write(tree, &[8 * 4096, 8 * 4096], [7; 16], &path).unwrap();
    let mut disk = std::fs::read(path).unwrap();
    assert_eq!(disk.len() as u64, length);
    for block in 0..16u64 {
        disk.extend_from_slice(&block.to_le_bytes());
        disk.resize(disk.len().next_multiple_of(4096), 0);
    }
    disk
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whatever_is_merged_reads_back_within_the_disk(
        layers in proptest::collection::vec(proptest::collection::vec(entry(), 0..60), 2..=2),
        check in 0u8..6,
    ) {
        let mut tree = Tree::new(&Limits::DEFAULT);
        let mut last = std::collections::BTreeMap::new();
        for (layer, entries) in (0u16..).zip(&layers) {
            for entry in entries {
                tree.apply_whiteout(entry).unwrap();
            }
            for entry in entries {
                // Symlinks may lead in circles or to names that are too long.
                if tree.apply(entry.clone(), layer).is_ok() {
                    last.insert(entry.path.clone(), (layer, entry));
                }
            }
        }
        let disk = disk(&tree);
        let found = reader::read(&disk);
        for (path, inode) in &found {
            let Some((layer, entry)) = last.get(path) else { continue };
            if let EntryKind::Regular { size, block } = entry.kind
                && inode.mode & 0o170_000 == 0o100_000
                && size >= 8
                && inode.mtime.0 == entry.mtime.seconds
            {
                let first = u64::from(*layer) * 8 + block;
                prop_assert_eq!(&inode.data[..8], &first.to_le_bytes());
                prop_assert_eq!(inode.data.len() as u64, size);
                prop_assert_eq!(inode.xattrs.len(), entry.xattrs.len());
            }
        }
        if check == 0 {
            fsck(&disk);
        }
    }
}

#[test]
fn data_beyond_the_blobs_is_not_written() {
    let mut tree = Tree::new(&Limits::DEFAULT);
    let kind = EntryKind::Regular { size: 4097, block: 7 };
    let (mtime, xattrs) = (Timestamp::default(), Vec::new());
    let entry = Entry { path: b"a".to_vec(), kind, mode: 0, uid: 0, gid: 0, mtime, xattrs };
    tree.apply(entry, 0).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata");
    assert!(super::write(&tree, &[8 * 4096], [0; 16], &path).is_err());
    assert!(super::write(&tree, &[16 << 40], [0; 16], &path).is_err());
}
