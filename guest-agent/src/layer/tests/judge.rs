//! The judges: what a tree looks like, Docker's comparison of two, and GNU tar.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{lgetxattr, llistxattr};

use super::{Overlay, line, sh};
use agent_protocol::{Change, ChangeKind};

const DIRECTORY: u32 = 0o040_000;
const FORMAT: u32 = 0o170_000;

/// All that is to be seen of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    mode: u32,
    owner: (u32, u32),
    device: u64,
    size: u64,
    mtime: (i64, i64),
    /// Of a file or symlink; what is zero is not kept.
    data: Vec<(usize, Vec<u8>)>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    inode: u64,
}

type Tree = BTreeMap<Vec<u8>, Seen>;

fn tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut left = vec![Vec::new()];
    while let Some(path) = left.pop() {
        let place = place(root, &path);
        let seen = look(&place);
        if seen.mode & FORMAT == DIRECTORY {
            for entry in fs::read_dir(&place).unwrap() {
                left.push([&path, &b"/"[..], entry.unwrap().file_name().as_bytes()].concat());
            }
        }
        tree.insert(path, seen);
    }
    tree
}

fn place(root: &Path, path: &[u8]) -> PathBuf {
    root.join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)))
}

fn look(place: &Path) -> Seen {
    let metadata = place.symlink_metadata().unwrap();
    let data = if metadata.is_file() {
        data(place)
    } else if metadata.is_symlink() {
        vec![(0, fs::read_link(place).unwrap().as_os_str().as_bytes().to_vec())]
    } else {
        Vec::new()
    };
    let mut names = vec![0; 65536];
    let length = llistxattr(place, &mut names).unwrap();
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let xattrs = names.map(|name| {
        let mut value = vec![0; 65536];
        let length = lgetxattr(place, name, &mut value).unwrap();
        (name.to_vec(), value[..length].to_vec())
    });
    Seen {
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        device: metadata.rdev(),
        size: if metadata.is_dir() { 0 } else { metadata.len() },
        mtime: (metadata.mtime(), metadata.mtime_nsec()),
        data,
        xattrs: xattrs.collect(),
        inode: metadata.ino(),
    }
}

/// The blocks of a file that are not zero. A hole of gigabytes is not read.
fn data(place: &Path) -> Vec<(usize, Vec<u8>)> {
    use rustix::fs::{SeekFrom, seek};
    use std::os::unix::fs::FileExt;
    let file = fs::File::open(place).unwrap();
    let (mut blocks, mut at) = (Vec::new(), 0);
    while let Ok(start) = seek(&file, SeekFrom::Data(at)) {
        let start = start / 4096 * 4096;
        let mut block = vec![0; 4096];
        let count = file.read_at(&mut block, start).unwrap();
        if count == 0 {
            break;
        }
        block.truncate(count);
        if block.iter().any(|byte| *byte != 0) {
            blocks.push((usize::try_from(start).unwrap(), block));
        }
        at = start + 4096;
    }
    blocks
}

fn children<'a>(tree: &'a Tree, folder: &[u8]) -> BTreeMap<&'a [u8], &'a Seen> {
    let below = |path: &[u8]| {
        let rest = path.strip_prefix(folder)?.strip_prefix(b"/")?;
        Some(!rest.contains(&b'/'))
    };
    tree.iter()
        .filter(|(path, _)| below(path) == Some(true))
        .map(|(path, seen)| (path.as_slice(), seen))
        .collect()
}

/// Docker's algorithm (`ChangesDirs`) over two whole trees.
fn docker_changes(lower: &Tree, merged: &Tree, folder: &[u8], list: &mut Vec<Change>) {
    let is_folder = |seen: &Seen| seen.mode & FORMAT == DIRECTORY;
    let old = match lower.get(folder) {
        Some(seen) if is_folder(seen) && is_folder(&merged[folder]) => children(lower, folder),
        _ => BTreeMap::new(),
    };
    let new = children(merged, folder);
    let mut names: Vec<&[u8]> = old.keys().chain(new.keys()).copied().collect();
    names.sort_unstable();
    names.dedup();
    for path in names {
        let change = |kind| Change { kind, path: path.to_vec() };
        let Some(now) = new.get(path) else {
            list.push(change(ChangeKind::Deleted));
            continue;
        };
        let start = list.len();
        docker_changes(lower, merged, path, list);
        let has_changes = list.len() > start;
        let kind = match old.get(path) {
            None => Some(ChangeKind::Added),
            Some(was) => {
                let capability =
                    |seen: &Seen| seen.xattrs.get(&b"security.capability"[..]).cloned();
                let differs = (was.mode, was.owner, was.device)
                    != (now.mode, now.owner, now.device)
                    || (!is_folder(was) && (was.mtime, was.size) != (now.mtime, now.size))
                    || capability(was) != capability(now);
                (differs || (has_changes && is_folder(now))).then_some(ChangeKind::Changed)
            }
        };
        if let Some(kind) = kind {
            list.insert(start, change(kind));
        }
    }
}

/// Puts the layer over a copy of the image: unpacked by GNU tar, its whiteouts applied by hand, and
/// the rest copied by GNU cp, since GNU tar gives no attributes to a folder that is there.
fn apply(overlay: &Overlay) {
    fs::write(overlay.at("layer.tar"), overlay.archive()).unwrap();
    let [applied, layer] = ["applied", "layer"].map(|name| overlay.at(name));
    sh(
        overlay.folder.path(),
        r"
        rm -r applied layer; cp -a --sparse=always lower applied
        mkdir layer; chmod --reference lower layer; chown --reference lower layer
        tar -xpf layer.tar -C layer --numeric-owner --same-owner \
            --xattrs '--xattrs-include=*' --warning=no-timestamp 2> said
        test ! -s said || { cat said >&2; exit 1; }
        ",
    );
    for (path, seen) in tree(&layer) {
        let (here, there) = (place(&layer, &path), place(&applied, &path));
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap();
        let folder = there.parent().unwrap();
        if name == b".wh..wh..opq" {
            if folder.is_dir() {
                fs::remove_dir_all(folder).unwrap();
            }
        } else if let Some(name) = name.strip_prefix(b".wh.") {
            remove(&folder.join(OsStr::from_bytes(name)));
        } else if let Ok(old) = there.symlink_metadata() {
            // Not a second name of it, and not through it.
            if !(old.is_dir() && seen.mode & FORMAT == DIRECTORY) {
                remove(&there);
            }
        }
        if name.starts_with(b".wh.") {
            let folder = here.parent().unwrap();
            let times = folder.metadata().unwrap();
            fs::remove_file(&here).unwrap();
            let times = fs::FileTimes::new().set_modified(times.modified().unwrap());
            fs::File::open(folder).unwrap().set_times(times).unwrap();
        }
    }
    sh(&layer, "cp -a --sparse=always . ../applied");
}

fn remove(path: &Path) {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// Makes it comparable: which names are one file, told by the first of them. Names outside of the
/// layer are apart from those in it: a layer cannot link to what is below it.
fn with_links(mut tree: Tree, layer: &Path) -> Tree {
    let mut first: BTreeMap<(bool, u64), u64> = BTreeMap::new();
    for (number, (path, seen)) in tree.iter_mut().enumerate() {
        let key = (place(layer, path).symlink_metadata().is_ok(), seen.inode);
        seen.inode = *first.entry(key).or_insert(number as u64);
    }
    // The root's time is not in a layer.
    if let Some(root) = tree.get_mut(&b""[..]) {
        root.mtime = (0, 0);
    }
    tree
}

/// Both judges.
#[track_caller]
pub(super) fn agrees(overlay: &Overlay) {
    let (lower, mut merged) = (tree(&overlay.at("lower")), tree(&overlay.at("merged")));
    let mut expected = Vec::new();
    docker_changes(&lower, &merged, b"", &mut expected);
    let lines = |changes: &[Change]| changes.iter().map(line).collect::<String>();
    assert_eq!(lines(&overlay.changes()), lines(&expected));

    apply(overlay);
    // No layer has sockets.
    merged.retain(|_, seen| seen.mode & FORMAT != 0o140_000);
    let merged = with_links(merged, &overlay.at("layer"));
    let applied = with_links(tree(&overlay.at("applied")), &overlay.at("layer"));
    let names = |tree: &Tree| -> Vec<String> {
        tree.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    };
    assert_eq!(names(&applied), names(&merged));
    for (path, seen) in &merged {
        assert_eq!(&applied[path], seen, "{}", String::from_utf8_lossy(path));
    }
}
