//! Archives that lie, and a disk that is full: one line, and the store as it was.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{Store, archive, scratch};

/// Everything in a store that is not a lock or an empty folder.
fn content(store: &Path) -> Vec<PathBuf> {
    let output = Command::new("find")
        .arg(store)
        .args(["-type", "f", "!", "-name", "*lock", "!", "-path", "*/ingest/*"])
        .output()
        .unwrap();
    let mut files: Vec<_> =
        String::from_utf8_lossy(&output.stdout).lines().map(PathBuf::from).collect();
    files.sort();
    files
}

fn refused(bytes: &[u8]) {
    let store = Store::new();
    let before = content(store.path());
    let mut file = tempfile::NamedTempFile::new_in(scratch()).unwrap();
    file.write_all(bytes).unwrap();
    let path = file.path().to_str().unwrap();
    store.vmrun(["load", "-i", path]).run().fails(1, &[&format!("vmrun: cannot load {path}: ")]);
    assert_eq!(content(store.path()), before);
    // It works as before.
    store.load("busybox.tar").succeeds();
}

#[test]
fn truncated_corrupt_and_foreign_archives_are_refused() {
    let whole = fs::read(archive("busybox.tar")).unwrap();
    refused(b"");
    refused(b"This is not an archive.");
    refused(&whole[..whole.len() / 2]);
    refused(&whole[..whole.len() - 3 * 512 * 100]);
    let mut corrupt = whole.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle] ^= 1;
    refused(&corrupt);
    refused(&[0; 1 << 20]);
}

#[test]
fn file_that_is_not_there_is_named() {
    let store = Store::new();
    store.vmrun(["load", "-i", "/no/such/file"]).run().fails(1, &["/no/such/file"]);
}
