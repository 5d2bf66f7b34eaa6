//! One repository at one registry: requests with credentials and retries, and reading small answers.

use std::io::Read;
use std::thread;
use std::time::Duration;

use image_store::Digest;
use ureq::Body;
use ureq::http::header::{ACCEPT, CONTENT_LENGTH, HeaderName};
use ureq::http::{Method, Response, Uri};

use crate::auth::Authenticator;
use crate::error::{Refusal, RegistryError};
use crate::http::{Http, Request};
use crate::pace::Paced;
use crate::retry::{Patience, passing_error, passing_status, retry_after};
use crate::target::authority;

/// What a client may do with a repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
}

/// One repository at one registry.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) http: Http,
    authenticator: Authenticator,
    /// As references name it.
    path: String,
    scope: String,
    pub(crate) patience: Patience,
}

/// A request that can be made again.
pub(crate) struct Call<'a> {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) body: &'a [u8],
}

impl Call<'_> {
    pub(crate) fn get(uri: Uri) -> Self {
        Self { method: Method::GET, uri, headers: Vec::new(), body: &[] }
    }

    pub(crate) fn accept(mut self, types: &str) -> Self {
        self.headers.push((ACCEPT, types.to_owned()));
        self
    }
}

impl Endpoint {
    pub(crate) fn new(
        http: Http,
        authenticator: Authenticator,
        path: &str,
        access: Access,
        patience: Patience,
    ) -> Self {
        let actions = if access == Access::Pull { "pull" } else { "pull,push" };
        let scope = format!("repository:{path}:{actions}");
        Self { http, authenticator, path: path.to_owned(), scope, patience }
    }

    /// For what is not of a repository.
    pub(crate) fn of_registry(
        http: Http,
        authenticator: Authenticator,
        patience: Patience,
    ) -> Self {
        Self { http, authenticator, path: String::new(), scope: String::new(), patience }
    }

    /// The registry, as messages name it.
    pub(crate) fn registry(&self) -> String {
        authority(self.http.base())
    }

    /// A URL of this repository. `rest` is of characters that a URL may have.
    pub(crate) fn url(&self, rest: &str) -> Result<Uri, RegistryError> {
        self.api(&format!("{}/{rest}", self.path))
    }

    /// A URL of the registry's API.
    pub(crate) fn api(&self, rest: &str) -> Result<Uri, RegistryError> {
        let joined = self.http.join(self.http.base(), &format!("/v2/{rest}"));
        Ok(joined.map_err(crate::http::HttpError::from)?)
    }

    /// Sends a request until it has an answer that is not of a passing fault.
    pub(crate) fn call(&self, call: &Call<'_>) -> Result<Response<Body>, RegistryError> {
        self.patiently(|| self.call_once(call))
    }

    /// Does something until it works, or fails for good, or patience ends.
    pub(crate) fn patiently(
        &self,
        mut act: impl FnMut() -> Result<Response<Body>, RegistryError>,
    ) -> Result<Response<Body>, RegistryError> {
        let mut failures = 0;
        loop {
            let result = act();
            failures += 1;
            let delay = passing(&result).and_then(|asked| self.patience.delay(failures, asked));
            match delay {
                Some(delay) => thread::sleep(delay),
                None => return result,
            }
        }
    }

    pub(crate) fn call_once(&self, call: &Call<'_>) -> Result<Response<Body>, RegistryError> {
        self.authorised(&call.uri, |authorization| {
            let mut body = call.body;
            let mut headers = call.headers.clone();
            let sends = matches!(call.method, Method::POST | Method::PUT);
            if sends && call.body.is_empty() {
                headers.push((CONTENT_LENGTH, "0".to_owned()));
            }
            let length = call.body.len() as u64;
            Ok(self.http.send(Request {
                method: call.method.clone(),
                uri: call.uri.clone(),
                headers,
                authorization,
                body: (length > 0).then_some((&mut body, length)),
            })?)
        })
    }

    /// Sends a request, with what is known to be good for a URL, and once more where the registry
    /// asks for credentials. Nothing is shown to another server than the registry.
    pub(crate) fn authorised(
        &self,
        uri: &Uri,
        mut send: impl FnMut(Option<String>) -> Result<Response<Body>, RegistryError>,
    ) -> Result<Response<Body>, RegistryError> {
        if !self.http.is_own(uri) {
            return send(None);
        }
        let response = send(self.authenticator.header(&self.scope))?;
        if response.status().as_u16() != 401 {
            return Ok(response);
        }
        match self.authenticator.answer(&self.http, response.headers(), &self.scope)? {
            Some(authorization) => send(Some(authorization)),
            None => Ok(response),
        }
    }

    /// The response, if it is of success.
    pub(crate) fn successful(
        &self,
        response: Response<Body>,
    ) -> Result<Response<Body>, RegistryError> {
        if response.status().is_success() {
            return Ok(response);
        }
        Err(Refusal::read(response).into_error(&self.registry(), &self.path))
    }

    /// The body of a response, if it is not too long. Reading it is tried by the caller again.
    pub(crate) fn read(&self, response: Response<Body>, limit: u64) -> Result<Vec<u8>, ReadError> {
        let too_long = || {
            let what = format!("a document of more than {limit} bytes");
            ReadError::Fatal(RegistryError::answer(&self.registry(), what))
        };
        let length = response.body().content_length();
        if length.is_some_and(|length| length > limit) {
            return Err(too_long());
        }
        let mut bytes = Vec::new();
        let reader = Paced::new(response.into_body().into_reader(), self.patience);
        let read = reader.take(limit.saturating_add(1)).read_to_end(&mut bytes);
        read.map_err(ReadError::Broken)?;
        if bytes.len() as u64 > limit { Err(too_long()) } else { Ok(bytes) }
    }

    /// Makes a request and reads its answer, both again where a passing fault came between.
    pub(crate) fn fetch(
        &self,
        call: &Call<'_>,
        limit: u64,
    ) -> Result<(Vec<u8>, Response<()>), RegistryError> {
        let mut failures = 0;
        loop {
            let (head, body) = self.successful(self.call(call)?)?.into_parts();
            match self.read(Response::new(body), limit) {
                Ok(bytes) => return Ok((bytes, Response::from_parts(head, ()))),
                Err(ReadError::Fatal(error)) => return Err(error),
                Err(ReadError::Broken(error)) => {
                    failures += 1;
                    let delay = self.patience.delay(failures, None);
                    thread::sleep(delay.ok_or_else(|| {
                        RegistryError::answer(&self.registry(), format!("half a document: {error}"))
                    })?);
                }
            }
        }
    }

    /// Refuses content that is not what a digest names.
    pub(crate) fn verify(&self, bytes: &[u8], expected: &Digest) -> Result<(), RegistryError> {
        let found = Digest::of(bytes);
        if found == *expected {
            return Ok(());
        }
        Err(RegistryError::Digest { registry: self.registry(), expected: *expected, found })
    }
}

/// Whether trying again may help, and how long the registry asks to wait.
pub(crate) fn passing(result: &Result<Response<Body>, RegistryError>) -> Option<Option<Duration>> {
    match result {
        Ok(response) if passing_status(response.status()) => Some(retry_after(response.headers())),
        Err(RegistryError::Http(error)) if passing_error(error) => Some(None),
        _ => None,
    }
}

/// Why a body was not read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// It broke off, or stalled.
    Broken(std::io::Error),
    Fatal(RegistryError),
}
