//! Verifying a store, and mending it.
//!
//! Everything is compared with what it was made of: documents and blobs with their digests, layers
//! with what their blobs unpack to, root disks with what their layers merge to. So a check costs
//! about what loading all images again would, and as much room as the largest layer. It holds the
//! content lock: shared, or exclusively when it repairs, so loads then wait for it.
//!
//! What can be made anew is; what cannot is removed, and comes back with the next load or pull of
//! its image. Running containers keep what they have open.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::catalog::{Catalog, Record};
use crate::collect::collect;
use crate::error::CheckError;
use crate::files::{io_error, publish, remove, sync_folder};
use crate::layer::index::Index;
use crate::limits::Limits;
use crate::load::{IngestError, proof, unpack_again};
use crate::paths::{Ingest, Lock, Paths};
use crate::root::{self, DiskFile};
use crate::{Digest, InUse, Reference, RootKey, StoreError};

/// Bytes compared at once.
const BUFFER: usize = 128 << 10;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Images of the store.
    pub images: usize,
    /// Layers of images and containers.
    pub layers: usize,
    /// In the order documents, layers, roots.
    pub damages: Vec<Damage>,
}

/// Something that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file or folder.
    pub path: PathBuf,
    /// What is wrong with it, on one line.
    pub problem: String,
    /// The images it belongs to, by a name or else the short id; none if only containers have it.
    pub images: Vec<String>,
    /// What was done about it.
    pub outcome: Outcome,
}

/// What was done about a damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing, since no repair was asked for.
    Found,
    /// It is as it should be again.
    Remade,
    /// It is gone; the next load or pull of its image brings it back.
    Removed,
    /// It was gone before, and only a load or pull of its image brings it back.
    Lost,
}

/// Checks the store.
pub(crate) fn check(
    paths: &Paths,
    limits: &Limits,
    repair: bool,
    containers: &dyn Fn() -> io::Result<Vec<InUse>>,
) -> Result<Checked, CheckError> {
    let take = if repair { Lock::exclusive } else { Lock::shared };
    let content = take(&paths.content_lock())?;
    let catalog = Catalog::read(paths)?;
    let in_use = containers().map_err(CheckError::Containers)?;
    let ingest = Ingest::create(paths)?;
    let (bad_layers, damages) = (HashSet::new(), Vec::new());
    let mut check =
        Check { paths, limits, ingest: &ingest, catalog: &catalog, repair, bad_layers, damages };
    check.documents()?;
    let layers = check.layers(&in_use)?;
    check.roots(&in_use)?;
    let damages = check.damages;
    if repair {
        let _lock = Lock::exclusive(&paths.catalog_lock())?;
        let in_use = containers().map_err(CheckError::Containers)?;
        collect(paths, &ingest, &Catalog::read(paths)?, &in_use, &content)?;
    }
    Ok(Checked { images: catalog.images.len(), layers, damages })
}

/// A check that is going on.
struct Check<'a> {
    paths: &'a Paths,
    limits: &'a Limits,
    ingest: &'a Ingest,
    catalog: &'a Catalog,
    repair: bool,
    /// Those that roots cannot be compared with.
    bad_layers: HashSet<Digest>,
    damages: Vec<Damage>,
}

impl Check<'_> {
    fn documents(&mut self) -> Result<(), StoreError> {
        let catalog = self.catalog;
        let digests: BTreeSet<Digest> =
            catalog.images.iter().flat_map(|record| [record.id.0, record.manifest]).collect();
        for digest in digests {
            let path = self.paths.blob(&digest);
            let problem = match fs::read(&path).map(|text| Digest::of(&text)) {
                Ok(found) if found == digest => continue,
                Ok(found) => Some(format!("its content has digest {found}")),
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => Some(format!("cannot be read: {error}")),
            };
            let of = |record: &Record| record.id.0 == digest || record.manifest == digest;
            self.cannot_be_remade(&path, problem, of)?;
        }
        Ok(())
    }

    /// Notes something that is missing, if there is no `problem`, or else removes it.
    fn cannot_be_remade(
        &mut self,
        path: &Path,
        problem: Option<String>,
        of: impl Fn(&Record) -> bool,
    ) -> Result<(), StoreError> {
        let outcome = match problem {
            None => Outcome::Lost,
            Some(_) if !self.repair => Outcome::Found,
            Some(_) => {
                self.discard(path)?;
                Outcome::Removed
            }
        };
        self.note(path, problem.unwrap_or_else(|| "is missing".to_owned()), outcome, of);
        Ok(())
    }

    fn note(
        &mut self,
        path: &Path,
        problem: String,
        outcome: Outcome,
        of: impl Fn(&Record) -> bool,
    ) {
        let name = |record: &Record| match record.names.iter().chain(&record.digests).next() {
            Some(name) => Reference::familiar(name),
            None => record.id.short(),
        };
        let images = self.catalog.images.iter().filter(|record| of(record)).map(name).collect();
        self.damages.push(Damage { path: path.to_owned(), problem, images, outcome });
    }

    /// Checks the layers of images, and those that only containers have; how many there are.
    fn layers(&mut self, in_use: &[InUse]) -> Result<usize, StoreError> {
        let mut layers: BTreeMap<Digest, BTreeSet<Digest>> = BTreeMap::new();
        for layer in self.catalog.images.iter().flat_map(|record| &record.layers) {
            layers.entry(layer.diff_id).or_default().insert(layer.blob);
        }
        for container in in_use {
            let disk = DiskFile::read(&self.paths.root_folder(&container.root));
            for layer in disk.iter().flat_map(|disk| &disk.layers) {
                layers.entry(layer.diff_id).or_default();
            }
        }
        for (number, (diff_id, blobs)) in layers.iter().enumerate() {
            self.layer(number, diff_id, blobs)?;
        }
        Ok(layers.len())
    }

    fn layer(
        &mut self,
        number: usize,
        diff_id: &Digest,
        blobs: &BTreeSet<Digest>,
    ) -> Result<(), StoreError> {
        let mut fresh = None;
        let mut sound = Vec::new();
        for blob in blobs {
            let folder = self.ingest.path().join(format!("layer-{number}-{}", sound.len()));
            if self.blob(diff_id, blob, &folder)? {
                sound.push(*blob);
                fresh.get_or_insert(folder);
            }
        }
        let published = self.paths.layer(diff_id);
        let problem = match &fresh {
            _ if !published.exists() => Some("is missing".to_owned()),
            Some(fresh) => difference(&published, fresh, &["index", "blob"])?,
            None => structure(&published)?,
        };
        if let Some(problem) = problem {
            let was_there = published.exists();
            let outcome = match &fresh {
                _ if !self.repair && (fresh.is_some() || was_there) => Outcome::Found,
                Some(fresh) => {
                    for blob in &sound {
                        let path = fresh.join(proof(blob));
                        File::create(&path).map_err(io_error("create", &path))?;
                    }
                    self.replace(fresh, &published)?;
                    Outcome::Remade
                }
                None if self.discard(&published)? => Outcome::Removed,
                None => Outcome::Lost,
            };
            if outcome != Outcome::Remade {
                self.bad_layers.insert(*diff_id);
            }
            let of = |record: &Record| record.layers.iter().any(|layer| layer.diff_id == *diff_id);
            self.note(&published, problem, outcome, of);
        }
        for at in 0..=sound.len() {
            remove(&self.ingest.path().join(format!("layer-{number}-{at}")))?;
        }
        Ok(())
    }

    /// Unpacks a blob into `folder`; whether it is what it should be.
    fn blob(&mut self, diff_id: &Digest, blob: &Digest, folder: &Path) -> Result<bool, StoreError> {
        let path = self.paths.blob(blob);
        let of = |record: &Record| record.layers.iter().any(|layer| layer.blob == *blob);
        let problem = match unpack_again(self.paths, self.limits, diff_id, blob, folder) {
            Ok(()) => return Ok(true),
            // Not the blob's fault: no room, most likely.
            Err(IngestError::Store(error)) if !names(&error, &path) => return Err(error),
            Err(_) if !path.exists() => None,
            Err(error) => Some(one_line(&error)),
        };
        remove(folder)?;
        self.cannot_be_remade(&path, problem, of)?;
        Ok(false)
    }

    fn roots(&mut self, in_use: &[InUse]) -> Result<(), CheckError> {
        let mut roots: BTreeMap<RootKey, Option<Vec<Digest>>> =
            in_use.iter().map(|container| (container.root, None)).collect();
        for (key, layers) in &mut roots {
            let disk = DiskFile::read(&self.paths.root_folder(key)).ok();
            let diff_ids = disk.map(|disk| disk.layers.iter().map(|layer| layer.diff_id).collect());
            // An image that has a layer twice has another key.
            *layers = diff_ids.filter(|diff_ids: &Vec<Digest>| RootKey::of(diff_ids) == *key);
        }
        for record in &self.catalog.images {
            let diff_ids = record.layers.iter().map(|layer| layer.diff_id).collect();
            roots.insert(record.root, Some(diff_ids));
        }
        for (key, diff_ids) in roots {
            self.root(&key, diff_ids.as_deref())?;
        }
        Ok(())
    }

    fn root(&mut self, key: &RootKey, diff_ids: Option<&[Digest]>) -> Result<(), CheckError> {
        let published = self.paths.root_folder(key);
        let of = |record: &Record| record.root == *key;
        if diff_ids.is_some_and(|ids| ids.iter().any(|id| self.bad_layers.contains(id))) {
            return Ok(());
        }
        let Some(diff_ids) = diff_ids else {
            if let Err(error) = root::open(self.paths, key) {
                let problem = published.exists().then(|| one_line(&error));
                self.cannot_be_remade(&published, problem, of)?;
            }
            return Ok(());
        };
        let fresh = self.ingest.path().join(format!("root-{}", key.0.hex()));
        root::build(self.paths, self.limits, key, diff_ids, &fresh).map_err(CheckError::Root)?;
        let problem = match published.exists() {
            true => difference(&published, &fresh, &root::FILES)?,
            false => Some("is missing".to_owned()),
        };
        if let Some(problem) = problem {
            let outcome = if self.repair { Outcome::Remade } else { Outcome::Found };
            if self.repair {
                self.replace(&fresh, &published)?;
            }
            self.note(&published, problem, outcome, of);
        }
        remove(&fresh)?;
        Ok(())
    }

    /// Removes a file or a folder, all of it or nothing; whether it was there.
    fn discard(&self, path: &Path) -> Result<bool, StoreError> {
        let taken = self.ingest.take(path)?;
        sync_folder(path.parent().unwrap_or(path))?;
        Ok(taken)
    }

    /// Puts a folder in the place of another. Killed in between, the old one is missing, which the
    /// next repair makes good.
    fn replace(&self, fresh: &Path, published: &Path) -> Result<(), StoreError> {
        sync_folder(fresh)?;
        self.ingest.take(published)?;
        publish(fresh, published)?;
        sync_folder(published.parent().unwrap_or(published))
    }
}

/// Whether an error is about that file.
fn names(error: &StoreError, file: &Path) -> bool {
    matches!(error, StoreError::Io { path, .. } | StoreError::Damaged { path, .. } if path == file)
}

fn one_line(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Which of the files differ, if one does.
fn difference(found: &Path, fresh: &Path, files: &[&str]) -> Result<Option<String>, StoreError> {
    for file in files {
        let fresh = fresh.join(file);
        let open = |path: &Path| File::open(path);
        let expected = open(&fresh).map_err(io_error("open", &fresh))?;
        match open(&found.join(file)).and_then(|found| same(found, expected)) {
            Ok(true) => {}
            Ok(false) => return Ok(Some(format!("its {file} is not what it was made as"))),
            Err(error) => return Ok(Some(format!("its {file} cannot be read: {error}"))),
        }
    }
    Ok(None)
}

fn same(mut a: File, mut b: File) -> io::Result<bool> {
    if a.metadata()?.len() != b.metadata()?.len() {
        return Ok(false);
    }
    let (mut from_a, mut from_b) = (Vec::new(), Vec::new());
    loop {
        from_a.clear();
        from_b.clear();
        a.by_ref().take(BUFFER as u64).read_to_end(&mut from_a)?;
        b.by_ref().take(BUFFER as u64).read_to_end(&mut from_b)?;
        if from_a != from_b {
            return Ok(false);
        }
        if from_a.is_empty() {
            return Ok(true);
        }
    }
}

/// What can be said of a layer without the blob it came as: its index has a checksum, and says how
/// long the data is.
fn structure(folder: &Path) -> Result<Option<String>, StoreError> {
    let read = fs::read(folder.join("index")).map_err(|error| error.to_string());
    let parsed = read.and_then(|bytes| Index::parse(bytes).map_err(|error| error.to_string()));
    let index = match parsed {
        Ok(index) => index,
        Err(error) => return Ok(Some(format!("its index cannot be read: {error}"))),
    };
    if let Some(Err(error)) = index.entries().find(Result::is_err) {
        return Ok(Some(format!("its index is damaged: {error}")));
    }
    match fs::metadata(folder.join("blob")) {
        Ok(blob) if blob.len() == index.blob_size() => Ok(None),
        Ok(blob) => {
            let expected = index.blob_size();
            Ok(Some(format!("its blob has {} bytes instead of {expected}", blob.len())))
        }
        Err(error) => Ok(Some(format!("its blob cannot be read: {error}"))),
    }
}

#[cfg(test)]
mod tests;
