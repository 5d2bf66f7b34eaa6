//! An image of one layer, from the root file system in a tar archive.
//!
//! The archive is spooled and decompressed once to learn its diffID, since a config names that;
//! from there on it is a layer like any other, kept as it came.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use super::document::ConfigDocument;
use super::layer::{LayerBytes, LayerSource};
use super::{Found, ImageError};
use crate::archive::{Content, Intake, Spooled};
use crate::compression::{Compression, Decoder};
use crate::error::LoadError;
use crate::files::{create_new, io_error};
use crate::limits::Limits;
use crate::paths::{Ingest, Lock, Paths};
use crate::{Digest, ImageId, NoProgress, Reference};

/// Bytes copied at once.
const BUFFER: usize = 128 << 10;

/// Brings the image into the store; `describe` makes its config blob from the layer's diffID.
pub(crate) fn import(
    paths: &Paths,
    limits: &Limits,
    archive: &mut dyn Read,
    describe: &dyn Fn(&Digest) -> serde_json::Value,
    name: Option<Reference>,
) -> Result<ImageId, LoadError> {
    let _content = Lock::shared(&paths.content_lock())?;
    let ingest = Ingest::create(paths)?;
    let content = spool(&ingest, archive)?;
    let diff_id = diff_id(&content, limits)
        .map_err(|source| LoadError::Image(ImageError::Read("the archive".to_owned(), source)))?;
    let json = |error| LoadError::Image(ImageError::Json(error));
    let config_text = serde_json::to_vec(&describe(&diff_id)).map_err(json)?;
    let document: ConfigDocument = serde_json::from_slice(&config_text).map_err(json)?;
    let digest = content.spool().map(|spooled| spooled.digest);
    let layers =
        vec![LayerSource { diff_id, bytes: LayerBytes::Here(content), stated: None, digest }];
    let names = name.into_iter().collect();
    let found = vec![Found { config_text, document, manifest: None, layers, names }];
    // The user knows no digest of what is made here.
    let loaded =
        super::add(paths, &ingest, limits, found, &NoProgress).map_err(|error| match error {
            LoadError::Layer { source, .. } => LoadError::NewLayer(source),
            error => error,
        })?;
    let missing = || LoadError::Image(ImageError::NotImages);
    loaded.first().map(|image| image.id).ok_or_else(missing)
}

fn spool(ingest: &Ingest, archive: &mut dyn Read) -> Result<Content, LoadError> {
    let path = ingest.path().join("import");
    let mut file = create_new(&path)?;
    let mut hasher = Sha256::new();
    let mut length = 0u64;
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = match archive.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                return Err(ImageError::Read("the archive".to_owned(), error).into());
            }
        };
        let bytes = buffer.get(..count).unwrap_or_default();
        hasher.update(bytes);
        file.write_all(bytes).map_err(io_error("write", &path))?;
        length = length.saturating_add(count as u64);
    }
    let digest = Digest::from(<[u8; 32]>::from(hasher.finalize()));
    Ok(Content::spooled(file, length, Spooled { path, digest }))
}

fn diff_id(content: &Content, limits: &Limits) -> io::Result<Digest> {
    let compression = Compression::detect(&content.head()?).map_err(io::Error::other)?;
    let untold = |_| {};
    let decoder = Decoder::new(Intake::new(content, None, &untold), compression, true, limits)?;
    let (_, diff_id, _) = decoder.finish()?;
    diff_id.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
