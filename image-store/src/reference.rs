//! Image references, read and shown by Docker's rules: `name[:tag][@digest]`, where a name
//! without a registry belongs to Docker's own, and one without a tag means `latest`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;

use crate::digest::{Digest, DigestError};

/// The registry that a name without one belongs to; part of every full name Docker writes.
const DEFAULT_DOMAIN: &str = "docker.io";
/// An older spelling of the same.
const LEGACY_DEFAULT_DOMAIN: &str = "index.docker.io";
/// The folder there that a name without a slash belongs to.
const OFFICIAL: &str = "library/";
/// The tag meant by a name without tag and digest.
const DEFAULT_TAG: &str = "latest";
/// Longest name (registry and path) in bytes.
const MAX_NAME: usize = 255;
/// Longest tag in bytes.
const MAX_TAG: usize = 128;

/// Why a string is not a reference.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReferenceError {
    /// The grammar does not allow it.
    #[error("invalid reference format")]
    Format,
    /// As above, and lower case would help.
    #[error("invalid reference format: repository name must be lowercase")]
    Uppercase,
    /// 64 hex digits are an image id.
    #[error("invalid repository name: 64 hex digits are an image id")]
    LooksLikeId,
    /// Registry and path are too long.
    #[error("repository name must not be more than {MAX_NAME} characters")]
    TooLong,
    /// What follows the `@` is not a digest.
    #[error("invalid digest")]
    Digest(#[from] DigestError),
}

/// A name of an image, in full: `registry/path[:tag][@digest]`. `Display` gives the full form,
/// [`Reference::familiar`] the one that people type.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// The registry: `host` or `host:port`.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository at its registry.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The same repository with that tag alone.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::Format);
        }
        Ok(Self { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository with that digest alone.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Registry and path: what tags belong to.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The tag, if it has one.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if it has one.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same with the tag `latest` if it has neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some(DEFAULT_TAG.to_owned());
        }
        self
    }

    /// The repository as people type it: without the default registry and folder.
    #[must_use]
    pub fn familiar_repository(&self) -> String {
        // Without its registry, a path whose first part looks like one would be read as that.
        let first = self.path.split_once('/').map(|(first, _)| first);
        if self.domain != DEFAULT_DOMAIN || first.is_some_and(is_registry) {
            return self.repository();
        }
        match self.path.strip_prefix(OFFICIAL) {
            // Neither `docker.io/library/a/b` without its folder nor what would be an id then is read
            // back as itself.
            Some(rest) if is_id(rest) => self.repository(),
            Some(rest) if !rest.contains('/') => rest.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The whole as people type it.
    #[must_use]
    pub fn familiar(&self) -> String {
        self.with_name(self.familiar_repository())
    }

    fn with_name(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text = format!("{text}:{tag}");
        }
        if let Some(digest) = &self.digest {
            text = format!("{text}@{digest}");
        }
        text
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        if is_id(text) {
            return Err(ReferenceError::LooksLikeId);
        }
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse()?)),
            None => (text, None),
        };
        let (name, tag) = match rest.rsplit_once(':') {
            // A colon before a slash is that of a port.
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Format);
        }
        let (domain, path) = split_domain(name);
        if path.chars().any(|c| c.is_ascii_uppercase()) {
            return Err(ReferenceError::Uppercase);
        }
        if !is_domain(&domain) || !path.split('/').all(is_path_component) {
            return Err(ReferenceError::Format);
        }
        if domain.len() + 1 + path.len() > MAX_NAME {
            return Err(ReferenceError::TooLong);
        }
        Ok(Self { domain, path, tag: tag.map(str::to_owned), digest })
    }
}

/// Splits the registry off a name: the first part is one if it has a dot or a colon, is
/// `localhost`, or has an upper-case letter, which no path may have.
fn split_domain(name: &str) -> (String, String) {
    let (domain, path) = match name.split_once('/') {
        Some((LEGACY_DEFAULT_DOMAIN, path)) => (DEFAULT_DOMAIN, path),
        Some((first, path)) if is_registry(first) => (first, path),
        _ => (DEFAULT_DOMAIN, name),
    };
    if domain == DEFAULT_DOMAIN && !path.contains('/') {
        return (domain.to_owned(), format!("{OFFICIAL}{path}"));
    }
    (domain.to_owned(), path.to_owned())
}

fn is_id(text: &str) -> bool {
    text.len() == 64 && Digest::from_hex(text).is_ok()
}

fn is_registry(part: &str) -> bool {
    part.contains(['.', ':']) || part == "localhost" || part.chars().any(|c| c.is_ascii_uppercase())
}

/// `[\w][\w.-]{0,127}`
fn is_tag(tag: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    tag.len() <= MAX_TAG
        && tag.starts_with(word)
        && tag.chars().all(|c| word(c) || c == '.' || c == '-')
}

/// A host name or a bracketed IPv6 address, with an optional port.
fn is_domain(domain: &str) -> bool {
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (domain, None),
    };
    if port.is_some_and(|port| port.is_empty() || !port.chars().all(|c| c.is_ascii_digit())) {
        return false;
    }
    if let Some(address) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return !address.is_empty() && address.chars().all(|c| c.is_ascii_hexdigit() || c == ':');
    }
    host.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
    })
}

/// Runs of `[a-z0-9]` with one of `.`, `_`, `__` or any number of `-` between two of them.
fn is_path_component(component: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    component.starts_with(is_word)
        && component.ends_with(is_word)
        && component.split(is_word).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.chars().all(|c| c == '-')
        })
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_name(self.repository()))
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Reference {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(text: &str) -> String {
        text.parse::<Reference>().expect(text).or_latest().to_string()
    }

    #[test]
    fn short_names_get_dockers_defaults() {
        assert_eq!(full("alpine"), "docker.io/library/alpine:latest");
        assert_eq!(full("alpine:3"), "docker.io/library/alpine:3");
        assert_eq!(full("me/tool"), "docker.io/me/tool:latest");
        assert_eq!(full("index.docker.io/tool"), "docker.io/library/tool:latest");
        assert_eq!(full("localhost/tool"), "localhost/tool:latest");
        assert_eq!(full("host:5000/tool:v1"), "host:5000/tool:v1");
        assert_eq!(full("registry.example/a/b"), "registry.example/a/b:latest");
        assert_eq!(full("[::1]:5000/a"), "[::1]:5000/a:latest");
        assert_eq!(full("Upper/tool"), "Upper/tool:latest");
    }

    #[test]
    fn familiar_form_reads_back_as_the_same_reference() {
        let digest = Digest::of(b"");
        for (text, familiar) in [
            ("docker.io/library/alpine:latest", "alpine:latest"),
            ("docker.io/me/tool:1", "me/tool:1"),
            ("docker.io/library/a/b:1", "library/a/b:1"),
            ("registry.example/library/a:1", "registry.example/library/a:1"),
            ("docker.io/registry.example/a:1", "docker.io/registry.example/a:1"),
            (&format!("docker.io/library/a@{digest}"), &format!("a@{digest}")),
        ] {
            let reference: Reference = text.parse().unwrap();
            assert_eq!(reference.familiar(), familiar);
            assert_eq!(familiar.parse::<Reference>(), Ok(reference));
        }
    }

    #[test]
    fn names_that_docker_refuses_are_refused() {
        for text in [
            "", ":", "a:", ":a", "/a", "a/", "a//b", "-a", "a-", "a..b", "a___b", "a_.b", "a b",
            "a:b:c", "host:/a", "host:x/a", "a:-b", "a@", "ä", "..", "../a", ".host./a", "a\0",
        ] {
            assert!(text.parse::<Reference>().is_err(), "{text:?}");
        }
        assert_eq!("Alpine".parse::<Reference>(), Err(ReferenceError::Uppercase));
        assert_eq!("0".repeat(64).parse::<Reference>(), Err(ReferenceError::LooksLikeId));
        assert_eq!("a".repeat(300).parse::<Reference>(), Err(ReferenceError::TooLong));
        assert!(format!("a:{}", "b".repeat(129)).parse::<Reference>().is_err());
    }

    #[test]
    fn separators_inside_a_name_are_kept() {
        assert_eq!(full("a-b--c__d.e_f"), "docker.io/library/a-b--c__d.e_f:latest");
    }
}
