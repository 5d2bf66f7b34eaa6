//! The store as its users see it.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::de::DeserializeOwned;

use crate::catalog::{Catalog, Record};
use crate::files::io_error;
use crate::layer::index::Index;
use crate::limits::Limits;
use crate::load::{self, ConfigDocument};
use crate::paths::{Ingest, Lock, Paths};
use crate::{
    CheckError, Checked, CommitRequest, Digest, FindError, ImageConfig, ImageId, LoadError,
    Outgoing, Progress, PullRequest, PulledImage, Reference, Remote, RemoveError, RootDisk,
    RootError, RootKey, SaveError, Source, StoreError, TagError, Usage, check, outgoing, removal,
    root, save, usage,
};

/// A folder of images; see the crate's documentation for what is in it.
#[derive(Debug)]
pub struct Store {
    paths: Paths,
    limits: Limits,
}

/// An image that a load found in its archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadedImage {
    /// The image's id.
    pub id: ImageId,
    /// Names the archive gave it; they point at this image now. May be empty.
    pub names: Vec<Reference>,
    /// Digest of its manifest.
    pub digest: Digest,
}

/// An image as `vmrun images` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSummary {
    /// The image's id.
    pub id: ImageId,
    /// Its names, sorted; empty for an image that lost them all.
    pub names: Vec<Reference>,
    /// When it was made, if it says so.
    pub created: Option<Timestamp>,
    /// Bytes of its layers' files.
    pub size: u64,
    /// Digest of its manifest.
    pub digest: Digest,
    /// What registries call it: `repository@digest` each, sorted.
    pub digests: Vec<Reference>,
}

impl From<Record> for ImageSummary {
    fn from(record: Record) -> Self {
        Self {
            id: record.id,
            created: record.created.and_then(|text| text.parse().ok()),
            size: record.size,
            digest: record.manifest,
            names: record.names.into_iter().collect(),
            digests: record.digests.into_iter().collect(),
        }
    }
}

/// All that is known of an image.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageDetails {
    /// Its identity, names and size.
    pub summary: ImageSummary,
    /// Its config blob, whole: a JSON document by the OCI image spec.
    pub config: serde_json::Value,
    /// Its root disk.
    pub root: RootKey,
    /// Lowest first.
    pub layers: Vec<LayerDetails>,
}

/// A layer of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerDetails {
    /// Digest of its tar stream.
    pub diff_id: Digest,
    /// Bytes of its files.
    pub size: u64,
}

/// An image that was found by a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The image's id.
    pub id: ImageId,
    /// How it wants to be run.
    pub config: ImageConfig,
    /// Its root disk.
    pub root: RootKey,
    /// Its names, sorted.
    pub names: Vec<Reference>,
}

/// What a container needs of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InUse {
    /// The container, as a message names it.
    pub container: String,
    /// Whether it runs: its image cannot be removed even by force.
    pub running: bool,
    /// The image it was made of.
    pub image: ImageId,
    /// Its root disk.
    pub root: RootKey,
}

/// What a removal did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removal {
    /// A name is gone; in familiar form.
    Untagged(String),
    /// An image is gone, by its id, or a layer, by its chain id.
    Deleted(Digest),
}

/// What a pruning did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// In order.
    pub removals: Vec<Removal>,
    /// Bytes on disk that are free now.
    pub freed: u64,
}

/// While it lives no image is removed: held from [`Store::find`] until the record of the container
/// that uses the image is on disk. Not for long: removals and the last step of loads wait for it.
#[derive(Debug)]
pub struct Lease {
    _lock: Lock,
}

impl Store {
    /// Opens the store in `root`, creating what is missing with mode 0700, and sweeps what killed
    /// loads left behind.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        Self::with_limits(root, Limits::DEFAULT)
    }

    pub(crate) fn with_limits(root: &Path, limits: Limits) -> Result<Self, StoreError> {
        let paths = Paths::create(root)?;
        Catalog::check_format(&paths)?;
        Ingest::sweep(&paths)?;
        Ok(Self { paths, limits })
    }

    /// Loads every image for this platform of an archive: an OCI layout folder, an OCI archive or
    /// a `docker save` archive, as it is or compressed with gzip or zstd.
    ///
    /// All or nothing: on an error no image is added and no name moves. What is in the store
    /// already is not written again. Safe to call from several threads and processes at once.
    pub fn load(
        &self,
        source: Source<'_>,
        progress: &dyn Progress,
    ) -> Result<Vec<LoadedImage>, LoadError> {
        load::load(&self.paths, &self.limits, source, progress)
    }

    /// Pulls an image: fetches from `remote` what of it is missing, and gives it its name.
    ///
    /// All or nothing, as [`Store::load`]; a layer that several pulls need at once is fetched by
    /// one of them.
    pub fn pull(
        &self,
        request: &PullRequest<'_>,
        remote: &dyn Remote,
        progress: &dyn Progress,
    ) -> Result<PulledImage, LoadError> {
        load::pull(&self.paths, &self.limits, request, remote, progress)
    }

    /// An image to be pushed, found as by [`Store::find`]. Hold it until it is pushed.
    pub fn outgoing(&self, name: &str) -> Result<Outgoing, FindError> {
        outgoing::find(&self.paths, name)
    }

    /// Notes what a registry calls an image that was pushed to it: `repository@digest`. An image
    /// that is gone by now is left alone.
    pub fn note_digest(&self, image: &ImageId, digest: &Reference) -> Result<(), StoreError> {
        let ingest = Ingest::create(&self.paths)?;
        let lock = Lock::exclusive(&self.paths.catalog_lock())?;
        let mut catalog = Catalog::read(&self.paths)?;
        let known = catalog.images.iter_mut().find(|record| record.id == *image);
        match known.map(|record| record.digests.insert(digest.clone())) {
            Some(true) => catalog.write(&self.paths, &ingest, &lock),
            _ => Ok(()),
        }
    }

    /// The images, newest first.
    pub fn images(&self) -> Result<Vec<ImageSummary>, StoreError> {
        let catalog = Catalog::read(&self.paths)?;
        let mut images: Vec<ImageSummary> =
            catalog.images.into_iter().map(ImageSummary::from).collect();
        images.sort_by_key(|image| std::cmp::Reverse(image.created));
        Ok(images)
    }

    /// Finds an image as Docker does: a name with or without tag, `name@sha256:…`, an id, or the
    /// start of one id alone.
    pub fn find(&self, name: &str) -> Result<Image, FindError> {
        let catalog = Catalog::read(&self.paths)?;
        let (record, _) = catalog.find(name)?;
        let document: ConfigDocument = self.read_config(&record.id)?;
        Ok(Image {
            id: record.id,
            config: document.config,
            root: record.root,
            names: record.names.iter().cloned().collect(),
        })
    }

    /// All that is known of an image, found as by [`Store::find`].
    pub fn details(&self, name: &str) -> Result<ImageDetails, FindError> {
        let catalog = Catalog::read(&self.paths)?;
        let (record, _) = catalog.find(name)?;
        let layers = record.layers.iter().map(|layer| {
            let path = self.paths.layer(&layer.diff_id).join("index");
            let size = Index::read_file_bytes(&path)?;
            Ok(LayerDetails { diff_id: layer.diff_id, size })
        });
        let layers = layers.collect::<Result<_, StoreError>>()?;
        let config = self.image_config(&record.id)?;
        let (summary, root) = (record.clone().into(), record.root);
        Ok(ImageDetails { summary, config, root, layers })
    }

    /// The config blob of an image, whole, without a look at anything else.
    pub fn image_config(&self, id: &ImageId) -> Result<serde_json::Value, StoreError> {
        self.read_config(id)
    }

    fn read_config<T: DeserializeOwned>(&self, id: &ImageId) -> Result<T, StoreError> {
        let path = self.paths.blob(&id.0);
        let text = fs::read(&path).map_err(io_error("read", &path))?;
        // Read as it was when it was loaded: of a name that is there twice, the last one counts.
        serde_json::from_slice(&text)
            .and_then(serde_json::from_value)
            .map_err(|error| StoreError::Damaged { path, source: error.into() })
    }

    /// Gives an image another name, which no other image has any more.
    pub fn tag(&self, image: &str, name: &Reference) -> Result<(), TagError> {
        if name.digest().is_some() {
            return Err(TagError::Digest(name.familiar()));
        }
        let failed = |error| TagError::Find(FindError::Store(error));
        let ingest = Ingest::create(&self.paths).map_err(failed)?;
        let lock = Lock::exclusive(&self.paths.catalog_lock()).map_err(failed)?;
        let mut catalog = Catalog::read(&self.paths).map_err(failed)?;
        let id = catalog.find(image)?.0.id;
        catalog.tag(id, &name.clone().or_latest());
        catalog.write(&self.paths, &ingest, &lock).map_err(failed)
    }

    /// Writes images to an archive that this store, `docker load` and `skopeo` read: each by a name
    /// (without a tag: all tags of that repository), a digest or an id.
    pub fn save(&self, names: &[String], out: &mut dyn Write) -> Result<(), SaveError> {
        save::save(&self.paths, names, out)
    }

    /// Makes an image of one layer from a tar archive, compressed with gzip or zstd or not at all.
    /// `describe` is given the layer's diffID and makes the image's config blob.
    pub fn import(
        &self,
        archive: &mut dyn Read,
        describe: &dyn Fn(&Digest) -> serde_json::Value,
        name: Option<Reference>,
    ) -> Result<ImageId, LoadError> {
        load::import(&self.paths, &self.limits, archive, describe, name)
    }

    /// Makes an image of another and one layer more, which comes as a tar archive that is not
    /// compressed. What is kept of it is compressed, always in the same way.
    pub fn commit(
        &self,
        layer: &mut dyn Read,
        request: CommitRequest<'_>,
    ) -> Result<ImageId, LoadError> {
        load::commit(&self.paths, &self.limits, layer, request)
    }

    /// What the images take on disk; `is_used` says which of them containers were made of.
    pub fn usage(&self, is_used: &dyn Fn(&ImageId) -> bool) -> Result<Usage, StoreError> {
        usage::usage(&self.paths, is_used)
    }

    /// Verifies documents, layers and root disks of every image and container; with `repair`, what
    /// is damaged is made anew or removed. `containers` is called once.
    pub fn check(
        &self,
        repair: bool,
        containers: &dyn Fn() -> io::Result<Vec<InUse>>,
    ) -> Result<Checked, CheckError> {
        check::check(&self.paths, &self.limits, repair, containers)
    }

    /// Keeps every image from being removed while the result lives.
    pub fn lease(&self) -> Result<Lease, StoreError> {
        Ok(Lease { _lock: Lock::shared(&self.paths.catalog_lock())? })
    }

    /// Removes a name, and its image with the last one, as `docker rmi` does. `containers` is
    /// called once, while no [`Lease`] is held by anyone.
    ///
    /// Blobs, layers and root disks that neither an image nor a container needs any more go too,
    /// at once, or with a later removal if a load is going on.
    pub fn remove(
        &self,
        name: &str,
        force: bool,
        containers: &dyn Fn() -> io::Result<Vec<InUse>>,
    ) -> Result<Vec<Removal>, RemoveError> {
        removal::remove(&self.paths, name, force, containers)
    }

    /// Removes every image that `unwanted` says is to go and that no container was made of, names and
    /// all. `containers` is as for [`Store::remove`].
    pub fn prune(
        &self,
        unwanted: &dyn Fn(&ImageSummary) -> bool,
        containers: &dyn Fn() -> io::Result<Vec<InUse>>,
    ) -> Result<Pruned, RemoveError> {
        removal::prune(&self.paths, unwanted, containers)
    }

    /// The folder with a root disk's metadata, and the list of layers that follow it on the disk.
    pub fn root_folder(&self, key: &RootKey) -> PathBuf {
        self.paths.root_folder(key)
    }

    /// Opens a root disk, read-only.
    pub fn open_root(&self, key: &RootKey) -> Result<RootDisk, RootError> {
        root::open(&self.paths, key)
    }
}

#[cfg(test)]
mod tests;
