//! The JSON documents of an image: index, manifest, config, and Docker's list of images.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::ImageError;
use crate::compression::Compression;
use crate::config::null_is_default;
use crate::{Digest, ImageConfig, Platform};

/// Media types; Docker's and OCI's mean the same.
pub(crate) mod media {
    pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub(in crate::load) const MANIFEST_LIST: &str =
        "application/vnd.docker.distribution.manifest.list.v2+json";
    pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub(in crate::load) const DOCKER_MANIFEST: &str =
        "application/vnd.docker.distribution.manifest.v2+json";
    pub(in crate::load) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub(in crate::load) const DOCKER_CONFIG: &str =
        "application/vnd.docker.container.image.v1+json";
    pub(in crate::load) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    const FOREIGN_LAYER: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
    const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar";
    /// Each of these may be followed by how the layer is compressed.
    pub(in crate::load) const LAYERS: [&str; 4] =
        [LAYER, FOREIGN_LAYER, DOCKER_LAYER, DOCKER_FOREIGN_LAYER];
}

/// Points at content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default, deserialize_with = "null_is_default")]
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<Platform>,
}

impl Descriptor {
    /// Whether it points at an image's config.
    pub(super) fn is_config(&self) -> bool {
        matches!(self.media_type.as_str(), media::CONFIG | media::DOCKER_CONFIG)
    }
}

/// An index or a manifest: which of them is told by what it lists.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyDocument {
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    fs_layers: Option<IgnoredAny>,
}

/// An index or a manifest.
#[derive(Debug)]
pub(super) enum Document {
    Index(Vec<Descriptor>),
    Manifest { config: Descriptor, layers: Vec<Descriptor> },
}

impl Document {
    /// Parses a document that was announced with a media type, which may be empty. One that could
    /// be taken for either is refused (threats.md row 16).
    pub(super) fn parse(text: &[u8], announced: &str) -> Result<Self, ImageError> {
        let any: AnyDocument = serde_json::from_slice(text).map_err(ImageError::Json)?;
        if any.fs_layers.is_some() || any.schema_version != 2 {
            return Err(ImageError::SchemaVersion(any.schema_version));
        }
        let document = match (any.manifests, any.config, any.layers) {
            (Some(manifests), None, None) => Self::Index(manifests),
            (None, Some(config), layers) => {
                Self::Manifest { config, layers: layers.unwrap_or_default() }
            }
            _ => return Err(ImageError::Ambiguous),
        };
        for stated in [announced, &any.media_type] {
            let fits = match document {
                Self::Index(_) => matches!(stated, "" | media::INDEX | media::MANIFEST_LIST),
                Self::Manifest { .. } => {
                    matches!(stated, "" | media::MANIFEST | media::DOCKER_MANIFEST)
                }
            };
            if !fits {
                return Err(ImageError::MediaType(stated.to_owned()));
            }
        }
        Ok(document)
    }
}

/// How a layer of that media type is compressed.
pub(super) fn layer_compression(media_type: &str) -> Result<Compression, ImageError> {
    let suffix = media::LAYERS.iter().find_map(|base| media_type.strip_prefix(base));
    match suffix {
        Some("") => Ok(Compression::None),
        Some("+gzip" | ".gzip") => Ok(Compression::Gzip),
        Some("+zstd" | ".zstd") => Ok(Compression::Zstd),
        _ => Err(ImageError::MediaType(media_type.to_owned())),
    }
}

/// The config blob, as far as it is understood here.
#[derive(Debug, Deserialize)]
pub(crate) struct ConfigDocument {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: String,
    #[serde(default)]
    pub(super) created: Option<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(crate) config: ImageConfig,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) rootfs: RootFs,
}

impl ConfigDocument {
    /// Parses a config. All of it has to be JSON, also what is not looked at here: it is shown later.
    pub(super) fn parse(text: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(text).and_then(serde_json::from_value::<Self>)
    }

    /// What the image runs on.
    pub(super) fn platform(&self) -> Platform {
        Platform::new(&self.os, &self.architecture, &self.variant)
    }
}

/// The layers that a config names.
#[derive(Debug, Default, Deserialize)]
pub(super) struct RootFs {
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) diff_ids: Vec<Digest>,
}

/// A manifest that is made for an image that came without one.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct NewManifest {
    pub(super) schema_version: u32,
    pub(super) media_type: &'static str,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// An image in the `manifest.json` of `docker save`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct SavedImage {
    pub(super) config: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) layers: Vec<String>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DESCRIPTOR: &str = r#"{"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","size":0}"#;

    #[test]
    fn row16_manifests_and_layers_in_one_document_are_refused() {
        for fields in [
            format!(r#""manifests":[],"layers":[],"config":{DESCRIPTOR}"#),
            r#""manifests":[],"layers":[]"#.to_owned(),
            format!(r#""manifests":[],"config":{DESCRIPTOR}"#),
            r#""layers":[]"#.to_owned(),
        ] {
            let text = format!(r#"{{"schemaVersion":2,{fields}}}"#);
            let parsed = Document::parse(text.as_bytes(), "");
            assert!(matches!(parsed, Err(ImageError::Ambiguous)), "{text}");
        }
        let text = format!(r#"{{"schemaVersion":2,"layers":[],"config":{DESCRIPTOR}}}"#);
        assert!(Document::parse(text.as_bytes(), media::MANIFEST).is_ok());
        assert!(Document::parse(text.as_bytes(), media::INDEX).is_err());
        assert!(Document::parse(text.replace('2', "1").as_bytes(), "").is_err());
    }

    #[test]
    fn a_config_is_json_also_where_nobody_looks() {
        let text = |history: &[u8]| [br#"{"os":"linux","history":[""#, history, br#""]}"#].concat();
        assert!(ConfigDocument::parse(&text(b"x")).is_ok());
        for history in [&b"\xff"[..], br"\ud800"] {
            assert!(ConfigDocument::parse(&text(history)).is_err());
        }
    }

    #[test]
    fn a_name_that_is_there_twice_counts_as_it_does_in_docker() {
        let parsed = ConfigDocument::parse(br#"{"os":"plan9","os":"linux"}"#).unwrap();
        assert_eq!(parsed.os, "linux");
    }

    #[test]
    fn schema_1_is_refused_by_its_name() {
        let text = r#"{"schemaVersion":1,"name":"a","tag":"1","architecture":"amd64",
            "fsLayers":[],"history":[],"signatures":[]}"#;
        let media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws";
        let error = Document::parse(text.as_bytes(), media_type).unwrap_err();
        assert!(matches!(error, ImageError::SchemaVersion(1)), "{error}");
    }

    #[test]
    fn row14_a_digest_that_is_a_path_does_not_parse() {
        let text = r#"{"schemaVersion":2,"manifests":[{"digest":"sha256:../../x","size":1}]}"#;
        assert!(matches!(Document::parse(text.as_bytes(), ""), Err(ImageError::Json(_))));
    }

    #[test]
    fn row15_deep_json_is_refused() {
        let text = "[".repeat(1 << 20);
        assert!(matches!(Document::parse(text.as_bytes(), ""), Err(ImageError::Json(_))));
        let text = format!(r#"{{"schemaVersion":2,"x":{}"#, "[".repeat(1 << 20));
        assert!(matches!(Document::parse(text.as_bytes(), ""), Err(ImageError::Json(_))));
    }

    #[test]
    fn layer_media_types_say_how_they_are_compressed() {
        assert_eq!(layer_compression(media::LAYER).ok(), Some(Compression::None));
        let docker = "application/vnd.docker.image.rootfs.diff.tar.gzip";
        assert_eq!(layer_compression(docker).ok(), Some(Compression::Gzip));
        let zstd = "application/vnd.oci.image.layer.v1.tar+zstd";
        assert_eq!(layer_compression(zstd).ok(), Some(Compression::Zstd));
        let encrypted = "application/vnd.oci.image.layer.v1.tar+gzip+encrypted";
        assert!(layer_compression(encrypted).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "[\\[\\]{}\",:0-9a-z]{0,200}") {
            let _ = Document::parse(text.as_bytes(), "");
            let _ = serde_json::from_str::<ConfigDocument>(&text);
            let _ = serde_json::from_str::<Vec<SavedImage>>(&text);
        }
    }
}
