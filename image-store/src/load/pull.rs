//! Pulling: an image whose documents and layers are at a registry. What the store has already is
//! not fetched; the rest goes the same way as what comes in archives.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;

use super::document::Descriptor;
use super::layer::LayerBytes;
use super::oci::{Contents, Layout};
use super::{ImageError, ingest_images};
use crate::catalog::{Catalog, Record};
use crate::limits::{Limits, MAX_DOCUMENT};
use crate::paths::{Ingest, Lock, Paths};
use crate::{Digest, ImageId, LoadError, Platform, Progress, Reference, Remote, RemoteError};

/// What is to be pulled.
#[derive(Clone, Copy, Debug)]
pub struct PullRequest<'a> {
    /// The name that the image gets; with a digest, it gets no tag.
    pub reference: &'a Reference,
    /// Which image of an index is wanted.
    pub platform: &'a Platform,
    /// The manifest or index that the registry has under that name.
    pub manifest: &'a [u8],
    /// Its media type as the registry says; may be empty.
    pub media_type: &'a str,
}

/// An image that was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PulledImage {
    /// The image's id.
    pub id: ImageId,
    /// Digest of what the registry has under the name.
    pub digest: Digest,
    /// Whether it was all here, under that name.
    pub up_to_date: bool,
}

/// Content at a registry, except what is here.
struct Fetched<'a> {
    paths: &'a Paths,
    remote: &'a dyn Remote,
}

impl<'a> Contents<'a> for Fetched<'a> {
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let Descriptor { digest, size, .. } = *descriptor;
        if size > MAX_DOCUMENT {
            return Err(ImageError::TooLarge { name: digest.to_string(), size });
        }
        if let Ok(text) = fs::read(self.paths.blob(&digest))
            && Digest::of(&text) == digest
        {
            return Ok(text);
        }
        let text = if descriptor.is_config() {
            read_blob(self.remote, &digest, size)
        } else {
            self.remote.manifest(&digest)
        };
        let text = text.map_err(|error| ImageError::Fetch(digest, error))?;
        if text.len() as u64 != size {
            let (name, found) = (digest.to_string(), text.len() as u64);
            return Err(ImageError::Size { name, expected: size, found });
        }
        Ok(text)
    }

    fn layer(&self, descriptor: &Descriptor) -> Result<LayerBytes<'a>, ImageError> {
        Ok(LayerBytes::There { remote: self.remote, size: descriptor.size })
    }
}

fn read_blob(remote: &dyn Remote, digest: &Digest, size: u64) -> Result<Vec<u8>, RemoteError> {
    let mut text = Vec::new();
    remote.blob(digest, size)?.take(MAX_DOCUMENT).read_to_end(&mut text)?;
    Ok(text)
}

/// Pulls an image.
pub(crate) fn pull(
    paths: &Paths,
    limits: &Limits,
    request: &PullRequest<'_>,
    remote: &dyn Remote,
    progress: &dyn Progress,
) -> Result<PulledImage, LoadError> {
    let digest = Digest::of(request.manifest);
    if let Some(expected) = request.reference.digest().filter(|expected| **expected != digest) {
        return Err(ImageError::Digest { expected: *expected, found: digest }.into());
    }
    let _content = Lock::shared(&paths.content_lock())?;
    let ingest = Ingest::create(paths)?;
    let contents = Fetched { paths, remote };
    let found = Layout::image(&contents, request.platform, request.manifest, request.media_type)?;
    let found = found.into_iter().collect();
    let records = ingest_images(paths, &ingest, limits, found, progress)?;
    let mut names = BTreeSet::new();
    if request.reference.digest().is_none() {
        names.insert(request.reference.clone().or_latest());
    }
    let digests = BTreeSet::from([request.reference.with_digest(digest)]);
    let lock = Lock::exclusive(&paths.catalog_lock())?;
    let mut catalog = Catalog::read(paths)?;
    let mut pulled = None;
    for record in records {
        let (names, digests) = (names.clone(), digests.clone());
        let record = Record { names, digests, ..record };
        let same = |old: &Record| {
            old.id == record.id
                && old.manifest == record.manifest
                && old.names.is_superset(&record.names)
                && old.digests.is_superset(&record.digests)
        };
        let up_to_date = catalog.images.iter().any(same);
        pulled = Some(PulledImage { id: record.id, digest, up_to_date });
        catalog.add(record);
    }
    catalog.write(paths, &ingest, &lock)?;
    Ok(pulled.ok_or(ImageError::NotImages)?)
}
