//! Showing a registry who the user is: nothing at first, then what its challenge asks for. Tokens
//! are asked for once for each scope and kept while they are valid.
//!
//! The server that gives tokens is another one than the registry, which names it; the user's
//! password goes there, over TLS unless the registry itself is spoken to without. What comes back is
//! for the registry alone.

use std::collections::HashMap;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use ureq::Body;
use ureq::http::header::CONTENT_TYPE;
use ureq::http::{HeaderMap, Method, Response};

use crate::challenge::Challenge;
use crate::credentials::{Credential, Credentials, basic};
use crate::error::{Refusal, RegistryError};
use crate::http::{Http, Request};
use crate::target::{authority, encode, with_parameter};

/// Largest answer of a token server.
const MAX_TOKEN: u64 = 1 << 20;
/// A token is not used for this long before its end.
const MARGIN: Duration = Duration::from_secs(10);
/// How long a token is valid that does not say.
const DEFAULT_LIFE: u64 = 60;
/// Who asks for tokens.
const CLIENT: &str = "vmrun";

/// Proves who the user is to one registry.
#[derive(Debug)]
pub(crate) struct Authenticator {
    credential: Source,
    /// By scope; the empty one is of a name and password, good for all.
    known: Mutex<HashMap<String, Authorization>>,
}

/// Where credentials come from.
#[derive(Debug)]
enum Source {
    Files { files: Credentials, host: String, path: String },
    Given(Credential),
}

#[derive(Clone)]
struct Authorization {
    header: String,
    until: Option<Instant>,
}

impl std::fmt::Debug for Authorization {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authorization").field("until", &self.until).finish_non_exhaustive()
    }
}

/// The answer of a token server.
#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

impl Authenticator {
    /// With what is known of the user for a repository, looked up once it is asked for.
    pub(crate) fn new(files: Credentials, host: &str, path: &str) -> Self {
        let (host, path) = (host.to_owned(), path.to_owned());
        Self { credential: Source::Files { files, host, path }, known: Mutex::default() }
    }

    /// With these credentials.
    pub(crate) fn with(credential: Credential) -> Self {
        Self { credential: Source::Given(credential), known: Mutex::default() }
    }

    /// The header to send at first, if one is known to be good.
    pub(crate) fn header(&self, scope: &str) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.get(scope).or_else(|| known.get(""))?;
        let valid = found.until.is_none_or(|until| Instant::now() < until);
        valid.then(|| found.header.clone())
    }

    /// Answers the challenge of a 401 response; `None` if there is no answer to it.
    pub(crate) fn answer(
        &self,
        http: &Http,
        headers: &HeaderMap,
        scope: &str,
    ) -> Result<Option<String>, RegistryError> {
        let credential = match &self.credential {
            Source::Files { files, host, path } => files.find(host, path)?,
            Source::Given(credential) => Some(credential.clone()),
        };
        let (scope, authorization) = match (Challenge::of(headers), credential) {
            (Some(Challenge::Basic), Some(Credential::Password { username, password })) => {
                ("", Authorization { header: basic(&username, &password), until: None })
            }
            (Some(Challenge::Bearer { realm, service, scope: asked }), credential) => {
                let wanted = choose_scope(scope, asked);
                (scope, fetch_token(http, &realm, service.as_deref(), &wanted, credential)?)
            }
            _ => return Ok(None),
        };
        let header = authorization.header.clone();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(scope.to_owned(), authorization);
        Ok(Some(header))
    }
}

/// The registry knows what it calls its repository; whatever it asks for of that, all that is going
/// to be needed is asked for at once.
fn choose_scope(ours: &str, asked: Option<String>) -> String {
    let resource = |scope: &str| scope.rsplit_once(':').map(|(resource, _)| resource.to_owned());
    match asked {
        Some(asked) if ours.is_empty() || resource(&asked) != resource(ours) => asked,
        _ => ours.to_owned(),
    }
}

fn fetch_token(
    http: &Http,
    realm: &str,
    service: Option<&str>,
    scope: &str,
    credential: Option<Credential>,
) -> Result<Authorization, RegistryError> {
    let realm = http.join(http.base(), realm).map_err(crate::http::HttpError::from)?;
    let host = authority(&realm);
    let known = credential.is_some();
    let response = match credential {
        Some(Credential::IdentityToken(token)) => {
            let mut form = format!(
                "grant_type=refresh_token&client_id={CLIENT}&refresh_token={}",
                encode(&token)
            );
            for (name, value) in [("service", service.unwrap_or_default()), ("scope", scope)] {
                form.push_str(&format!("&{name}={}", encode(value)));
            }
            let mut request = Request { method: Method::POST, ..Request::get(realm) };
            let form_type = "application/x-www-form-urlencoded".to_owned();
            request.headers.push((CONTENT_TYPE, form_type));
            let length = form.len() as u64;
            let mut body = form.as_bytes();
            request.body = Some((&mut body, length));
            http.send(request)?
        }
        other => {
            let parameters =
                [("service", service), ("scope", Some(scope)), ("client_id", Some(CLIENT))];
            let present = parameters.into_iter().filter_map(|(name, value)| Some((name, value?)));
            let uri = present
                .filter(|(_, value)| !value.is_empty())
                .try_fold(realm, |uri, (name, value)| with_parameter(&uri, name, value));
            let malformed = || RegistryError::answer(&host, "a malformed realm");
            let mut request = Request::get(uri.ok_or_else(malformed)?);
            if let Some(Credential::Password { username, password }) = other {
                request.authorization = Some(basic(&username, &password));
            }
            http.send(request)?
        }
    };
    read_token(&host, response, known)
}

fn read_token(
    host: &str,
    response: Response<Body>,
    known: bool,
) -> Result<Authorization, RegistryError> {
    if !response.status().is_success() {
        let refusal = Refusal::read(response);
        let denied = matches!(refusal.status.as_u16(), 400 | 401 | 403);
        let (registry, words) = (host.to_owned(), refusal.words.clone());
        return Err(match (denied, known) {
            (true, true) => RegistryError::Login { registry, words },
            (true, false) => RegistryError::Denied { registry, words },
            (false, _) => refusal.into_error(host, ""),
        });
    }
    let mut text = Vec::new();
    let read = response.into_body().into_reader().take(MAX_TOKEN).read_to_end(&mut text);
    let parsed = read.ok().and_then(|_| serde_json::from_slice::<Token>(&text).ok());
    let no_token = || RegistryError::answer(host, "an answer without a token");
    let parsed = parsed.ok_or_else(no_token)?;
    let token = parsed.token.or(parsed.access_token).ok_or_else(no_token)?;
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(no_token());
    }
    let life = Duration::from_secs(parsed.expires_in.unwrap_or(DEFAULT_LIFE));
    let until = Instant::now().checked_add(life.saturating_sub(MARGIN));
    Ok(Authorization { header: format!("Bearer {token}"), until })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_needed_of_a_repository_is_asked_for_at_once() {
        let ours = "repository:a/b:pull,push";
        assert_eq!(choose_scope(ours, None), ours);
        assert_eq!(choose_scope(ours, Some("repository:a/b:pull".into())), ours);
        let mapped = "repository:tenant/a/b:pull";
        assert_eq!(choose_scope(ours, Some(mapped.into())), mapped);
        assert_eq!(choose_scope("", Some("registry:catalog:*".into())), "registry:catalog:*");
        assert_eq!(choose_scope("", None), "");
    }
}
