//! Why a registry did not do what it was asked.

use std::io::Read;

use image_store::Digest;
use serde::Deserialize;
use thiserror::Error;
use ureq::Body;
use ureq::http::{Response, StatusCode};

use crate::credentials::CredentialError;
use crate::http::HttpError;

/// Bytes of an error response that are looked at.
const MAX_ERROR: u64 = 64 << 10;
/// Characters of a registry's words that are shown.
const MAX_WORDS: usize = 300;

/// Why a registry did not do what it was asked. Messages name the registry or the content at fault;
/// words of the registry in them are free of control characters and short.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// No response.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// What should be one is none.
    #[error("{0:?} is not a URL")]
    Url(String),
    /// The user's credentials cannot be had.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The registry wants to know who is asking, or knows and refuses.
    #[error("{registry} refuses access: {words}")]
    Denied {
        /// The registry.
        registry: String,
        /// What it says.
        words: String,
    },
    /// The credentials are wrong.
    #[error("{registry} does not accept the user name and password: {words}")]
    Login {
        /// The registry, or the server that gives its tokens.
        registry: String,
        /// What it says.
        words: String,
    },
    /// No such tag or digest.
    #[error("manifest not found: {words}")]
    ManifestUnknown {
        /// What the registry says.
        words: String,
    },
    /// No such repository.
    #[error("repository {repository} not found: {words}")]
    NameUnknown {
        /// As asked for.
        repository: String,
        /// What the registry says.
        words: String,
    },
    /// Another refusal.
    #[error("{registry} answered {status}: {words}")]
    Status {
        /// The registry.
        registry: String,
        /// The status of its response.
        status: u16,
        /// What it says.
        words: String,
    },
    /// An answer that makes no sense.
    #[error("{registry} sent {what}")]
    Answer {
        /// The registry.
        registry: String,
        /// What is wrong with it.
        what: String,
    },
    /// Content other than what was asked for (threats.md row 13).
    #[error("{registry} sent content with digest {found} instead of {expected}")]
    Digest {
        /// The registry.
        registry: String,
        /// Asked for, or announced.
        expected: Digest,
        /// Of what came.
        found: Digest,
    },
    /// What is to be pushed cannot be read.
    #[error("cannot read blob {digest}")]
    Local {
        /// Which.
        digest: Digest,
        /// Why.
        source: std::io::Error,
    },
}

impl RegistryError {
    pub(crate) fn answer(registry: &str, what: impl Into<String>) -> Self {
        Self::Answer { registry: registry.to_owned(), what: what.into() }
    }
}

/// The error document of the distribution specification.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Errors {
    errors: Vec<Detail>,
    /// Token servers have this instead.
    details: String,
    error_description: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    code: String,
    message: String,
}

/// An error response, read.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    code: String,
    pub(crate) words: String,
}

impl Refusal {
    pub(crate) fn read(response: Response<Body>) -> Self {
        let status = response.status();
        let mut text = Vec::new();
        // A body that breaks off says as much as one that is empty.
        let _ = response.into_body().into_reader().take(MAX_ERROR).read_to_end(&mut text);
        let errors: Errors = serde_json::from_slice(&text).unwrap_or_default();
        let first = errors.errors.into_iter().next().unwrap_or_default();
        let plain = [first.message, errors.error_description, errors.details];
        let message = plain.into_iter().find(|text| !text.is_empty());
        let words = match (first.code.is_empty(), message) {
            (false, Some(message)) => {
                format!("{}: {message}", first.code.to_lowercase().replace('_', " "))
            }
            (true, Some(message)) => message,
            (false, None) => first.code.to_lowercase(),
            (true, None) => status.canonical_reason().unwrap_or("no reason given").to_lowercase(),
        };
        Self { status, code: first.code, words: printable(&words) }
    }

    /// As an error of a request to a repository of a registry.
    pub(crate) fn into_error(self, registry: &str, repository: &str) -> RegistryError {
        let (registry, words) = (registry.to_owned(), self.words);
        match (self.status.as_u16(), self.code.as_str()) {
            (401 | 403, _) | (_, "DENIED" | "UNAUTHORIZED") => {
                RegistryError::Denied { registry, words }
            }
            (404, "NAME_UNKNOWN") => {
                RegistryError::NameUnknown { repository: repository.to_owned(), words }
            }
            (404, "MANIFEST_UNKNOWN" | "NOT_FOUND") => RegistryError::ManifestUnknown { words },
            (status, _) => RegistryError::Status { registry, status, words },
        }
    }
}

/// A stranger's words, fit for a terminal.
pub(crate) fn printable(text: &str) -> String {
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    visible.take(MAX_WORDS).collect::<String>().trim().to_owned()
}
