//! Where a request may go: URLs as registries write them, and the addresses behind their names.
//!
//! A registry may send its client elsewhere: by a redirect, by the location of an upload, by the
//! realm of its tokens. A hostile one would send it to services of this machine or of the cloud it
//! runs in that trust whoever can reach them. So an address of loopback or link-local kind is
//! connected to only where the registry itself is at one of that kind; the check is on what a name
//! resolved to, at the time of connecting (threats.md row 17). Behind a proxy of the user's it is
//! the proxy that resolves names, and only literal addresses are checked.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::OnceLock;

use thiserror::Error;
use ureq::config::Config as HttpConfig;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::config::host_name;

/// Longest URL that is followed.
const MAX_URL: usize = 16 << 10;

/// A registry named a place that requests do not go to.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TargetError {
    /// Not a URL.
    #[error("registry {registry} sent a malformed URL")]
    Malformed {
        /// The registry.
        registry: String,
    },
    /// Neither https nor, where that is allowed, http.
    #[error("registry {registry} sent its client to {host} without TLS")]
    Plain {
        /// The registry.
        registry: String,
        /// Where to.
        host: String,
    },
    /// This machine, or its neighbours.
    #[error("registry {registry} sent its client to {host}, which is a local address")]
    Local {
        /// The registry.
        registry: String,
        /// Where to.
        host: String,
    },
}

/// What kind of place an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    Public,
    Loopback,
    LinkLocal,
}

fn reach(address: IpAddr) -> Reach {
    let address = address.to_canonical();
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    if address.is_loopback() || address.is_unspecified() {
        Reach::Loopback
    } else if link_local || address.is_multicast() {
        Reach::LinkLocal
    } else {
        Reach::Public
    }
}

/// The places that one registry may send its client to.
#[derive(Debug)]
pub(crate) struct Guard {
    /// `name[:port]`
    registry: String,
    /// Kinds of the registry's own addresses; found out once they matter.
    own: OnceLock<Vec<Reach>>,
    inner: DefaultResolver,
}

impl Guard {
    pub(crate) fn new(registry: &str) -> Self {
        let (registry, own) = (registry.to_owned(), OnceLock::new());
        Self { registry, own, inner: DefaultResolver::default() }
    }

    fn allows(&self, address: IpAddr) -> bool {
        let kind = reach(address);
        kind == Reach::Public || self.own.get_or_init(|| self.find_own()).contains(&kind)
    }

    fn find_own(&self) -> Vec<Reach> {
        let addresses = (host_name(&self.registry), 0).to_socket_addrs();
        addresses.map_or_else(|_| Vec::new(), |found| found.map(|at| reach(at.ip())).collect())
    }

    fn local(&self, host: &str) -> TargetError {
        TargetError::Local { registry: self.registry.clone(), host: host.to_owned() }
    }

    /// Refuses a URL whose host is an address that must not be connected to.
    pub(crate) fn check_literal(&self, uri: &Uri) -> Result<(), TargetError> {
        let host = uri.host().unwrap_or_default();
        match host_name(host).parse::<IpAddr>() {
            Ok(address) if !self.allows(address) => Err(self.local(host)),
            _ => Ok(()),
        }
    }
}

impl Resolver for Guard {
    fn resolve(
        &self,
        uri: &Uri,
        config: &HttpConfig,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        let mut allowed = self.empty();
        let reachable = |address: &&SocketAddr| self.allows(address.ip());
        found.iter().filter(reachable).for_each(|address| allowed.push(*address));
        if allowed.is_empty() {
            let host = uri.host().unwrap_or_default();
            return Err(ureq::Error::Other(Box::new(self.local(host))));
        }
        Ok(allowed)
    }
}

/// `host` or `host:port` of a URL, lower case.
pub(crate) fn authority(uri: &Uri) -> String {
    let host = uri.host().unwrap_or_default().to_ascii_lowercase();
    uri.port_u16().map_or_else(|| host.clone(), |port| format!("{host}:{port}"))
}

/// Whether two URLs are of one server, so that what is secret to one may be sent to the other.
pub(crate) fn same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |uri: &Uri| match (uri.port_u16(), uri.scheme_str()) {
        (Some(port), _) => Some(port),
        (None, Some("https")) => Some(443),
        (None, _) => Some(80),
    };
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    a.scheme() == b.scheme() && host(a) == host(b) && port(a) == port(b)
}

/// The URL that `reference` means in a response from `base`, as far as registries write them:
/// absolute, or a path from the root (RFC 3986 §4.2, without relative paths).
pub(crate) fn join(base: &Uri, reference: &str) -> Option<Uri> {
    if reference.len() > MAX_URL {
        return None;
    }
    let reference = reference.split('#').next().unwrap_or_default();
    let (scheme, authority) = (base.scheme_str()?, base.authority()?);
    let whole = if reference.starts_with("//") {
        format!("{scheme}:{reference}")
    } else if reference.starts_with('/') {
        format!("{scheme}://{authority}{reference}")
    } else if reference.starts_with('?') {
        format!("{scheme}://{authority}{}{reference}", base.path())
    } else {
        reference.to_owned()
    };
    let uri: Uri = whole.parse().ok()?;
    let known = matches!(uri.scheme_str(), Some("http" | "https"));
    // Credentials in a URL are for nobody here.
    let plain_host = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
    (known && plain_host).then_some(uri)
}

/// Adds a parameter to a URL.
pub(crate) fn with_parameter(uri: &Uri, name: &str, value: &str) -> Option<Uri> {
    let text = uri.to_string();
    let separator = if uri.query().is_some() { '&' } else { '?' };
    format!("{text}{separator}{name}={}", encode(value)).parse().ok()
}

/// Percent-encodes what is not unreserved (RFC 3986 §2.3).
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn row17_local_addresses_are_not_gone_to_from_elsewhere() {
        let guard = Guard::new("192.0.2.1:5000");
        for host in [
            "127.0.0.1",
            "127.8.8.8:99",
            "169.254.169.254",
            "0.0.0.0",
            "[::1]",
            "[::]",
            "[fe80::1]",
            "[::ffff:127.0.0.1]",
            "[::ffff:169.254.169.254]",
            "224.0.0.1",
        ] {
            assert!(guard.check_literal(&uri(&format!("http://{host}/x"))).is_err(), "{host}");
        }
        for host in ["192.0.2.7", "10.0.0.1", "[2001:db8::1]", "name.example"] {
            assert!(guard.check_literal(&uri(&format!("http://{host}/x"))).is_ok(), "{host}");
        }
    }

    #[test]
    fn row17_a_local_registry_may_name_its_own_kind_of_place_only() {
        let guard = Guard::new("localhost:5000");
        assert!(guard.check_literal(&uri("http://127.0.0.1:81/")).is_ok());
        assert!(guard.check_literal(&uri("http://169.254.169.254/")).is_err());
        let guard = Guard::new("169.254.1.1");
        assert!(guard.check_literal(&uri("http://169.254.2.2/")).is_ok());
        assert!(guard.check_literal(&uri("http://127.0.0.1/")).is_err());
    }

    #[test]
    fn row17_names_of_local_addresses_are_not_gone_to_from_elsewhere() {
        let resolve = |registry: &str| {
            let config = ureq::Agent::config_builder().build();
            Guard::new(registry).resolve(&uri("http://localhost/"), &config, NextTimeout::default())
        };
        let error = resolve("192.0.2.1").unwrap_err();
        assert!(error.to_string().contains("local address"), "{error}");
        assert!(resolve("127.0.0.1:5000").is_ok());
    }

    #[test]
    fn row17_origins_differ_by_scheme_host_and_port() {
        let base = uri("https://a.example/v2/");
        assert!(same_origin(&base, &uri("https://A.example:443/other")));
        for other in ["http://a.example/", "https://a.example:444/", "https://b.example/"] {
            assert!(!same_origin(&base, &uri(other)), "{other}");
        }
    }

    #[test]
    fn locations_are_joined_to_what_they_came_from() {
        let base = uri("https://a.example:5000/v2/x/blobs/uploads/?a=b");
        let joined = |reference| join(&base, reference).map(|uri| uri.to_string());
        assert_eq!(joined("/up/1?s=2#x").as_deref(), Some("https://a.example:5000/up/1?s=2"));
        assert_eq!(joined("//b.example/c").as_deref(), Some("https://b.example/c"));
        assert_eq!(joined("http://b.example/c").as_deref(), Some("http://b.example/c"));
        for wrong in
            ["", "relative", "ftp://a/", "https://u:p@b.example/", "https://", "file:///etc"]
        {
            assert_eq!(joined(wrong), None, "{wrong}");
        }
        assert_eq!(joined(&format!("/{}", "x".repeat(MAX_URL))), None);
    }

    proptest! {
        #[test]
        fn whatever_is_joined_is_http_and_without_user(text in "(//|https?://|/)?[!-~]{0,40}") {
            if let Some(joined) = join(&uri("https://a.example/x"), &text) {
                prop_assert!(matches!(joined.scheme_str(), Some("http" | "https")));
                prop_assert!(!joined.authority().unwrap().as_str().contains('@'));
            }
        }
    }

    #[test]
    fn parameters_are_encoded() {
        let with = with_parameter(&uri("https://a.example/t"), "scope", "a b&c:d").unwrap();
        let with = with_parameter(&with, "x", "y").unwrap();
        assert_eq!(with.to_string(), "https://a.example/t?scope=a%20b%26c%3Ad&x=y");
    }
}
