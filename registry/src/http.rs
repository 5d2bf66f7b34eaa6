//! Requests to one registry and to where it sends its client: redirects, time limits, TLS.
//!
//! Redirects are followed here, not by the HTTP library, because each step needs a decision: whether
//! the place may be gone to at all (`target`), and whether the credentials go along (only to the
//! same scheme, host and port). Nothing is retried here; see `retry`.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::sync::OnceLock;

use thiserror::Error;
use ureq::http::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderName, LOCATION};
use ureq::http::{Method, Response, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, Body, SendBody};

use crate::config::{HostConfig, is_local};
use crate::retry::Patience;
use crate::target::{Guard, TargetError, authority, join, same_origin};

/// Redirects followed for one request.
const MAX_REDIRECTS: usize = 10;
/// How many times longer than usual a server may be silent after it was sent something large.
const DIGESTING: u32 = 10;
/// Bytes read from or written to a connection at once: what a TLS record can carry, and more.
const BUFFER: usize = 128 << 10;

/// Why a request had no response.
#[derive(Debug, Error)]
pub enum HttpError {
    /// It would have gone where requests do not go.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Redirects without end.
    #[error("{0} redirects without end")]
    Redirects(String),
    /// The server's certificate is not trusted.
    #[error(
        "the certificate of {host} is not trusted; if it is of a private CA, name that in registries.toml"
    )]
    Certificate {
        /// The server.
        host: String,
        /// What is wrong with it.
        source: Cause,
    },
    /// No connection, or one that broke.
    #[error("cannot reach {host}")]
    Transport {
        /// The server.
        host: String,
        /// What happened.
        source: Cause,
    },
    /// It cannot be written as HTTP.
    #[error("request cannot be expressed")]
    Request(#[from] ureq::http::Error),
    /// A CA that is named in the settings cannot be used.
    #[error("cannot use the CA certificates in {}", path.display())]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing to check a server's certificate against.
    #[error("this system has no CA certificates; install the package ca-certificates")]
    NoRoots,
}

impl HttpError {
    fn transport(uri: &Uri, error: ureq::Error) -> Self {
        let host = authority(uri);
        match error {
            ureq::Error::Other(other) => match other.downcast::<TargetError>() {
                Ok(error) => Self::Target(*error),
                Err(other) => {
                    Self::Transport { host, source: Cause::of(ureq::Error::Other(other)) }
                }
            },
            error if is_certificate(&error) => Self::Certificate { host, source: Cause::of(error) },
            error => Self::Transport { host, source: Cause::of(error) },
        }
    }
}

/// What went wrong, in the system's words where it is the system's error.
#[derive(Debug)]
pub struct Cause(Box<ureq::Error>);

impl Cause {
    fn of(error: ureq::Error) -> Self {
        Self(Box::new(error))
    }

    pub(crate) fn error(&self) -> &ureq::Error {
        &self.0
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            ureq::Error::Io(error) => error.fmt(f),
            error => error.fmt(f),
        }
    }
}

impl std::error::Error for Cause {}

fn is_certificate(error: &ureq::Error) -> bool {
    let invalid = |error: &rustls::Error| matches!(error, rustls::Error::InvalidCertificate(_));
    match error {
        ureq::Error::Rustls(error) => invalid(error),
        ureq::Error::Io(error) => {
            error.get_ref().and_then(|error| error.downcast_ref()).is_some_and(invalid)
        }
        _ => false,
    }
}

/// A request; its credentials are for the server of `uri` alone.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: Vec<(HeaderName, String)>,
    pub(crate) authorization: Option<String>,
    /// And its length in bytes.
    pub(crate) body: Option<(&'a mut dyn Read, u64)>,
}

impl Request<'_> {
    pub(crate) fn get(uri: Uri) -> Self {
        Self { method: Method::GET, uri, headers: Vec::new(), authorization: None, body: None }
    }
}

/// Sends requests on behalf of one registry.
#[derive(Debug)]
pub(crate) struct Http {
    base: Uri,
    config: HostConfig,
    patience: Patience,
    guard: Guard,
    direct: OnceLock<Agent>,
    elsewhere: OnceLock<Agent>,
}

impl Http {
    /// For the registry whose root is `base`.
    pub(crate) fn new(base: Uri, config: HostConfig, patience: Patience) -> Self {
        let guard = Guard::new(&authority(&base));
        let (direct, elsewhere) = (OnceLock::new(), OnceLock::new());
        Self { base, config, patience, guard, direct, elsewhere }
    }

    pub(crate) fn base(&self) -> &Uri {
        &self.base
    }

    /// Whether a URL is of the registry itself.
    pub(crate) fn is_own(&self, uri: &Uri) -> bool {
        same_origin(&self.base, uri)
    }

    /// The URL that the registry means by a reference in a response from `from`.
    pub(crate) fn join(&self, from: &Uri, reference: &str) -> Result<Uri, TargetError> {
        let malformed = || TargetError::Malformed { registry: authority(&self.base) };
        join(from, reference).ok_or_else(malformed)
    }

    /// Sends a request and follows redirects of those without a body. A response with an error
    /// status is a response.
    pub(crate) fn send(&self, mut request: Request<'_>) -> Result<Response<Body>, HttpError> {
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send_once(&mut request)?;
            let follows = matches!(request.method, Method::GET | Method::HEAD);
            let status = response.status().as_u16();
            if !follows || !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return Ok(response);
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let next = self.join(&request.uri, location.unwrap_or_default())?;
            if !same_origin(&request.uri, &next) {
                request.authorization = None;
            }
            request.uri = next;
        }
        Err(HttpError::Redirects(authority(&self.base)))
    }

    fn send_once(&self, request: &mut Request<'_>) -> Result<Response<Body>, HttpError> {
        let uri = &request.uri;
        let agent = if self.is_own(uri) {
            self.direct()?
        } else {
            self.check_elsewhere(uri)?;
            self.elsewhere()?
        };
        let mut builder =
            ureq::http::Request::builder().method(request.method.clone()).uri(uri.clone());
        for (name, value) in &request.headers {
            builder = builder.header(name, value);
        }
        if let Some(authorization) = &request.authorization {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        let sent = match &mut request.body {
            Some((body, length)) => {
                let body = SendBody::from_reader(*body);
                let request = builder.header(CONTENT_LENGTH, *length).body(body)?;
                let silence = Some(self.patience.stall.saturating_mul(DIGESTING));
                let request = agent.configure_request(request);
                let request = request.timeout_recv_response(silence).timeout_per_read(silence);
                agent.run(request.build())
            }
            None => agent.run(builder.body(())?),
        };
        sent.map_err(|error| HttpError::transport(uri, error))
    }

    fn check_elsewhere(&self, uri: &Uri) -> Result<(), TargetError> {
        let plain = |uri: &Uri| uri.scheme_str() == Some("http");
        if plain(uri) && !plain(&self.base) && !is_local(&authority(uri)) {
            let (registry, host) = (authority(&self.base), authority(uri));
            return Err(TargetError::Plain { registry, host });
        }
        self.guard.check_literal(uri)
    }

    fn direct(&self) -> Result<&Agent, HttpError> {
        if let Some(agent) = self.direct.get() {
            return Ok(agent);
        }
        let roots =
            if self.base.scheme_str() == Some("https") { self.roots()? } else { Vec::new() };
        Ok(self.direct.get_or_init(|| {
            let local = is_local(&authority(&self.base));
            let config = self.agent_config(roots, local);
            Agent::with_parts(config, DefaultConnector::new(), DefaultResolver::default())
        }))
    }

    fn elsewhere(&self) -> Result<&Agent, HttpError> {
        if let Some(agent) = self.elsewhere.get() {
            return Ok(agent);
        }
        // A plain registry may have nothing to do with TLS.
        let roots = match self.roots() {
            Err(HttpError::NoRoots) if self.base.scheme_str() == Some("http") => Vec::new(),
            roots => roots?,
        };
        Ok(self.elsewhere.get_or_init(|| {
            let config = self.agent_config(roots, false);
            let guard = Guard::new(&authority(&self.base));
            Agent::with_parts(config, DefaultConnector::new(), guard)
        }))
    }

    fn agent_config(&self, roots: Vec<Certificate<'static>>, local: bool) -> ureq::config::Config {
        // Only the first of a process is taken; they are all the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots)).build();
        let stall = Some(self.patience.stall);
        let mut builder = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("vmrun/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .timeout_resolve(stall)
            .timeout_connect(stall)
            .timeout_recv_response(stall)
            .timeout_per_read(stall)
            .timeout_per_write(stall)
            .tls_config(tls);
        if local {
            builder = builder.proxy(None);
        }
        builder.build()
    }

    /// What servers' certificates are checked against: the system's CAs and the configured one.
    fn roots(&self) -> Result<Vec<Certificate<'static>>, HttpError> {
        let system = rustls_native_certs::load_native_certs().certs;
        let mut roots: Vec<_> =
            system.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        if let Some(path) = &self.config.ca {
            roots.extend(read_ca(path)?);
        }
        if roots.is_empty() { Err(HttpError::NoRoots) } else { Ok(roots) }
    }
}

fn read_ca(path: &PathBuf) -> Result<Vec<Certificate<'static>>, HttpError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| HttpError::Ca {
        path: path.clone(),
        source,
    };
    let text = std::fs::read(path).map_err(|error| failed(error.into()))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|error| failed(error.into()))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(failed("no certificate in it".into()));
    }
    Ok(certificates)
}
