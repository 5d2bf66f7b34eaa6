//! Images of a `docker save` archive: from `manifest.json`, whose layers are files anywhere in the
//! archive and whose manifests are to be made.

use super::document::{ConfigDocument, Descriptor, NewManifest, SavedImage, media};
use super::layer::{Ingested, LayerBytes, LayerSource};
use super::{Found, ImageError, read_document};
use crate::archive::{Archive, Content};
use crate::compression::Compression;
use crate::{Digest, Platform, Reference};

/// Where such an archive begins.
pub(super) const MANIFEST: &str = "manifest.json";

/// Every image of the archive that runs here.
pub(super) fn images(archive: &Archive, list: &Content) -> Result<Vec<Found<'static>>, ImageError> {
    let mut found = Vec::new();
    let mut others = Vec::new();
    let wanted = Platform::host();
    for saved in saved_images(list)? {
        let config_text = read_member(archive, &saved.config)?;
        let document = ConfigDocument::parse(&config_text).map_err(ImageError::Json)?;
        if !document.platform().may_be(&wanted) {
            others.push(document.platform().to_string());
            continue;
        }
        let diff_ids = super::check_layers(&document, saved.layers.len())?;
        let sources = saved.layers.iter().zip(diff_ids).map(|(name, &diff_id)| {
            let content = archive.file(name)?.ok_or_else(|| ImageError::Missing(name.clone()))?;
            Ok(LayerSource {
                diff_id,
                bytes: LayerBytes::Here(content),
                stated: None,
                digest: None,
            })
        });
        let layers = sources.collect::<Result<Vec<_>, ImageError>>()?;
        let names = names(&saved);
        found.push(Found { config_text, document, manifest: None, layers, names });
    }
    if found.is_empty() {
        return Err(ImageError::Platform { wanted, others });
    }
    Ok(found)
}

/// Takes the names that `manifest.json` has for images that were found by an OCI index beside it,
/// as newer versions of Docker write both: the index may have no more than a tag.
pub(super) fn take_names(archive: &Archive, found: &mut [Found<'_>]) -> Result<(), ImageError> {
    let Some(list) = archive.file(MANIFEST)? else { return Ok(()) };
    for saved in saved_images(&list)? {
        let Some(config) = archive.file(&saved.config)? else { continue };
        let id = Digest::of(&read_document(&saved.config, &config)?);
        let names = names(&saved);
        let of_it =
            |image: &&mut Found<'_>| Digest::of(&image.config_text) == id && !names.is_empty();
        for image in found.iter_mut().filter(of_it) {
            image.names.clone_from(&names);
        }
    }
    Ok(())
}

fn saved_images(list: &Content) -> Result<Vec<SavedImage>, ImageError> {
    serde_json::from_slice(&read_document(MANIFEST, list)?).map_err(ImageError::Json)
}

fn read_member(archive: &Archive, name: &str) -> Result<Vec<u8>, ImageError> {
    let content = archive.file(name)?.ok_or_else(|| ImageError::Missing(name.to_owned()))?;
    read_document(name, &content)
}

fn names(saved: &SavedImage) -> Vec<Reference> {
    let references = saved.repo_tags.iter().filter_map(|tag| tag.parse::<Reference>().ok());
    references.filter(|name| name.digest().is_none()).map(Reference::or_latest).collect()
}

/// The manifest of an image that came without one; the same image always gets the same.
pub(super) fn new_manifest(
    config: &[u8],
    layers: &[(Ingested, u64)],
) -> Result<Vec<u8>, ImageError> {
    let descriptor = |media_type: &str, digest, size| Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size,
        annotations: std::collections::BTreeMap::new(),
        platform: None,
    };
    let layer = |(layer, size): &(Ingested, u64)| {
        let suffix = match layer.compression {
            Compression::None => "",
            Compression::Gzip => "+gzip",
            Compression::Zstd => "+zstd",
        };
        descriptor(&format!("{}{suffix}", media::LAYER), layer.blob, *size)
    };
    let manifest = NewManifest {
        schema_version: 2,
        media_type: media::MANIFEST,
        config: descriptor(media::CONFIG, Digest::of(config), config.len() as u64),
        layers: layers.iter().map(layer).collect(),
    };
    serde_json::to_vec(&manifest).map_err(ImageError::Json)
}
