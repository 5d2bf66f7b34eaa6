//! An image on its way to a registry: its manifest and the blobs that this names, as they came.

use std::fs::{self, File};

use serde::Deserialize;

use crate::catalog::Catalog;
use crate::files::io_error;
use crate::paths::{Lock, Paths};
use crate::{Digest, FindError, ImageId, Reference, StoreError};

/// The media type of a manifest that does not say (OCI image spec, image manifest).
const DEFAULT_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// An image to be pushed. While it lives, nothing of the store is collected.
#[derive(Debug)]
pub struct Outgoing {
    /// The image's id.
    pub id: ImageId,
    /// Its manifest.
    pub manifest: Vec<u8>,
    /// The manifest's media type.
    pub media_type: String,
    /// What has to be at the registry before the manifest: the layers from the lowest, each once,
    /// and at last the config.
    pub blobs: Vec<OutgoingBlob>,
    /// Where it has been pulled from or pushed to: `repository@digest` each.
    pub digests: Vec<Reference>,
    paths: Paths,
    _content: Lock,
}

/// A blob of an image to be pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct OutgoingBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    #[serde(default)]
    media_type: String,
    config: OutgoingBlob,
    #[serde(default)]
    layers: Vec<OutgoingBlob>,
}

impl Outgoing {
    /// Opens one of the blobs.
    pub fn open(&self, digest: &Digest) -> Result<File, StoreError> {
        let path = self.paths.blob(digest);
        File::open(&path).map_err(io_error("open", &path))
    }
}

/// Finds an image to be pushed.
pub(crate) fn find(paths: &Paths, name: &str) -> Result<Outgoing, FindError> {
    let content = Lock::shared(&paths.content_lock())?;
    let catalog = Catalog::read(paths)?;
    let (record, _) = catalog.find(name)?;
    let path = paths.blob(&record.manifest);
    let text = fs::read(&path).map_err(io_error("read", &path))?;
    let manifest: Manifest = serde_json::from_slice(&text)
        .map_err(|error| StoreError::Damaged { path, source: error.into() })?;
    let mut blobs: Vec<OutgoingBlob> = Vec::new();
    for blob in manifest.layers.into_iter().chain([manifest.config]) {
        if !blobs.contains(&blob) {
            blobs.push(blob);
        }
    }
    let media_type = Some(manifest.media_type).filter(|media_type| !media_type.is_empty());
    Ok(Outgoing {
        id: record.id,
        manifest: text,
        media_type: media_type.unwrap_or_else(|| DEFAULT_TYPE.to_owned()),
        blobs,
        digests: record.digests.iter().cloned().collect(),
        paths: paths.clone(),
        _content: content,
    })
}
