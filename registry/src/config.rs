//! `registries.toml`: what the user says of registries. A registry without an entry is reached by
//! https with the system's certificates.
//!
//! ```toml
//! [registry."images.lan:5000"]
//! plain-http = true                     # no TLS, as for localhost without an entry
//!
//! [registry."images.example"]
//! ca = "/etc/ssl/example-ca.pem"        # trusted for this host besides the system's
//! mirrors = ["mirror.example"]          # asked first, in this order, when pulling
//! ```
//!
//! A mirror has the same repositories under the same paths; it may have an entry of its own. Which
//! image a tag means is the mirror's word; content is verified by digest all the same.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

/// Why the settings cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not what it should be.
    #[error("cannot understand {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A host in it that is none.
    #[error("{host:?} in {} is not a registry: write HOST or HOST:PORT", path.display())]
    Host {
        /// As written.
        host: String,
        /// The file.
        path: PathBuf,
    },
}

/// What the user says of registries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    #[serde(default)]
    registry: BTreeMap<String, HostConfig>,
}

/// What the user says of one registry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(crate) struct HostConfig {
    pub(crate) plain_http: Option<bool>,
    pub(crate) ca: Option<PathBuf>,
    pub(crate) mirrors: Vec<String>,
}

impl Config {
    /// Reads the file; one that is absent says nothing.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|source| ConfigError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let mirrors = config.registry.values().flat_map(|host| &host.mirrors);
        match config.registry.keys().chain(mirrors).find(|host| !is_host(host)) {
            Some(host) => Err(ConfigError::Host { host: host.to_owned(), path: path.to_owned() }),
            None => Ok(config),
        }
    }

    /// What is said of a host; the default where nothing is.
    pub(crate) fn host(&self, host: &str) -> HostConfig {
        self.registry.get(host).cloned().unwrap_or_default()
    }

    /// Whether a host (`name` or `name:port`) may be spoken to without TLS.
    pub(crate) fn is_plain(&self, host: &str) -> bool {
        let config = self.host(host);
        config.plain_http.unwrap_or_else(|| is_local(host) && config.ca.is_none())
    }
}

/// `name` or `name:port`, and nothing else of a URL.
fn is_host(host: &str) -> bool {
    !host.is_empty()
        && host
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']'))
}

/// Whether a host (`name` or `name:port`) is this machine by its name alone.
pub(crate) fn is_local(host: &str) -> bool {
    let name = host_name(host);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A host without its port and without an IPv6 address' brackets.
pub(crate) fn host_name(host: &str) -> &str {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    };
    name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, Path::new("registries.toml"))
    }

    #[test]
    fn hosts_are_plain_when_local_or_named_so() {
        let config = parse("[registry.\"images.lan:5000\"]\nplain-http = true").unwrap();
        for host in ["localhost", "localhost:5000", "127.0.0.1:80", "[::1]:5000", "images.lan:5000"]
        {
            assert!(config.is_plain(host), "{host}");
        }
        for host in ["images.lan", "127.0.0.1.example", "localhost.example", "[::2]", "10.0.0.1"] {
            assert!(!config.is_plain(host), "{host}");
        }
    }

    #[test]
    fn a_local_host_with_a_ca_has_tls() {
        let config = parse("[registry.localhost]\nca = \"/ca.pem\"").unwrap();
        assert!(!config.is_plain("localhost") && config.is_plain("localhost:5000"));
    }

    #[test]
    fn mistakes_are_refused_with_their_place() {
        let error = parse("[registry.\"a.example\"]\nplain-htpp = true").unwrap_err();
        let ConfigError::Parse { source, .. } = error else { panic!("{error}") };
        assert!(source.to_string().contains("plain-htpp"), "{source}");
        for host in ["https://a.example", "a.example/b", ""] {
            let error = parse(&format!("[registry.\"{host}\"]")).unwrap_err();
            assert!(matches!(error, ConfigError::Host { .. }), "{error}");
        }
        assert!(parse("[registry.\"a.example\"]\nmirrors = [\"b/c\"]").is_err());
    }

    #[test]
    fn an_absent_file_says_nothing() {
        let config = Config::read(Path::new("/nonexistent/registries.toml")).unwrap();
        assert_eq!(config, Config::default());
    }
}
