//! Bytes on disk: of each image, shared and its own, and of what nothing needs.
//!
//! Counted is what the file system has allocated, so sparse files count for what they take. A
//! layer is both the blob it came as and what it was unpacked to.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::catalog::{Catalog, Record};
use crate::files::io_error;
use crate::paths::Paths;
use crate::{Digest, ImageId, ImageSummary, StoreError};

/// Bytes of one block as `stat` counts them.
const STAT_BLOCK: u64 = 512;

/// What the images of a store take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Newest first.
    pub images: Vec<ImageUsage>,
    /// Bytes of all images, what they share counted once.
    pub total: u64,
    /// Bytes of those images that are used, what they share counted once.
    pub used: u64,
    /// Bytes that no image names any more: those of containers whose image was removed, and what
    /// the next removal collects.
    pub unnamed: u64,
}

/// What one image takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageUsage {
    /// Which.
    pub image: ImageSummary,
    /// Bytes that other images name too.
    pub shared: u64,
    /// Bytes that go with it.
    pub unique: u64,
}

/// One thing in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Item {
    Blob(Digest),
    Layer(Digest),
    Root(Digest),
}

/// Measures the store.
pub(crate) fn usage(
    paths: &Paths,
    is_used: &dyn Fn(&ImageId) -> bool,
) -> Result<Usage, StoreError> {
    let catalog = Catalog::read(paths)?;
    let mut sizes = HashMap::new();
    measure(&paths.blobs(), Item::Blob, &mut sizes)?;
    measure(&paths.layers(), Item::Layer, &mut sizes)?;
    measure(&paths.roots(), Item::Root, &mut sizes)?;
    let mut users: HashMap<Item, u32> = HashMap::new();
    for record in &catalog.images {
        for item in items(record) {
            *users.entry(item).or_default() += 1;
        }
    }
    let sum = |items: &mut dyn Iterator<Item = &Item>| {
        items.filter_map(|item| sizes.get(item)).fold(0, |sum: u64, size| sum.saturating_add(*size))
    };
    let total = sum(&mut users.keys());
    let unnamed = sum(&mut sizes.keys().filter(|item| !users.contains_key(item)));
    let used = catalog.images.iter().filter(|record| is_used(&record.id));
    let used: HashSet<Item> = used.flat_map(items).collect();
    let used = sum(&mut used.iter());
    let mut images: Vec<ImageUsage> = Vec::new();
    for record in catalog.images {
        let items = items(&record);
        let is_shared = |item: &&Item| users.get(item).is_some_and(|users| *users > 1);
        let shared = sum(&mut items.iter().filter(is_shared));
        let unique = sum(&mut items.iter().filter(|item| !is_shared(item)));
        images.push(ImageUsage { image: record.into(), shared, unique });
    }
    images.sort_by_key(|usage| std::cmp::Reverse(usage.image.created));
    Ok(Usage { images, total, used, unnamed })
}

fn items(record: &Record) -> HashSet<Item> {
    let layers = record.layers.iter();
    let layers = layers.flat_map(|layer| [Item::Layer(layer.diff_id), Item::Blob(layer.blob)]);
    let documents =
        [Item::Root(record.root.0), Item::Blob(record.id.0), Item::Blob(record.manifest)];
    layers.chain(documents).collect()
}

fn measure(
    folder: &Path,
    item: fn(Digest) -> Item,
    sizes: &mut HashMap<Item, u64>,
) -> Result<(), StoreError> {
    for entry in fs::read_dir(folder).map_err(io_error("list", folder))? {
        let entry = entry.map_err(io_error("list", folder))?;
        let name = entry.file_name();
        if let Some(digest) = name.to_str().and_then(|name| Digest::from_hex(name).ok()) {
            sizes.insert(item(digest), bytes_of(&entry.path())?);
        }
    }
    Ok(())
}

/// Bytes that a file, or a folder with the files in it, takes on disk; one that is gone takes none.
pub(crate) fn bytes_of(path: &Path) -> Result<u64, StoreError> {
    let metadata = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        other => other.map_err(io_error("read", path))?,
    };
    let mut bytes = metadata.blocks().saturating_mul(STAT_BLOCK);
    if metadata.is_dir() {
        for entry in fs::read_dir(path).map_err(io_error("list", path))? {
            let entry = entry.map_err(io_error("list", path))?;
            bytes = bytes.saturating_add(bytes_of(&entry.path())?);
        }
    }
    Ok(bytes)
}
