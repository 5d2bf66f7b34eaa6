//! Reading a blob: where the stream breaks it goes on where it stopped, from the next mirror if one
//! has failed for good. Its digest is for the reader to verify, over the whole.

use std::io::{self, Read};
use std::thread;

use image_store::Digest;
use ureq::http::header::{CONTENT_RANGE, RANGE};
use ureq::http::{HeaderMap, Response};
use ureq::{Body, BodyReader};

use crate::endpoint::{Call, Endpoint, passing};
use crate::error::RegistryError;
use crate::pace::Paced;

/// The bytes of a blob: as many as its descriptor says, or an error.
pub struct Blob<'a> {
    endpoints: std::slice::Iter<'a, Endpoint>,
    /// The one that is read from.
    endpoint: &'a Endpoint,
    digest: Digest,
    size: u64,
    position: u64,
    body: Option<Paced<BodyReader<'static>>>,
    /// Failures since the last that was followed by enough bytes.
    failures: u32,
    /// Bytes since the last failure.
    since: u64,
}

impl std::fmt::Debug for Blob<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = f.debug_struct("Blob");
        shown.field("digest", &self.digest).field("position", &self.position);
        shown.field("size", &self.size).finish_non_exhaustive()
    }
}

impl<'a> Blob<'a> {
    /// Opens a blob of `size` bytes at the first of the endpoints that has it.
    pub(crate) fn open(
        endpoints: &'a [Endpoint],
        digest: Digest,
        size: u64,
    ) -> Result<Self, RegistryError> {
        let mut rest = endpoints.iter();
        let Some(endpoint) = rest.next() else {
            return Err(RegistryError::answer("no registry", "nothing"));
        };
        let mut blob = Self {
            endpoints: rest,
            endpoint,
            digest,
            size,
            position: 0,
            body: None,
            failures: 0,
            since: 0,
        };
        blob.connect()?;
        Ok(blob)
    }

    /// Gets a stream that begins at the position.
    fn connect(&mut self) -> Result<(), RegistryError> {
        loop {
            let result = self.request();
            let asked = passing(&result);
            let error = match result.and_then(|response| self.endpoint.successful(response)) {
                Ok(response) => match self.accept(response) {
                    Ok(Some(body)) => {
                        self.body = Some(body);
                        return Ok(());
                    }
                    Ok(None) => RegistryError::answer(&self.endpoint.registry(), "half a blob"),
                    Err(error) => {
                        self.next_endpoint(error)?;
                        continue;
                    }
                },
                Err(error) if asked.is_none() => {
                    self.next_endpoint(error)?;
                    continue;
                }
                Err(error) => error,
            };
            self.failed(asked.flatten(), error)?;
        }
    }

    fn request(&self) -> Result<Response<Body>, RegistryError> {
        let mut call = Call::get(self.endpoint.url(&format!("blobs/{}", self.digest))?);
        if self.position > 0 {
            call.headers.push((RANGE, format!("bytes={}-", self.position)));
        }
        self.endpoint.call_once(&call)
    }

    /// The body of a response, from the position on; `None` if it broke off before that.
    fn accept(
        &self,
        response: Response<Body>,
    ) -> Result<Option<Paced<BodyReader<'static>>>, RegistryError> {
        let wrong = |what| Err(RegistryError::answer(&self.endpoint.registry(), what));
        let length = response.body().content_length();
        let (left, skip) = match response.status().as_u16() {
            206 if self.position > 0 => {
                if range_start(response.headers()) != Some(self.position) {
                    return wrong(format!("another part of blob {} than asked for", self.digest));
                }
                (self.size - self.position, 0)
            }
            _ => (self.size, self.position),
        };
        if let Some(length) = length.filter(|length| *length != left) {
            let digest = self.digest;
            return wrong(format!("{length} bytes for blob {digest}, where {left} are left of it"));
        }
        let mut body = Paced::new(response.into_body().into_reader(), self.endpoint.patience);
        let skipped = io::copy(&mut (&mut body).take(skip), &mut io::sink());
        Ok(skipped.is_ok_and(|count| count == skip).then_some(body))
    }

    /// Waits, or gives the error back where that has no use any more.
    fn failed(
        &mut self,
        asked: Option<std::time::Duration>,
        error: RegistryError,
    ) -> Result<(), RegistryError> {
        if self.since >= self.endpoint.patience.least {
            self.failures = 0;
        }
        self.since = 0;
        self.failures += 1;
        match self.endpoint.patience.delay(self.failures, asked) {
            Some(delay) => thread::sleep(delay),
            None => self.next_endpoint(error)?,
        }
        Ok(())
    }

    fn next_endpoint(&mut self, error: RegistryError) -> Result<(), RegistryError> {
        self.endpoint = self.endpoints.next().ok_or(error)?;
        self.failures = 0;
        Ok(())
    }
}

impl Read for Blob<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.position).unwrap_or(usize::MAX);
        let want = buf.len().min(left);
        let buf = buf.get_mut(..want).unwrap_or_default();
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            if self.body.is_none() {
                self.connect().map_err(io::Error::other)?;
            }
            let Some(body) = &mut self.body else { continue };
            let what = match body.read(buf) {
                Ok(0) => "it ended early".to_owned(),
                Ok(count) => {
                    self.position += count as u64;
                    self.since += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => error.to_string(),
            };
            self.body = None;
            let what = format!("{} of {} bytes of a blob: {what}", self.position, self.size);
            let error = RegistryError::answer(&self.endpoint.registry(), what);
            self.failed(None, error).map_err(io::Error::other)?;
        }
    }
}

/// Where the part begins that a response has (RFC 9110 §14.4).
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    range.split_once('-')?.0.trim().parse().ok()
}
