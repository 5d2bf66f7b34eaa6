//! Root disks: what a VM gets of an image. Made once from the indexes of its layers.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::erofs::{self, ErofsError};
use crate::error::{LoadError, RootError};
use crate::files::{create_folder, io_error, publish, sync_folder, write_new};
use crate::layer::BLOCK;
use crate::layer::index::Index;
use crate::limits::{Limits, MAX_DOCUMENT};
use crate::paths::{Ingest, Lock, Paths};
use crate::tree::{Tree, TreeError};
use crate::{Digest, StoreError};

/// Part of every key: raised when the same layers would give another disk than before.
const FORMAT: &str = "vmrun root disk 1";

/// Names a root disk: a hash of the diffIDs of its layers and of the format's version. Two images
/// of the same layers have the same root disk; a container keeps the key of the one it was made
/// with, because its writable disk refers to inodes of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RootKey(pub(crate) Digest);

impl RootKey {
    /// The key of an image's root disk, from its layers, lowest first.
    pub(crate) fn of(diff_ids: &[Digest]) -> Self {
        let lines = diff_ids.iter().map(|diff_id| format!("\n{diff_id}"));
        Self(Digest::of(format!("{FORMAT}{}", lines.collect::<String>()).as_bytes()))
    }

    /// The first 16 bytes: overlayfs keeps them with what it copies up.
    fn uuid(&self) -> [u8; 16] {
        std::array::from_fn(|at| self.0.as_bytes()[at])
    }
}

impl fmt::Display for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A read-only disk with an EROFS file system: the extents, laid end to end in the order given,
/// without gaps.
#[derive(Debug)]
pub struct RootDisk {
    /// Which root this is.
    pub key: RootKey,
    /// Size in bytes, a multiple of 4096.
    pub size: u64,
    /// Sorted by `start`; the first holds the metadata.
    pub extents: Vec<RootExtent>,
}

/// A part of a root disk and the file it is read from.
#[derive(Debug)]
pub struct RootExtent {
    /// Where it begins on the disk, in bytes, a multiple of 4096.
    pub start: u64,
    /// Bytes, a multiple of 4096, never 0.
    pub length: u64,
    /// Opened `O_RDONLY`.
    pub file: File,
    /// Where it begins in the file, in bytes.
    pub offset: u64,
}

/// Why layers do not make a root disk.
#[derive(Debug, Error)]
pub enum MergeError {
    /// The layers' entries.
    #[error("cannot apply layer {layer}")]
    Tree {
        /// The layer at fault.
        layer: Digest,
        /// What is wrong.
        source: TreeError,
    },
    /// The file system.
    #[error(transparent)]
    Erofs(#[from] ErofsError),
}

/// `disk.json` of a root: what follows the metadata on the disk.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DiskFile {
    /// Bytes of the metadata.
    metadata: u64,
    /// Lowest first; a layer that is in the image twice is on the disk once.
    pub(crate) layers: Vec<DiskLayer>,
}

/// A layer's blob on a disk.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct DiskLayer {
    pub(crate) diff_id: Digest,
    /// Bytes of its blob.
    length: u64,
}

const METADATA: &str = "metadata.erofs";
const DISK: &str = "disk.json";
/// The files of a root.
pub(crate) const FILES: [&str; 2] = [METADATA, DISK];

impl DiskFile {
    pub(crate) fn read(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(DISK);
        let size = fs::metadata(&path).map_err(io_error("read", &path))?.len();
        let damaged = |source| StoreError::Damaged { path: path.clone(), source };
        if size > MAX_DOCUMENT {
            return Err(damaged(format!("{size} bytes").into()));
        }
        let text = fs::read(&path).map_err(io_error("read", &path))?;
        serde_json::from_slice(&text).map_err(|error| damaged(error.into()))
    }
}

/// Makes the root disk of layers that are in the store, unless it is there; the bytes of their tar
/// streams together.
pub(crate) fn make(
    paths: &Paths,
    ingest: &Ingest,
    limits: &Limits,
    key: &RootKey,
    diff_ids: &[Digest],
) -> Result<u64, LoadError> {
    let _making = Lock::exclusive(&paths.making_lock(&key.0))?;
    let published = paths.root_folder(key);
    let exists = fs::exists(&published).map_err(io_error("read", &published))?;
    let mut merge = Merge { tree: Tree::new(limits), layers: Vec::new(), size: 0 };
    for diff_id in diff_ids {
        let path = paths.layer(diff_id).join("index");
        let index = read_index(&path)?;
        merge.size = merge.size.saturating_add(index.file_bytes());
        if !exists {
            merge.apply(diff_id, &index, &path)?;
        }
    }
    if !exists {
        let folder = ingest.path().join(format!("root-{}", key.0.hex()));
        write(&merge, key, &folder)?;
        publish(&folder, &published)?;
    }
    Ok(merge.size)
}

/// Makes the root disk of layers that are in the store anew, in a folder of its own.
pub(crate) fn build(
    paths: &Paths,
    limits: &Limits,
    key: &RootKey,
    diff_ids: &[Digest],
    folder: &Path,
) -> Result<(), LoadError> {
    let mut merge = Merge { tree: Tree::new(limits), layers: Vec::new(), size: 0 };
    for diff_id in diff_ids {
        let path = paths.layer(diff_id).join("index");
        merge.apply(diff_id, &read_index(&path)?, &path)?;
    }
    write(&merge, key, folder)
}

fn read_index(path: &Path) -> Result<Index, StoreError> {
    let bytes = fs::read(path).map_err(io_error("read", path))?;
    Index::parse(bytes)
        .map_err(|error| StoreError::Damaged { path: path.to_owned(), source: error.into() })
}

/// The layers that were merged so far.
struct Merge {
    tree: Tree,
    layers: Vec<DiskLayer>,
    size: u64,
}

impl Merge {
    fn apply(&mut self, diff_id: &Digest, index: &Index, path: &Path) -> Result<(), LoadError> {
        let known = self.layers.iter().position(|layer| layer.diff_id == *diff_id);
        let position = known.unwrap_or(self.layers.len());
        if known.is_none() {
            self.layers.push(DiskLayer { diff_id: *diff_id, length: index.blob_size() });
        }
        // Bounded by the number of layers of an image.
        let layer = u16::try_from(position).unwrap_or(u16::MAX);
        let failed = |source| LoadError::Merge(MergeError::Tree { layer: *diff_id, source });
        for whiteouts in [true, false] {
            for entry in index.entries() {
                let entry = entry.map_err(|error| StoreError::Damaged {
                    path: path.to_owned(),
                    source: error.into(),
                })?;
                if whiteouts {
                    self.tree.apply_whiteout(&entry).map_err(failed)?;
                } else {
                    self.tree.apply(entry, layer).map_err(failed)?;
                }
            }
        }
        Ok(())
    }
}

fn write(merge: &Merge, key: &RootKey, folder: &Path) -> Result<(), LoadError> {
    create_folder(folder)?;
    let blobs: Vec<u64> = merge.layers.iter().map(|layer| layer.length).collect();
    let metadata = erofs::write(&merge.tree, &blobs, key.uuid(), &folder.join(METADATA));
    let metadata = metadata.map_err(|error| match error {
        ErofsError::Store(error) => LoadError::Store(error),
        error => LoadError::Merge(error.into()),
    })?;
    let layers = merge.layers.iter();
    let layers = layers.map(|layer| DiskLayer { diff_id: layer.diff_id, length: layer.length });
    let disk = DiskFile { metadata, layers: layers.collect() };
    let path = folder.join(DISK);
    let text = serde_json::to_vec_pretty(&disk)
        .map_err(|error| StoreError::Damaged { path: path.clone(), source: error.into() })?;
    write_new(&path, &text)?;
    sync_folder(folder)?;
    Ok(())
}

/// Opens a root disk of the store.
pub(crate) fn open(paths: &Paths, key: &RootKey) -> Result<RootDisk, RootError> {
    let folder = paths.root_folder(key);
    if !fs::exists(&folder).map_err(io_error("read", &folder))? {
        return Err(RootError::NotFound(*key));
    }
    let disk = DiskFile::read(&folder)?;
    let mut root = RootDisk { key: *key, size: 0, extents: Vec::new() };
    root.push(&folder.join(METADATA), disk.metadata)?;
    for layer in &disk.layers {
        root.push(&paths.layer(&layer.diff_id).join("blob"), layer.length)?;
    }
    Ok(root)
}

impl RootDisk {
    fn push(&mut self, path: &Path, length: u64) -> Result<(), StoreError> {
        let file = File::open(path).map_err(io_error("open", path))?;
        let found = file.metadata().map_err(io_error("read", path))?.len();
        if found != length || !length.is_multiple_of(BLOCK) {
            let source = format!("{found} bytes instead of {length}").into();
            return Err(StoreError::Damaged { path: path.to_owned(), source });
        }
        if length > 0 {
            self.extents.push(RootExtent { start: self.size, length, file, offset: 0 });
            self.size = self.size.saturating_add(length);
        }
        Ok(())
    }
}
