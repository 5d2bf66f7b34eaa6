//! What is asked of a repository: manifests, tags, blobs, and to take some.

use image_store::{Digest, Reference, Remote, RemoteError};
use serde::Deserialize;
use ureq::http::header::{CONTENT_TYPE, LINK};
use ureq::http::{HeaderMap, Uri};

use crate::blob::Blob;
use crate::endpoint::{Call, Endpoint};
use crate::error::RegistryError;
use crate::upload::{self, Pushed, Upload};

/// Largest manifest or index, in bytes (threats.md row 15).
const MAX_MANIFEST: u64 = 4 << 20;
/// Largest page of a list of tags, in bytes, and most of them.
const MAX_PAGE: u64 = 4 << 20;
const MAX_PAGES: usize = 1000;
/// Most tags.
const MAX_TAGS: usize = 100_000;

/// The kinds of documents that images have; schema 1 is not among them.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or index as a registry sent it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
    /// As the registry says; empty if it says nothing that an image may be.
    pub media_type: String,
}

/// A repository at a registry, its mirrors first. May be shared by threads.
#[derive(Debug)]
pub struct Repository {
    /// Never empty; the last is the registry itself.
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
struct TagPage {
    /// Null for a repository without tags.
    tags: Option<Vec<String>>,
}

impl Repository {
    pub(crate) fn new(endpoints: Vec<Endpoint>) -> Self {
        Self { endpoints }
    }

    /// Asks the mirrors, then the registry itself; the answer of the last is what counts.
    fn ask<T>(
        &self,
        ask: impl Fn(&Endpoint) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut result = Err(RegistryError::answer("no registry", "nothing"));
        for endpoint in &self.endpoints {
            result = ask(endpoint);
            if result.is_ok() {
                break;
            }
        }
        result
    }

    /// The document that a reference's digest names, or else its tag.
    pub fn manifest(&self, reference: &Reference) -> Result<Manifest, RegistryError> {
        self.ask(|endpoint| match reference.digest() {
            Some(digest) => document(endpoint, &digest.to_string(), Some(digest)),
            None => document(endpoint, reference.tag().unwrap_or("latest"), None),
        })
    }

    /// The tags of the repository, in the registry's order.
    pub fn tags(&self) -> Result<Vec<String>, RegistryError> {
        self.ask(tags)
    }

    /// A blob from its start; reading it gives `size` bytes or an error.
    pub fn blob(&self, digest: &Digest, size: u64) -> Result<Blob<'_>, RegistryError> {
        Blob::open(&self.endpoints, *digest, size)
    }

    /// Gives the registry a blob.
    pub fn push(&self, upload: &Upload<'_>) -> Result<Pushed, RegistryError> {
        upload::push(self.own()?, upload)
    }

    /// Gives the registry a manifest whose blobs it has, under a tag.
    pub fn push_manifest(
        &self,
        tag: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, RegistryError> {
        upload::push_manifest(self.own()?, tag, media_type, bytes)
    }

    fn own(&self) -> Result<&Endpoint, RegistryError> {
        self.endpoints.last().ok_or_else(|| RegistryError::answer("no registry", "nothing"))
    }
}

impl Remote for Repository {
    fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, RemoteError> {
        let found = self.ask(|endpoint| document(endpoint, &digest.to_string(), Some(digest)))?;
        Ok(found.bytes)
    }

    fn blob(&self, digest: &Digest, size: u64) -> Result<Box<dyn std::io::Read + '_>, RemoteError> {
        Ok(Box::new(Blob::open(&self.endpoints, *digest, size)?))
    }
}

fn document(
    endpoint: &Endpoint,
    name: &str,
    expected: Option<&Digest>,
) -> Result<Manifest, RegistryError> {
    let call = Call::get(endpoint.url(&format!("manifests/{name}"))?).accept(ACCEPTED);
    let (bytes, response) = endpoint.fetch(&call, MAX_MANIFEST)?;
    let digest = Digest::of(&bytes);
    if let Some(expected) = expected {
        endpoint.verify(&bytes, expected)?;
    }
    check_announced(endpoint, response.headers(), &digest)?;
    let media_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    // Some registries serve whatever they have as JSON, or as text.
    let media_type = if media_type.starts_with("application/vnd.") { media_type } else { "" };
    Ok(Manifest { bytes, digest, media_type: media_type.to_owned() })
}

/// Refuses content other than the registry itself says it is.
pub(crate) fn check_announced(
    endpoint: &Endpoint,
    headers: &HeaderMap,
    found: &Digest,
) -> Result<(), RegistryError> {
    let announced = headers.get("docker-content-digest").and_then(|value| value.to_str().ok());
    // A digest of another algorithm says nothing that could be checked.
    match announced.and_then(|text| text.parse::<Digest>().ok()) {
        Some(expected) if expected != *found => {
            Err(RegistryError::Digest { registry: endpoint.registry(), expected, found: *found })
        }
        _ => Ok(()),
    }
}

fn tags(endpoint: &Endpoint) -> Result<Vec<String>, RegistryError> {
    let mut all = Vec::new();
    let mut next = Some(endpoint.url("tags/list?n=1000")?);
    for _ in 0..MAX_PAGES {
        let Some(uri) = next else { return Ok(all) };
        let (text, response) = endpoint.fetch(&Call::get(uri.clone()), MAX_PAGE)?;
        let page: TagPage = serde_json::from_slice(&text).map_err(|_| {
            RegistryError::answer(&endpoint.registry(), "a list of tags that is none")
        })?;
        all.extend(page.tags.unwrap_or_default());
        if all.len() > MAX_TAGS {
            break;
        }
        next = next_page(endpoint, &uri, response.headers());
    }
    Err(RegistryError::answer(&endpoint.registry(), "a list of tags without end"))
}

/// `Link: </v2/…>; rel="next"` (RFC 8288), of the registry itself.
fn next_page(endpoint: &Endpoint, from: &Uri, headers: &HeaderMap) -> Option<Uri> {
    let link = headers.get(LINK)?.to_str().ok()?;
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    if !parameters.contains("next") {
        return None;
    }
    endpoint.http.join(from, target).ok().filter(|uri| endpoint.http.is_own(uri))
}
