//! Loading the images of an archive, and pulling one from a registry: find them, ingest their
//! layers, make their root disks, and at last give them their names.
//!
//! The layers of all images are ingested by a few threads, the largest first. Whatever fails,
//! nothing was named: layers that were complete by then are kept for the next try and collected
//! with the next removal.

mod commit;
#[cfg(test)]
mod differential;
mod docker;
mod document;
mod import;
mod layer;
mod oci;
mod pull;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use thiserror::Error;

pub use commit::CommitRequest;
pub(crate) use commit::commit;
pub(crate) use document::{ConfigDocument, media};
pub(crate) use import::import;
pub use layer::IngestError;
pub(crate) use layer::{proof, unpack_again};
pub(crate) use pull::pull;
pub use pull::{PullRequest, PulledImage};

use crate::archive::{Archive, ArchiveError, Content};
use crate::catalog::{Catalog, LayerRecord, Record};
use crate::error::LoadError;
use crate::files::{io_error, publish, write_new};
use crate::limits::{LEAST_STREAMS, Limits, MAX_DOCUMENT, MAX_LAYERS, MAX_WORKERS};
use crate::paths::{Ingest, Lock, Paths};
use crate::root::{self, RootKey};
use crate::{
    Digest, ImageId, LoadedImage, Platform, Progress, Reference, RemoteError, Source, StoreError,
};
use layer::{Ingested, LayerBytes, LayerIngest, LayerSource};

/// Why an archive's images cannot be understood.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The archive below.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// It holds no images.
    #[error("not an image archive: neither index.json nor manifest.json in it")]
    NotImages,
    /// A file that should be in the archive.
    #[error("{0} is not in the archive")]
    Missing(String),
    /// A document that cannot be read.
    #[error("cannot read {0}")]
    Read(String, #[source] std::io::Error),
    /// A document that is too large.
    #[error("{name} has {size} bytes; the limit is {MAX_DOCUMENT}")]
    TooLarge {
        /// Which.
        name: String,
        /// Its bytes.
        size: u64,
    },
    /// A document that is not what it should be.
    #[error("malformed JSON document")]
    Json(#[source] serde_json::Error),
    /// An index or manifest of another version.
    #[error("manifest has schema version {0}; only 2 is supported")]
    SchemaVersion(u32),
    /// A document that is both an index and a manifest, or neither.
    #[error("document is not clearly an index or a manifest")]
    Ambiguous,
    /// A media type that is not understood here.
    #[error("media type {0:?} is not supported")]
    MediaType(String),
    /// Indexes within indexes.
    #[error("indexes are nested too deeply")]
    Depth,
    /// Indexes and manifests without end.
    #[error("too many indexes and manifests")]
    Documents,
    /// A file of another size than its descriptor says.
    #[error("{name} has {found} bytes instead of {expected}")]
    Size {
        /// Which.
        name: String,
        /// The descriptor's.
        expected: u64,
        /// The file's.
        found: u64,
    },
    /// A document that is not what its descriptor names.
    #[error("document {expected} has digest {found}")]
    Digest {
        /// The descriptor's.
        expected: Digest,
        /// What was read.
        found: Digest,
    },
    /// A document that does not come.
    #[error("cannot fetch {0}")]
    Fetch(Digest, #[source] RemoteError),
    /// Nothing for that platform.
    #[error("no image for {wanted} in it, only for: {}", show_platforms(.others))]
    Platform {
        /// The platform asked for.
        wanted: Platform,
        /// Those that there are images for.
        others: Vec<String>,
    },
    /// The image that another is to be made of.
    #[error("No such image: {0}")]
    Base(ImageId),
    /// No layers, too many, or not as many as the config names.
    #[error("image has {layers} layers and {diff_ids} diffIDs in its config")]
    Layers {
        /// In the manifest.
        layers: usize,
        /// In the config.
        diff_ids: usize,
    },
}

fn show_platforms(platforms: &[String]) -> String {
    if platforms.is_empty() { "nothing".to_owned() } else { platforms.join(", ") }
}

/// An image that was found in an archive or a registry.
struct Found<'a> {
    config_text: Vec<u8>,
    document: ConfigDocument,
    /// With its digest; `None` if one is to be made.
    manifest: Option<(Digest, Vec<u8>)>,
    layers: Vec<LayerSource<'a>>,
    names: Vec<Reference>,
}

/// Loads every image of an archive.
pub(crate) fn load(
    paths: &Paths,
    limits: &Limits,
    source: Source<'_>,
    progress: &dyn Progress,
) -> Result<Vec<LoadedImage>, LoadError> {
    let _content = Lock::shared(&paths.content_lock())?;
    let ingest = Ingest::create(paths)?;
    let found = find_images(source, &ingest, limits).map_err(|error| match error {
        ImageError::Archive(ArchiveError::Store(error)) => LoadError::Store(error),
        error => LoadError::Image(error),
    })?;
    add(paths, &ingest, limits, found, progress)
}

/// Brings images into the store and gives them their names, all or none; the content lock is held.
fn add(
    paths: &Paths,
    ingest: &Ingest,
    limits: &Limits,
    found: Vec<Found<'_>>,
    progress: &dyn Progress,
) -> Result<Vec<LoadedImage>, LoadError> {
    let records = ingest_images(paths, ingest, limits, found, progress)?;
    let loaded = records.iter().map(|record| LoadedImage {
        id: record.id,
        names: record.names.iter().cloned().collect(),
        digest: record.manifest,
    });
    let loaded = loaded.collect();
    let lock = Lock::exclusive(&paths.catalog_lock())?;
    let mut catalog = Catalog::read(paths)?;
    records.into_iter().for_each(|record| catalog.add(record));
    catalog.write(paths, ingest, &lock)?;
    Ok(loaded)
}

/// Makes records of images, all that they need being in the store, durably.
fn ingest_images(
    paths: &Paths,
    ingest: &Ingest,
    limits: &Limits,
    found: Vec<Found<'_>>,
    progress: &dyn Progress,
) -> Result<Vec<Record>, LoadError> {
    let (wide, failed) = (Mutex::new(()), AtomicBool::new(false));
    let layers = LayerIngest { paths, ingest: ingest.path(), limits, progress, wide, failed };
    let ingested = ingest_layers(&layers, &found)?;
    let images = found.into_iter().enumerate();
    let records = images
        .map(|(number, image)| publish_image(paths, ingest, limits, image, &ingested, number))
        .collect::<Result<_, _>>()?;
    paths.sync_content()?;
    Ok(records)
}

fn find_images(
    source: Source<'_>,
    ingest: &Ingest,
    limits: &Limits,
) -> Result<Vec<Found<'static>>, ImageError> {
    let archive = Archive::open(source, ingest.path(), limits)?;
    if let Some(index) = archive.file(oci::INDEX)? {
        let mut found = oci::Layout::images(&archive, &index)?;
        docker::take_names(&archive, &mut found)?;
        return Ok(unite(found));
    }
    match archive.file(docker::MANIFEST)? {
        Some(list) => docker::images(&archive, &list),
        None => Err(ImageError::NotImages),
    }
}

/// An index has a descriptor for each name of an image.
fn unite(found: Vec<Found<'_>>) -> Vec<Found<'_>> {
    let mut united: Vec<Found<'_>> = Vec::new();
    for image in found {
        let digest = |image: &Found<'_>| image.manifest.as_ref().map(|(digest, _)| *digest);
        match united.iter_mut().find(|known| digest(known) == digest(&image)) {
            Some(known) => known.names.extend(image.names),
            None => united.push(image),
        }
    }
    united
}

/// Reads a document, if it is not too large.
fn read_document(name: &str, content: &Content) -> Result<Vec<u8>, ImageError> {
    let size = content.length();
    if size > MAX_DOCUMENT {
        return Err(ImageError::TooLarge { name: name.to_owned(), size });
    }
    content.read_start(MAX_DOCUMENT).map_err(|error| ImageError::Read(name.to_owned(), error))
}

/// The diffIDs of a config, if they are as many as the manifest's layers (threats.md row 11).
fn check_layers(config: &ConfigDocument, layers: usize) -> Result<&[Digest], ImageError> {
    let diff_ids = &config.rootfs.diff_ids;
    if layers == 0 || layers != diff_ids.len() || layers > MAX_LAYERS {
        return Err(ImageError::Layers { layers, diff_ids: diff_ids.len() });
    }
    Ok(diff_ids)
}

/// What tells the layers of a load apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct LayerKey {
    diff_id: Digest,
    bytes: Bytes,
}

/// Which bytes of the source. A folder's files are opened anew each time they are named, so a
/// digest is better than a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Bytes {
    Digest(Digest),
    Place(usize, u64),
}

fn layer_key(layer: &LayerSource<'_>) -> LayerKey {
    let (file, offset) = match &layer.bytes {
        LayerBytes::Here(content) => content.place(),
        LayerBytes::There { .. } => (0, 0),
    };
    let bytes = layer.digest.map_or(Bytes::Place(file, offset), Bytes::Digest);
    LayerKey { diff_id: layer.diff_id, bytes }
}

/// Ingests each layer of the images once, in parallel.
fn ingest_layers(
    ingest: &LayerIngest<'_>,
    found: &[Found<'_>],
) -> Result<HashMap<LayerKey, Ingested>, LoadError> {
    let mut jobs: Vec<(LayerKey, &LayerSource<'_>)> = found
        .iter()
        .flat_map(|image| &image.layers)
        .map(|layer| (layer_key(layer), layer))
        .collect();
    jobs.sort_by_key(|(key, layer)| (std::cmp::Reverse(layer.bytes.length()), *key));
    jobs.dedup_by_key(|(key, _)| *key);
    let mut workers = thread::available_parallelism().map_or(1, usize::from);
    if jobs.iter().any(|(_, layer)| matches!(layer.bytes, LayerBytes::There { .. })) {
        workers = workers.max(LEAST_STREAMS);
    }
    let next = AtomicUsize::new(0);
    let failed = &ingest.failed;
    let results = Mutex::new(Vec::new());
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some((key, layer)) = jobs.get(number) else { return };
            let result = ingest.run(layer, number);
            let error = result.is_err();
            // In this order: the first error is the cause of the others.
            results.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push((*key, result));
            failed.fetch_or(error, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        for _ in 1..workers.min(MAX_WORKERS).min(jobs.len()) {
            scope.spawn(work);
        }
        work();
    });
    let results = results.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    results
        .into_iter()
        .map(|(key, result)| match result {
            Ok(ingested) => Ok((key, ingested)),
            Err(IngestError::Store(error)) => Err(LoadError::Store(error)),
            Err(source) => Err(LoadError::Layer { layer: key.diff_id, source }),
        })
        .collect()
}

/// Publishes config, manifest and root disk of an image whose layers are in the store.
fn publish_image(
    paths: &Paths,
    ingest: &Ingest,
    limits: &Limits,
    image: Found<'_>,
    ingested: &HashMap<LayerKey, Ingested>,
    number: usize,
) -> Result<Record, LoadError> {
    let mut layers = Vec::new();
    for layer in &image.layers {
        let missing = || ImageError::Missing(layer.diff_id.to_string());
        let known = ingested.get(&layer_key(layer)).ok_or_else(missing)?;
        layers.push((layer.diff_id, *known, layer.bytes.length()));
    }
    let (manifest, text) = match image.manifest {
        Some(manifest) => manifest,
        None => {
            let layers: Vec<_> = layers.iter().map(|(_, known, size)| (*known, *size)).collect();
            let text = docker::new_manifest(&image.config_text, &layers)?;
            (Digest::of(&text), text)
        }
    };
    let diff_ids: Vec<Digest> = layers.iter().map(|(diff_id, ..)| *diff_id).collect();
    let key = RootKey::of(&diff_ids);
    let size = root::make(paths, ingest, limits, &key, &diff_ids)?;
    publish_document(paths, ingest, &image.config_text, &format!("config-{number}"))?;
    publish_document(paths, ingest, &text, &format!("manifest-{number}"))?;
    let layer = |(diff_id, known, _): &(Digest, Ingested, u64)| LayerRecord {
        diff_id: *diff_id,
        blob: known.blob,
    };
    Ok(Record {
        id: ImageId(Digest::of(&image.config_text)),
        manifest,
        root: key,
        layers: layers.iter().map(layer).collect(),
        size,
        created: image.document.created,
        names: image.names.into_iter().collect(),
        digests: BTreeSet::new(),
    })
}

fn publish_document(
    paths: &Paths,
    ingest: &Ingest,
    text: &[u8],
    name: &str,
) -> Result<(), StoreError> {
    let to = paths.blob(&Digest::of(text));
    if fs::exists(&to).map_err(io_error("read", &to))? {
        return Ok(());
    }
    let new = ingest.path().join(name);
    write_new(&new, text)?;
    publish(&new, &to)
}
