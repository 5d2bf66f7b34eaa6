//! Giving a repository a blob: mounted from another repository of the registry where that has it,
//! else sent whole in one request. A try that fails begins anew.

use std::io::{self, Read};

use image_store::Digest;
use ureq::Body;
use ureq::http::header::{CONTENT_TYPE, LOCATION};
use ureq::http::{Method, Response, Uri};

use crate::endpoint::{Call, Endpoint};
use crate::error::{Refusal, RegistryError};
use crate::http::{HttpError, Request};
use crate::target::{encode, with_parameter};

/// Bytes between two calls of the progress function.
const PROGRESS_STEP: u64 = 512 << 10;

/// How a blob came to be in a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It was there.
    Existed,
    /// The registry has taken it from this other repository of its own.
    Mounted(String),
    /// It was sent.
    Sent,
}

/// A blob to be pushed.
pub struct Upload<'a> {
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Opens it, for each try anew.
    pub open: &'a dyn Fn() -> io::Result<Box<dyn Read>>,
    /// Another repository of the registry (its path) that may have it.
    pub mount: Option<&'a str>,
    /// Told how many bytes were sent.
    pub progress: &'a dyn Fn(u64),
}

impl std::fmt::Debug for Upload<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Upload");
        shown.field("digest", &self.digest).field("size", &self.size).finish_non_exhaustive()
    }
}

pub(crate) fn push(endpoint: &Endpoint, upload: &Upload<'_>) -> Result<Pushed, RegistryError> {
    let uri = endpoint.url(&format!("blobs/{}", upload.digest))?;
    let head = endpoint.call(&Call { method: Method::HEAD, ..Call::get(uri) })?;
    match head.status().as_u16() {
        200 => return Ok(Pushed::Existed),
        404 => {}
        _ => return Err(endpoint.successful(head).err().unwrap_or_else(|| no_sense(endpoint))),
    }
    let mut mounted = false;
    // Two requests are one try: a session may be gone when the second of them fails.
    let response = endpoint.patiently(|| {
        let started = begin(endpoint, upload)?;
        mounted = started.status().as_u16() == 201;
        if mounted || !started.status().is_success() {
            Ok(started)
        } else {
            send(endpoint, upload, &started)
        }
    })?;
    endpoint.successful(response)?;
    Ok(match upload.mount {
        Some(from) if mounted => Pushed::Mounted(from.to_owned()),
        _ => Pushed::Sent,
    })
}

fn no_sense(endpoint: &Endpoint) -> RegistryError {
    RegistryError::answer(&endpoint.registry(), "an answer that makes no sense")
}

/// Begins a session, or has the blob mounted.
fn begin(endpoint: &Endpoint, upload: &Upload<'_>) -> Result<Response<Body>, RegistryError> {
    let mount = upload.mount.map_or_else(String::new, |from| {
        format!("?mount={}&from={}", encode(&upload.digest.to_string()), encode(from))
    });
    let uri = endpoint.url(&format!("blobs/uploads/{mount}"))?;
    endpoint.call_once(&Call { method: Method::POST, ..Call::get(uri) })
}

fn send(
    endpoint: &Endpoint,
    upload: &Upload<'_>,
    started: &Response<Body>,
) -> Result<Response<Body>, RegistryError> {
    let uri = session(endpoint, upload, started)?;
    let local = |source| RegistryError::Local { digest: upload.digest, source };
    endpoint.authorised(&uri, |authorization| {
        let content = (upload.open)().map_err(local)?;
        let mut body =
            Watched { inner: content, failed: None, sent: 0, told: 0, tell: upload.progress };
        let headers = vec![(CONTENT_TYPE, "application/octet-stream".to_owned())];
        let sent = endpoint.http.send(Request {
            method: Method::PUT,
            uri: uri.clone(),
            headers,
            authorization,
            body: Some((&mut body, upload.size)),
        });
        match body.failed {
            Some(error) => Err(local(error)),
            None => Ok(sent?),
        }
    })
}

/// Where a session takes the blob.
fn session(
    endpoint: &Endpoint,
    upload: &Upload<'_>,
    started: &Response<Body>,
) -> Result<Uri, RegistryError> {
    let location = started.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let from = endpoint.url("blobs/uploads/")?;
    let uri = endpoint.http.join(&from, location.unwrap_or_default()).map_err(HttpError::from)?;
    with_parameter(&uri, "digest", &upload.digest.to_string()).ok_or_else(|| no_sense(endpoint))
}

/// Tells how far a body was read, and keeps what went wrong with it.
struct Watched<'a> {
    inner: Box<dyn Read>,
    failed: Option<io::Error>,
    sent: u64,
    told: u64,
    tell: &'a dyn Fn(u64),
}

impl Read for Watched<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buf) {
            Ok(count) => {
                self.sent += count as u64;
                if self.sent - self.told >= PROGRESS_STEP {
                    self.told = self.sent;
                    (self.tell)(self.sent);
                }
                Ok(count)
            }
            Err(error) => {
                let kind = error.kind();
                self.failed = Some(error);
                Err(kind.into())
            }
        }
    }
}

/// Gives a repository a manifest; under a tag, or under its digest.
pub(crate) fn push_manifest(
    endpoint: &Endpoint,
    name: &str,
    media_type: &str,
    bytes: &[u8],
) -> Result<Digest, RegistryError> {
    let digest = Digest::of(bytes);
    let uri = endpoint.url(&format!("manifests/{name}"))?;
    let headers = vec![(CONTENT_TYPE, media_type.to_owned())];
    let response = endpoint.call(&Call { method: Method::PUT, uri, headers, body: bytes })?;
    if !response.status().is_success() {
        let (registry, refusal) = (endpoint.registry(), Refusal::read(response));
        return Err(refusal.into_error(&registry, name));
    }
    crate::repository::check_announced(endpoint, response.headers(), &digest)?;
    Ok(digest)
}
