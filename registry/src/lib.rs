//! A client of image registries: the OCI distribution specification, the logins of its users, and
//! how to live with registries that are far away, overloaded or hostile. It knows nothing of what is
//! in an image, of VMs, or of the command line.
//!
//! [`Registries`] is what a command has; [`Repository`] is what it asks for manifests and blobs, and
//! gives some. Everything blocks; a [`Repository`] may be used by several threads, each of which has
//! a connection of its own. HTTP is 1.1, by `ureq`: one request at a time a connection is what a
//! stream of layers needs, and nothing of an async runtime is in the way of a thread that
//! decompresses what it reads.
//!
//! ```text
//! config       registries.toml             credentials  login files and helpers
//! repository   what may be asked           auth         challenges answered, tokens
//!   blob         a stream that resumes     challenge    WWW-Authenticate
//!   upload       a blob, sent
//! download     a file by its URL
//! endpoint     a request with login and retries
//!   retry, pace  what is tried again, what is a stall
//!   http         one request: redirects, time limits, TLS
//!     target       where requests may go
//! ```
//!
//! # What a registry may do
//!
//! Send what it likes, and nothing of it is believed: digests are verified by whoever wanted the
//! content, sizes are those that were asked for, documents end at 4 MiB. Send its client elsewhere,
//! but neither to this machine nor its neighbours, unless it is there itself, and without the
//! user's credentials. Take its time, within limits. Its words reach the user without control
//! characters. Threats.md rows 13–18.

#![forbid(unsafe_code)]

mod auth;
mod blob;
mod challenge;
mod config;
mod credentials;
mod download;
mod endpoint;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod http;
mod pace;
mod repository;
mod retry;
mod target;
#[cfg(test)]
mod tests;
mod upload;

pub use blob::Blob;
pub use config::{Config, ConfigError};
pub use credentials::{Credential, CredentialError, Credentials, Kept};
pub use download::Download;
pub use error::RegistryError;
pub use http::{Cause, HttpError};
pub use repository::{Manifest, Repository};
pub use target::TargetError;
pub use upload::{Pushed, Upload};

use image_store::Reference;
use ureq::http::Uri;

use crate::auth::Authenticator;
use crate::endpoint::{Access, Call, Endpoint};
use crate::http::Http;
use crate::retry::Patience;

/// The registry that references without one belong to.
const DEFAULT: &str = "docker.io";
/// Where it serves images.
const DEFAULT_HOST: &str = "registry-1.docker.io";

/// All registries, as this user sees them.
#[derive(Debug)]
pub struct Registries {
    config: Config,
    credentials: Credentials,
    patience: Patience,
}

impl Registries {
    /// By the user's settings and logins.
    #[must_use]
    pub fn new(config: Config, credentials: Credentials) -> Self {
        Self { config, credentials, patience: Patience::DEFAULT }
    }

    /// The repository of a reference, to pull from.
    pub fn to_pull(&self, reference: &Reference) -> Result<Repository, RegistryError> {
        let mirrors = self.config.host(reference.domain()).mirrors;
        let hosts = mirrors.iter().map(String::as_str).chain([reference.domain()]);
        let endpoints = hosts.map(|host| self.endpoint(host, reference.path(), Access::Pull));
        Ok(Repository::new(endpoints.collect::<Result<_, _>>()?))
    }

    /// The repository of a reference, to push to.
    pub fn to_push(&self, reference: &Reference) -> Result<Repository, RegistryError> {
        let own = self.endpoint(reference.domain(), reference.path(), Access::Push)?;
        Ok(Repository::new(vec![own]))
    }

    /// Whether a registry accepts these credentials.
    pub fn check(&self, host: &str, credential: &Credential) -> Result<(), RegistryError> {
        let authenticator = Authenticator::with(credential.clone());
        let endpoint = Endpoint::of_registry(self.http(host)?, authenticator, self.patience);
        let response = endpoint.call(&Call::get(endpoint.api("")?))?;
        match endpoint.successful(response) {
            Ok(_) => Ok(()),
            Err(RegistryError::Denied { registry, words }) => {
                Err(RegistryError::Login { registry, words })
            }
            Err(error) => Err(error),
        }
    }

    fn endpoint(&self, host: &str, path: &str, access: Access) -> Result<Endpoint, RegistryError> {
        let authenticator = Authenticator::new(self.credentials.clone(), host, path);
        Ok(Endpoint::new(self.http(host)?, authenticator, path, access, self.patience))
    }

    fn http(&self, host: &str) -> Result<Http, RegistryError> {
        let scheme = if self.config.is_plain(host) { "http" } else { "https" };
        let address = if host == DEFAULT { DEFAULT_HOST } else { host };
        let base: Result<Uri, _> = format!("{scheme}://{address}").parse();
        let base = base.map_err(|_| RegistryError::answer(host, "a name that is no host"))?;
        Ok(Http::new(base, self.config.host(host), self.patience))
    }
}
