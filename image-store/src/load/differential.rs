//! Random trees, packed by GNU tar in all its formats and unpacked by it again: the oracle for
//! what a root disk must hold. What hand-made archives test is not repeated here.

use std::collections::BTreeMap;
use std::fs::{self, File, FileTimes};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use proptest::prelude::*;

use crate::erofs::reader;
use crate::testing::{TestImage, disk_bytes, fsck};
use crate::{Digest, NoProgress, Source, Store};

/// Something to make in a tree; paths are taken from a few, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Directory(u32),
    File { data: Vec<u8>, mode: u32, nanoseconds: u64 },
    Sparse { hole: u64 },
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Whiteout,
    Opaque,
}

fn path() -> impl Strategy<Value = Vec<u8>> {
    let name = prop_oneof![
        4 => "[a-c]".prop_map(String::into_bytes),
        1 => "[d-f]{120}".prop_map(String::into_bytes),
        1 => Just(b"\xffx".to_vec()),
    ];
    proptest::collection::vec(name, 1..4).prop_map(|names| names.join(&b'/'))
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => (0o700u32..0o777).prop_map(Step::Directory),
        4 => (proptest::collection::vec(any::<u8>(), 0..9000), 0o400u32..0o777, 0u64..1 << 60)
            .prop_map(|(data, mode, nanoseconds)| Step::File { data, mode, nanoseconds }),
        1 => (1u64..1 << 20).prop_map(|hole| Step::Sparse { hole }),
        1 => path().prop_map(Step::Symlink),
        2 => path().prop_map(Step::HardLink),
        1 => Just(Step::Whiteout),
        1 => Just(Step::Opaque),
    ]
}

fn os(path: &[u8]) -> std::ffi::OsString {
    OsStringExt::from_vec(path.to_vec())
}

/// Makes what can be made; steps that the tree does not allow are passed over.
fn make(root: &Path, steps: &[(Vec<u8>, Step)]) {
    fs::create_dir(root).unwrap();
    for (name, step) in steps {
        let path = root.join(os(name));
        let parent = path.parent().unwrap();
        // Through no symlink: they would lead out of the test.
        let real = parent.ancestors().take_while(|folder| *folder != root);
        let is_link = |folder: &Path| folder.symlink_metadata().is_ok_and(|m| m.is_symlink());
        if real.into_iter().any(is_link) || fs::create_dir_all(parent).is_err() {
            continue;
        }
        let _ = make_one(root, &path, step);
    }
}

fn make_one(root: &Path, path: &Path, step: &Step) -> std::io::Result<()> {
    match step {
        Step::Directory(mode) => fs::DirBuilder::new().mode(*mode).create(path),
        Step::File { data, mode, nanoseconds } => {
            let file = File::create_new(path)?;
            file.write_all_at(data, 0)?;
            file.set_permissions(fs::Permissions::from_mode(*mode))?;
            let time = UNIX_EPOCH + Duration::from_nanos(*nanoseconds);
            file.set_times(FileTimes::new().set_modified(time))
        }
        Step::Sparse { hole } => {
            let file = File::create_new(path)?;
            file.write_all_at(b"data", hole * 2)?;
            file.write_all_at(b"data", hole * 5)?;
            file.set_len(hole * 7)
        }
        Step::Symlink(target) => symlink(os(target), path),
        Step::HardLink(target) => {
            let target = root.join(os(target));
            if target.symlink_metadata()?.is_file() { fs::hard_link(target, path) } else { Ok(()) }
        }
        Step::Whiteout => {
            let name = [b".wh.", path.file_name().unwrap().as_bytes()].concat();
            File::create_new(path.with_file_name(os(&name))).map(drop)
        }
        Step::Opaque => File::create_new(path.with_file_name(".wh..wh..opq")).map(drop),
    }
}

fn tar(arguments: &[&str], folder: &Path, archive: &Path) {
    let output = Command::new("tar")
        .args(arguments)
        .arg("-f")
        .arg(archive)
        .arg("-C")
        .arg(folder)
        .args(if arguments.contains(&"-c") { &["."][..] } else { &[] })
        .output()
        .expect("GNU tar is needed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Everything below a folder by its path: type and mode, size, links, time, content.
type Listing = BTreeMap<Vec<u8>, (u32, u64, Option<(i64, i64)>, usize, Digest)>;

/// Removes what a layer's whiteouts name from what lower layers made; in a folder that comes in a
/// symlink's place, not from where that leads.
fn remove_whiteouts(layer: &Path, merged: &Path) {
    for path in walk(layer) {
        let name = path.file_name().unwrap().as_bytes();
        let target = merged.join(path.strip_prefix(layer).unwrap());
        if path.symlink_metadata().unwrap().is_dir() && target.is_symlink() {
            remove(&target);
        } else if name == b".wh..wh..opq" {
            let Ok(entries) = fs::read_dir(target.parent().unwrap()) else { continue };
            entries.for_each(|entry| remove(&entry.unwrap().path()));
        } else if let Some(name) = name.strip_prefix(b".wh.") {
            remove(&target.with_file_name(os(name)));
        }
    }
}

/// Removes folders where a layer has something else: GNU tar leaves them if they are not empty.
fn make_way(layer: &Path, merged: &Path) {
    let is_folder = |path: &Path| path.symlink_metadata().is_ok_and(|found| found.is_dir());
    for path in walk(layer) {
        let target = merged.join(path.strip_prefix(layer).unwrap());
        if !is_folder(&path) && is_folder(&target) {
            remove(&target);
        }
    }
}

fn remove(path: &Path) {
    let _ = fs::remove_file(path);
    let _ = fs::remove_dir_all(path);
}

fn walk(root: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.symlink_metadata().unwrap().is_dir() {
                folders.push(path.clone());
            }
            found.push(path);
        }
    }
    found
}

fn list(root: &Path) -> Listing {
    let entry = |path: std::path::PathBuf| {
        let metadata = path.symlink_metadata().unwrap();
        let data = if metadata.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_vec()
        } else if metadata.is_file() {
            fs::read(&path).unwrap()
        } else {
            Vec::new()
        };
        let is_folder = metadata.is_dir();
        // Folders' times change with what is removed from them.
        let time = (!is_folder).then(|| (metadata.mtime(), metadata.mtime_nsec()));
        let links = if is_folder { 0 } else { metadata.nlink() };
        let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
        (name, (metadata.mode(), links, time, data.len(), Digest::of(&data)))
    };
    walk(root).into_iter().map(entry).collect()
}

/// As [`list`], from a root disk.
fn list_disk(disk: &[u8], whole_seconds: bool) -> Listing {
    let entry = |(path, found): (Vec<u8>, reader::Found)| {
        let is_folder = found.mode & 0o170_000 == 0o040_000;
        let nanoseconds = if whole_seconds { 0 } else { i64::from(found.mtime.1) };
        let time = (!is_folder).then_some((found.mtime.0, nanoseconds));
        let links = if is_folder { 0 } else { u64::from(found.links) };
        let data = if is_folder { Vec::new() } else { found.data };
        (path, (u32::from(found.mode), links, time, data.len(), Digest::of(&data)))
    };
    reader::read(disk).into_iter().filter(|(path, _)| !path.is_empty()).map(entry).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn root_disks_hold_what_gnu_tar_extracts(
        lower in proptest::collection::vec((path(), step()), 1..25),
        upper in proptest::collection::vec((path(), step()), 1..25),
        format in prop_oneof![
            Just(&["--format=gnu"][..]),
            Just(&["--format=gnu", "--sparse"][..]),
            Just(&["--format=pax", "--sparse"][..]),
            Just(&["--format=pax", "--sparse", "--sparse-version=0.1"][..]),
            Just(&["--format=pax", "--sparse", "--sparse-version=0.0"][..]),
        ],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let merged = at("merged");
        fs::create_dir(&merged).unwrap();
        let mut layers = Vec::new();
        for (name, steps) in [("lower", &lower), ("upper", &upper)] {
            make(&at(name), steps);
            let archive = at("layer.tar");
            tar(&[&["-c"], format].concat(), &at(name), &archive);
            remove_whiteouts(&at(name), &merged);
            make_way(&at(name), &merged);
            tar(&["-x", "-p"], &merged, &archive);
            for path in walk(&merged) {
                if path.file_name().unwrap().as_bytes().starts_with(b".wh.") {
                    remove(&path);
                }
            }
            layers.push(fs::read(archive).unwrap());
        }
        let store = Store::open(&at("store")).unwrap();
        let image = TestImage::new("random", &layers).archive();
        store.load(Source::Stream(&mut &image[..]), &NoProgress).unwrap();
        let root = store.find("random").unwrap().root;
        let disk = disk_bytes(&store.open_root(&root).unwrap());
        fsck(&disk);
        let whole_seconds = format.contains(&"--format=gnu");
        prop_assert_eq!(list_disk(&disk, whole_seconds), list(&merged));
    }
}
