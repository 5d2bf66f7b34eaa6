//! Images of an OCI layout or of a registry: from an index to the manifests for a platform.

use super::document::{ConfigDocument, Descriptor, Document, layer_compression, media};
use super::layer::{LayerBytes, LayerSource};
use super::{Found, ImageError, read_document};
use crate::archive::{Archive, Content};
use crate::limits::{MAX_DOCUMENTS, MAX_INDEX_DEPTH};
use crate::{Digest, Platform, Reference};

/// Where a layout begins.
pub(super) const INDEX: &str = "index.json";

/// containerd's full name of an image.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The specification's name or tag of an image.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Marks manifests that say something about another one.
const ATTESTATION: &str = "vnd.docker.reference.type";

/// Where the content of images is.
pub(super) trait Contents<'a> {
    /// What a descriptor of a document points at; its digest is for the caller to verify.
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError>;

    /// The bytes of a layer.
    fn layer(&self, descriptor: &Descriptor) -> Result<LayerBytes<'a>, ImageError>;
}

impl Contents<'static> for Archive {
    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        read_document(&descriptor.digest.to_string(), &content(self, descriptor)?)
    }

    fn layer(&self, descriptor: &Descriptor) -> Result<LayerBytes<'static>, ImageError> {
        content(self, descriptor).map(LayerBytes::Here)
    }
}

/// The content that a descriptor names, of the size it names.
fn content(archive: &Archive, descriptor: &Descriptor) -> Result<Content, ImageError> {
    let name = format!("blobs/sha256/{}", descriptor.digest.hex());
    let content = archive.file(&name)?.ok_or_else(|| ImageError::Missing(name.clone()))?;
    if content.length() != descriptor.size {
        let (expected, found) = (descriptor.size, content.length());
        return Err(ImageError::Size { name, expected, found });
    }
    Ok(content)
}

/// Finds images among contents.
pub(super) struct Layout<'s, 'a> {
    contents: &'s dyn Contents<'a>,
    wanted: Platform,
    /// Documents that may still be read.
    budget: usize,
    /// Platforms of images that are not wanted.
    others: Vec<String>,
    found: Vec<Found<'a>>,
}

impl<'s> Layout<'s, 'static> {
    /// Every image of the archive that runs here.
    pub(super) fn images(
        archive: &'s Archive,
        index: &Content,
    ) -> Result<Vec<Found<'static>>, ImageError> {
        let mut layout = Self::new(archive, Platform::host());
        let text = read_document(INDEX, index)?;
        let Document::Index(descriptors) = Document::parse(&text, "")? else {
            return Err(ImageError::MediaType(media::MANIFEST.to_owned()));
        };
        for descriptor in &descriptors {
            layout.visit(descriptor, &names(descriptor), 1)?;
        }
        layout.finish()
    }
}

impl<'s, 'a> Layout<'s, 'a> {
    fn new(contents: &'s dyn Contents<'a>, wanted: Platform) -> Self {
        let (others, found) = (Vec::new(), Vec::new());
        Self { contents, wanted, budget: MAX_DOCUMENTS, others, found }
    }

    /// The image for a platform that a document is or leads to; `media_type` may be empty.
    pub(super) fn image(
        contents: &'s dyn Contents<'a>,
        wanted: &Platform,
        text: &[u8],
        media_type: &str,
    ) -> Result<Option<Found<'a>>, ImageError> {
        let mut layout = Self::new(contents, wanted.clone());
        layout.take(Digest::of(text), text.to_vec(), media_type, &[], 1)?;
        Ok(layout.finish()?.pop())
    }

    fn finish(mut self) -> Result<Vec<Found<'a>>, ImageError> {
        if self.found.is_empty() {
            self.others.sort();
            self.others.dedup();
            return Err(ImageError::Platform { wanted: self.wanted, others: self.others });
        }
        Ok(self.found)
    }

    /// Takes what a descriptor points at; whether an image for this platform was found.
    fn visit(
        &mut self,
        descriptor: &Descriptor,
        names: &[Reference],
        depth: usize,
    ) -> Result<bool, ImageError> {
        if depth > MAX_INDEX_DEPTH {
            return Err(ImageError::Depth);
        }
        if descriptor.annotations.contains_key(ATTESTATION) {
            return Ok(false);
        }
        if let Some(platform) = &descriptor.platform
            && !platform.fits(&self.wanted)
        {
            self.refuse(platform);
            return Ok(false);
        }
        let is_document = matches!(
            descriptor.media_type.as_str(),
            "" | media::INDEX | media::MANIFEST_LIST | media::MANIFEST | media::DOCKER_MANIFEST
        );
        if !is_document {
            return Ok(false);
        }
        self.budget = self.budget.checked_sub(1).ok_or(ImageError::Documents)?;
        let text = self.verified(descriptor)?;
        self.take(descriptor.digest, text, &descriptor.media_type, names, depth)
    }

    /// The same for a document that is at hand.
    fn take(
        &mut self,
        digest: Digest,
        text: Vec<u8>,
        media_type: &str,
        names: &[Reference],
        depth: usize,
    ) -> Result<bool, ImageError> {
        match Document::parse(&text, media_type)? {
            Document::Index(descriptors) => {
                // The first that fits is the image, as for a registry's client.
                for inner in &descriptors {
                    if self.visit(inner, names, depth + 1)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Document::Manifest { config, layers } => {
                self.manifest(digest, text, &config, &layers, names)
            }
        }
    }

    fn refuse(&mut self, platform: &Platform) {
        if !platform.is_unknown() {
            self.others.push(platform.to_string());
        }
    }

    fn manifest(
        &mut self,
        digest: Digest,
        manifest: Vec<u8>,
        config: &Descriptor,
        layers: &[Descriptor],
        names: &[Reference],
    ) -> Result<bool, ImageError> {
        if !matches!(config.media_type.as_str(), "" | media::CONFIG | media::DOCKER_CONFIG) {
            // An artifact of another kind.
            return Ok(false);
        }
        let config_text = self.verified(config)?;
        let document = ConfigDocument::parse(&config_text).map_err(ImageError::Json)?;
        if !document.platform().may_be(&self.wanted) {
            self.refuse(&document.platform());
            return Ok(false);
        }
        let diff_ids = super::check_layers(&document, layers.len())?;
        let sources = layers.iter().zip(diff_ids).map(|(descriptor, &diff_id)| {
            Ok(LayerSource {
                diff_id,
                bytes: self.contents.layer(descriptor)?,
                stated: Some(layer_compression(&descriptor.media_type)?),
                digest: Some(descriptor.digest),
            })
        });
        let layers = sources.collect::<Result<Vec<_>, ImageError>>()?;
        let manifest = Some((digest, manifest));
        let names = names.to_vec();
        self.found.push(Found { config_text, document, manifest, layers, names });
        Ok(true)
    }

    /// A document that a descriptor names.
    fn verified(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let text = self.contents.document(descriptor)?;
        let found = Digest::of(&text);
        if found != descriptor.digest {
            return Err(ImageError::Digest { expected: descriptor.digest, found });
        }
        Ok(text)
    }
}

/// The names that an index gives an image: containerd's, or the specification's if it reads as a
/// reference. An image whose names are of other kinds has none.
fn names(descriptor: &Descriptor) -> Vec<Reference> {
    let annotation = |key| descriptor.annotations.get(key);
    let name = annotation(CONTAINERD_NAME).or_else(|| annotation(REF_NAME));
    let reference = name.and_then(|name| name.parse::<Reference>().ok());
    reference.filter(|name| name.digest().is_none()).map(Reference::or_latest).into_iter().collect()
}
