//! Saving images: an OCI layout in a tar archive, with the list of images that `docker load` reads.
//!
//! ```text
//! blobs/sha256/<digest>   manifests, configs and layers exactly as they came
//! index.json              one descriptor for each name, or for an image without one
//! manifest.json           the same for Docker before it knew OCI layouts
//! oci-layout
//! ```
//! The same images in the same store give the same bytes. Nothing is collected meanwhile.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, Record};
use crate::files::io_error;
use crate::load::media;
use crate::paths::{Lock, Paths};
use crate::{Digest, FindError, Reference, SaveError, StoreError};

/// The name of an image in full, as containerd and newer versions of Docker have it.
const FULL_NAME: &str = "io.containerd.image.name";
/// Its tag, as `skopeo` asks for it.
const TAG: &str = "org.opencontainers.image.ref.name";

/// An image to be saved, under those of its names that were asked for.
struct Chosen<'a> {
    record: &'a Record,
    names: Vec<Reference>,
}

/// `index.json`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: &'static str,
    manifests: Vec<ManifestDescriptor>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ManifestDescriptor {
    media_type: String,
    digest: Digest,
    size: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<&'static str, String>,
}

/// An image in `manifest.json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MediaType {
    #[serde(default)]
    media_type: String,
}

/// Writes the images that go by `names`; a name without a tag means all tags of its repository.
pub(crate) fn save(paths: &Paths, names: &[String], out: &mut dyn Write) -> Result<(), SaveError> {
    let _content = Lock::shared(&paths.content_lock())?;
    let catalog = Catalog::read(paths)?;
    let chosen = choose(&catalog, names)?;
    let documents = [
        ("index.json", index(paths, &chosen)?),
        ("manifest.json", to_json(&chosen.iter().map(docker_image).collect::<Vec<_>>())?),
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
    ];
    let mut archive = tar::Builder::new(out);
    for folder in ["blobs/", "blobs/sha256/"] {
        let mut header = header(tar::EntryType::Directory, 0o755, 0);
        let empty: &[u8] = &[];
        archive.append_data(&mut header, folder, empty).map_err(SaveError::Write)?;
    }
    let mut blobs: Vec<Digest> = chosen.iter().flat_map(|chosen| blobs(chosen.record)).collect();
    blobs.sort_unstable();
    blobs.dedup();
    for digest in blobs {
        append_blob(paths, &digest, &mut archive)?;
    }
    for (name, text) in documents {
        let mut header = header(tar::EntryType::Regular, 0o644, text.len() as u64);
        archive.append_data(&mut header, name, &text[..]).map_err(SaveError::Write)?;
    }
    archive.into_inner().and_then(|out| out.flush()).map_err(SaveError::Write)
}

/// Each image once, in the order in which they were asked for.
fn choose<'a>(catalog: &'a Catalog, names: &[String]) -> Result<Vec<Chosen<'a>>, FindError> {
    let mut chosen: Vec<Chosen<'a>> = Vec::new();
    let mut add = |record: &'a Record, names: Vec<Reference>| {
        let known = chosen.iter_mut().find(|chosen| chosen.record.id == record.id);
        match known {
            Some(known) => known.names.extend(names),
            None => chosen.push(Chosen { record, names }),
        }
    };
    for name in names {
        let repository = name.parse::<Reference>().ok();
        let repository = repository.filter(|name| name.tag().is_none() && name.digest().is_none());
        let mut found = false;
        if let Some(repository) = repository.map(|name| name.repository()) {
            for record in &catalog.images {
                let in_it = |name: &&Reference| name.repository() == repository;
                let names: Vec<Reference> = record.names.iter().filter(in_it).cloned().collect();
                if !names.is_empty() {
                    found = true;
                    add(record, names);
                }
            }
        }
        if !found {
            let (record, reference) = catalog.find(name)?;
            add(record, reference.filter(|name| name.tag().is_some()).into_iter().collect());
        }
    }
    for chosen in &mut chosen {
        chosen.names.sort();
        chosen.names.dedup();
    }
    Ok(chosen)
}

fn blobs(record: &Record) -> impl Iterator<Item = Digest> {
    record.layers.iter().map(|layer| layer.blob).chain([record.id.0, record.manifest])
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn docker_image(chosen: &Chosen<'_>) -> DockerImage {
    let names: Vec<String> = chosen.names.iter().map(Reference::familiar).collect();
    DockerImage {
        config: blob_name(&chosen.record.id.0),
        repo_tags: (!names.is_empty()).then_some(names),
        layers: chosen.record.layers.iter().map(|layer| blob_name(&layer.blob)).collect(),
    }
}

fn index(paths: &Paths, chosen: &[Chosen<'_>]) -> Result<Vec<u8>, SaveError> {
    let mut manifests = Vec::new();
    for Chosen { record, names } in chosen {
        let path = paths.blob(&record.manifest);
        let text = fs::read(&path).map_err(io_error("read", &path))?;
        let stated: MediaType = serde_json::from_slice(&text)
            .map_err(|error| StoreError::Damaged { path, source: error.into() })?;
        let media_type = match stated.media_type.as_str() {
            "" => media::MANIFEST.to_owned(),
            stated => stated.to_owned(),
        };
        let descriptor = |annotations| ManifestDescriptor {
            media_type: media_type.clone(),
            digest: record.manifest,
            size: text.len() as u64,
            annotations,
        };
        manifests.extend(names.iter().map(|name| {
            let tag = name.tag().unwrap_or_default().to_owned();
            descriptor(BTreeMap::from([(FULL_NAME, name.to_string()), (TAG, tag)]))
        }));
        if names.is_empty() {
            manifests.push(descriptor(BTreeMap::new()));
        }
    }
    to_json(&Index { schema_version: 2, media_type: media::INDEX, manifests })
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, SaveError> {
    serde_json::to_vec(value).map_err(|error| SaveError::Write(error.into()))
}

/// Without a time or an owner: the archive depends on what is in it alone.
fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header
}

fn append_blob(
    paths: &Paths,
    digest: &Digest,
    archive: &mut tar::Builder<&mut dyn Write>,
) -> Result<(), SaveError> {
    let path = paths.blob(digest);
    let file = File::open(&path).map_err(io_error("open", &path))?;
    let size = file.metadata().map_err(io_error("read", &path))?.len();
    let mut header = header(tar::EntryType::Regular, 0o644, size);
    // Of a file that shrinks meanwhile the archive would be wrong from here on.
    let mut content = Exactly { file: file.take(size), left: size };
    archive.append_data(&mut header, blob_name(digest), &mut content).map_err(SaveError::Write)
}

/// Reads that many bytes or fails.
struct Exactly {
    file: io::Take<File>,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buf)?;
        self.left = self.left.saturating_sub(count as u64);
        if count == 0 && self.left > 0 && !buf.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(count)
    }
}
