//! Collecting what neither an image nor a container needs any more.
//!
//! Needed is what the catalog names and what the root disks of containers are made of; there are
//! no counters that could go wrong. Collecting takes the content lock exclusively, so no load or
//! save is about to need something; containers are made under a `Lease`, which the caller's lock
//! of the catalog excludes.
//!
//! What goes is moved into the collector's ingest folder first, whole, and deleted there: a folder
//! that was half deleted when the process was killed would be taken for a layer or a root.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use crate::catalog::Catalog;
use crate::files::{io_error, remove, sync_folder};
use crate::paths::{Ingest, Lock, Paths};
use crate::root::DiskFile;
use crate::usage::bytes_of;
use crate::{Digest, InUse, StoreError};

/// What has to stay.
#[derive(Debug, Default)]
pub(crate) struct Needed {
    pub(crate) roots: HashSet<Digest>,
    pub(crate) layers: HashSet<Digest>,
    pub(crate) blobs: HashSet<Digest>,
}

impl Needed {
    pub(crate) fn new(
        paths: &Paths,
        catalog: &Catalog,
        containers: &[InUse],
    ) -> Result<Self, StoreError> {
        let mut needed = Self::default();
        for record in &catalog.images {
            needed.roots.insert(record.root.0);
            needed.blobs.extend([record.id.0, record.manifest]);
            needed.blobs.extend(record.layers.iter().map(|layer| layer.blob));
            needed.layers.extend(record.layers.iter().map(|layer| layer.diff_id));
        }
        for container in containers {
            let folder = paths.root_folder(&container.root);
            if needed.roots.insert(container.root.0) && folder.exists() {
                let disk = DiskFile::read(&folder)?;
                needed.layers.extend(disk.layers.iter().map(|layer| layer.diff_id));
            }
        }
        Ok(needed)
    }
}

/// Removes every blob, layer and root that is not needed; the bytes on disk that this frees once the
/// ingest folder is gone.
pub(crate) fn collect(
    paths: &Paths,
    ingest: &Ingest,
    catalog: &Catalog,
    containers: &[InUse],
    _content: &Lock,
) -> Result<u64, StoreError> {
    let needed = Needed::new(paths, catalog, containers)?;
    // Roots first: none is ever without its layers.
    let freed = [
        sweep(&paths.roots(), &needed.roots, ingest)?,
        sweep(&paths.layers(), &needed.layers, ingest)?,
        sweep(&paths.blobs(), &needed.blobs, ingest)?,
    ];
    sweep_locks(&paths.ingest())?;
    Ok(freed.into_iter().fold(0, u64::saturating_add))
}

/// Removes what is in `folder` but not in `needed`.
fn sweep(folder: &Path, needed: &HashSet<Digest>, ingest: &Ingest) -> Result<u64, StoreError> {
    let (mut freed, mut moved) = (0u64, false);
    for entry in fs::read_dir(folder).map_err(io_error("list", folder))? {
        let entry = entry.map_err(io_error("list", folder))?;
        let digest = entry.file_name().to_str().and_then(|name| Digest::from_hex(name).ok());
        if digest.is_none_or(|digest| !needed.contains(&digest)) {
            freed = freed.saturating_add(bytes_of(&entry.path())?);
            moved |= ingest.take(&entry.path())?;
        }
    }
    if moved {
        sync_folder(folder)?;
    }
    Ok(freed)
}

/// Removes the lock files of layers and roots; nobody holds one without the content lock.
fn sweep_locks(ingest: &Path) -> Result<(), StoreError> {
    for entry in fs::read_dir(ingest).map_err(io_error("list", ingest))? {
        let path = entry.map_err(io_error("list", ingest))?.path();
        if path.extension().is_some_and(|extension| extension == "lock") {
            remove(&path)?;
        }
    }
    Ok(())
}
