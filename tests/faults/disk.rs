//! A disk that keeps no more than it has promised: what of a log of file operations is there after a
//! power cut.
//!
//! A file's content is safe once the file was synced, a name once the folder that it is in was. All
//! that is later may be there or not, each operation by itself and in any order, a write also in half;
//! of one name no later change is there without the earlier ones. That is less than journals give, and
//! all that POSIX says.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    fs::DirBuilder,
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, symlink},
    },
    path::{Path, PathBuf},
};

use crate::bytes::Bytes;

/// A file operation that succeeded. Paths are relative to the folder that was watched.
#[derive(Clone, Debug)]
pub enum Operation {
    /// With this mode.
    MakeFolder(PathBuf, u32),
    /// Of a file that may be there already.
    Create(PathBuf),
    /// A symbolic link that leads there.
    Link(PathBuf, PathBuf),
    Write(PathBuf, usize, Vec<u8>),
    Resize(PathBuf, usize),
    /// Of so many bytes from there on.
    Zero(PathBuf, usize, usize),
    Sync(PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
}

/// What becomes of an operation that is not safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Half,
    Kept,
}

/// What there is, by path.
pub type Files = BTreeMap<PathBuf, Found>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Folder(u32),
    File(Bytes),
    Link(PathBuf),
}

#[derive(Clone, Debug)]
enum Content {
    File(Bytes),
    Folder(u32, BTreeMap<OsString, usize>),
    Link(PathBuf),
}

#[derive(Clone, Debug)]
enum Change {
    Entry(OsString, Option<usize>),
    Write(usize, Vec<u8>),
    Resize(usize),
    Zero(usize, usize),
}

/// A file or a folder.
#[derive(Clone, Debug)]
struct Node {
    /// As processes see it.
    now: Content,
    /// As it is for certain after a power cut.
    safe: Content,
    /// What made the one of the other: the number of the operation, and what it did here.
    later: Vec<(usize, Change)>,
}

/// The disk; the first node is the folder that was watched.
#[derive(Clone, Debug)]
pub struct Disk {
    nodes: Vec<Node>,
    operations: usize,
}

impl Node {
    fn new(content: Content) -> Self {
        Self { now: content.clone(), safe: content, later: Vec::new() }
    }

    fn change(&mut self, operation: usize, change: Change) {
        apply(&mut self.now, &change, Fate::Kept);
        self.later.push((operation, change));
    }

    fn entry(&self, name: &OsStr) -> Option<usize> {
        match &self.now {
            Content::Folder(_, entries) => entries.get(name).copied(),
            Content::File(_) | Content::Link(_) => None,
        }
    }
}

fn apply(content: &mut Content, change: &Change, fate: Fate) {
    match (content, change) {
        (Content::Folder(_, entries), Change::Entry(name, Some(node))) => {
            entries.insert(name.clone(), *node);
        }
        (Content::Folder(_, entries), Change::Entry(name, None)) => {
            entries.remove(name);
        }
        (Content::File(bytes), Change::Write(offset, written)) => {
            let length = if fate == Fate::Half { written.len() / 2 } else { written.len() };
            bytes.write(*offset, &written[..length]);
        }
        (Content::File(bytes), Change::Resize(length)) => bytes.resize(*length),
        (Content::File(bytes), Change::Zero(offset, length)) => {
            bytes.zero(*offset, if fate == Fate::Half { length / 2 } else { *length });
        }
        (content, change) => panic!("{change:?} of {content:?}"),
    }
}

impl Disk {
    pub fn new() -> Self {
        Self { nodes: vec![Node::new(Content::Folder(0o700, BTreeMap::new()))], operations: 0 }
    }

    /// Does the next operation of a log.
    pub fn apply(&mut self, operation: &Operation) {
        let number = self.operations;
        self.operations += 1;
        match operation {
            Operation::MakeFolder(path, mode) => {
                self.create(number, path, Content::Folder(*mode, BTreeMap::new()));
            }
            Operation::Create(path) => self.create(number, path, Content::File(Bytes::default())),
            Operation::Link(target, path) => {
                self.create(number, path, Content::Link(target.clone()));
            }
            Operation::Write(path, offset, bytes) => {
                self.at(path).change(number, Change::Write(*offset, bytes.clone()));
            }
            Operation::Resize(path, length) => {
                self.at(path).change(number, Change::Resize(*length));
            }
            Operation::Zero(path, offset, length) => {
                self.at(path).change(number, Change::Zero(*offset, *length));
            }
            Operation::Sync(path) => {
                let node = self.at(path);
                node.safe = node.now.clone();
                node.later.clear();
            }
            Operation::Rename(from, to) => {
                let node = self.find(from);
                self.set(number, to, Some(node));
                self.set(number, from, None);
            }
            Operation::Remove(path) => self.set(number, path, None),
        }
    }

    fn create(&mut self, number: usize, path: &Path, content: Content) {
        let (folder, name) = self.parent(path);
        if folder.entry(&name).is_none() {
            let node = self.nodes.len();
            self.nodes.push(Node::new(content));
            self.set(number, path, Some(node));
        }
    }

    fn set(&mut self, number: usize, path: &Path, node: Option<usize>) {
        let (folder, name) = self.parent(path);
        folder.change(number, Change::Entry(name, node));
    }

    fn parent(&mut self, path: &Path) -> (&mut Node, OsString) {
        let name = path.file_name().unwrap().to_owned();
        (self.at(path.parent().unwrap()), name)
    }

    fn at(&mut self, path: &Path) -> &mut Node {
        let node = self.find(path);
        &mut self.nodes[node]
    }

    fn find(&self, path: &Path) -> usize {
        path.iter().fold(0, |folder, name| {
            let entry = self.nodes[folder].entry(name);
            entry.unwrap_or_else(|| panic!("{} is not there", path.display()))
        })
    }

    /// The operations that are not safe.
    pub fn unsafe_operations(&self) -> BTreeSet<usize> {
        self.nodes.iter().flat_map(|node| &node.later).map(|(number, _)| *number).collect()
    }

    /// What is there after a power cut in which the operations that are not safe had these fates.
    pub fn cut(&self, fate: &dyn Fn(usize) -> Fate) -> Files {
        let mut files = Files::new();
        let mut folders = vec![(PathBuf::new(), 0)];
        while let Some((path, number)) = folders.pop() {
            match self.nodes[number].after(fate) {
                Content::File(bytes) => drop(files.insert(path, Found::File(bytes))),
                Content::Link(target) => drop(files.insert(path, Found::Link(target))),
                Content::Folder(mode, entries) => {
                    folders.extend(entries.iter().map(|(name, node)| (path.join(name), *node)));
                    files.insert(path, Found::Folder(mode));
                }
            }
        }
        files
    }
}

impl Node {
    fn after(&self, fate: &dyn Fn(usize) -> Fate) -> Content {
        let mut content = self.safe.clone();
        let mut lost = BTreeSet::new();
        for (number, change) in &self.later {
            let fate = fate(*number);
            match change {
                Change::Entry(name, _) if fate == Fate::Lost || lost.contains(name) => {
                    lost.insert(name);
                }
                _ if fate == Fate::Lost => {}
                change => apply(&mut content, change, fate),
            }
        }
        content
    }
}

/// Makes these files in a folder that is not there.
pub fn write(files: &Files, folder: &Path) {
    for (path, content) in files {
        let path = folder.join(path);
        match content {
            Found::Folder(mode) => DirBuilder::new().mode(*mode).create(path).unwrap(),
            Found::Link(target) => symlink(target, path).unwrap(),
            Found::File(bytes) => bytes.save(&path),
        }
    }
}

/// Something that tells sets of files apart.
pub fn fingerprint(files: &Files) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let mut hasher = Sha256::new();
    let mut text = |bytes: &[u8]| {
        hasher.update((bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    for (path, content) in files {
        text(path.as_os_str().as_bytes());
        match content {
            Found::Folder(_) => text(b"folder"),
            Found::Link(target) => text(target.as_os_str().as_bytes()),
            Found::File(bytes) => {
                text(&(bytes.length as u64).to_le_bytes());
                for (number, block) in &bytes.blocks {
                    text(&(*number as u64).to_le_bytes());
                    text(block);
                }
            }
        }
    }
    hasher.finalize().to_vec()
}

#[test]
fn what_was_synced_is_there_and_the_rest_as_fate_wills() {
    let path = |name: &str| PathBuf::from(name);
    let mut disk = Disk::new();
    for operation in [
        Operation::MakeFolder(path("a"), 0o700),
        Operation::Create(path("a/new")),
        Operation::Write(path("a/new"), 0, b"safe".to_vec()),
        Operation::Sync(path("a/new")),
        Operation::Write(path("a/new"), 4, b"later".to_vec()),
        Operation::Rename(path("a/new"), path("done")),
        Operation::Sync(path("")),
    ] {
        disk.apply(&operation);
    }
    assert_eq!(disk.unsafe_operations(), BTreeSet::from([1, 4, 5]));
    let content = |fate| disk.cut(&|_| fate).remove(Path::new("done")).unwrap();
    let file = |bytes: &[u8]| {
        let mut file = Bytes::default();
        file.write(0, bytes);
        Found::File(file)
    };
    assert_eq!(content(Fate::Lost), file(b"safe"));
    assert_eq!(content(Fate::Half), file(b"safela"));
    assert_eq!(content(Fate::Kept), file(b"safelater"));
    // The old name is gone only if that is kept, and was there only if that was.
    let old = |kept: &[usize]| {
        let fate = |number: usize| if kept.contains(&number) { Fate::Kept } else { Fate::Lost };
        disk.cut(&fate).contains_key(Path::new("a/new"))
    };
    assert_eq!([old(&[]), old(&[1]), old(&[1, 5]), old(&[5])], [false, true, false, false]);
}
