//! Challenges, and what answers them.

use std::path::Path;

use super::server::{Answer, Server};
use super::{manifest, registries};
use crate::{Credential, Credentials, Registries, RegistryError};

/// `me:pw`
const BASIC: &str = "Basic bWU6cHc=";

/// Registries that know one login, kept in a folder.
pub(super) fn with_login(host: &str, username: &str, password: &str, folder: &Path) -> Registries {
    let credential =
        Credential::Password { username: username.to_owned(), password: password.to_owned() };
    with_credential(host, &credential, folder)
}

fn with_credential(host: &str, credential: &Credential, folder: &Path) -> Registries {
    let credentials = Credentials::in_file(folder.join("config.json"));
    credentials.keep(host, credential).unwrap();
    Registries { credentials, ..registries() }
}

/// Wants a token that allows to pull, or to push, and gives what it is asked for to whom `allows`.
fn token_registry(allows: impl Fn(&super::server::Seen) -> bool + Send + Sync + 'static) -> Server {
    Server::new(move |seen, _| {
        let host = seen.header("host").unwrap_or_default();
        if seen.path.starts_with("/token") {
            return if allows(seen) {
                Answer::ok(r#"{"access_token":"good","expires_in":300}"#)
            } else {
                Answer::new(401, r#"{"details":"incorrect username or password"}"#)
            };
        }
        match seen.header("authorization") {
            Some("Bearer good") => Answer::ok("{}"),
            _ => Answer::new(401, "").header(
                "www-authenticate",
                format!("Bearer realm=\"http://{host}/token\",service=\"a service\""),
            ),
        }
    })
}

#[test]
fn a_token_for_nobody_is_asked_for_once() {
    let server = token_registry(|seen| seen.header("authorization").is_none());
    let repository = super::repository(&server);
    let reference = format!("{}/a/b:1", server.host).parse().unwrap();
    for _ in 0..2 {
        repository.manifest(&reference).unwrap();
    }
    let token = "GET /token?service=a%20service&scope=repository%3Aa%2Fb%3Apull&client_id=vmrun";
    let get = "GET /v2/a/b/manifests/1";
    assert_eq!(server.lines(), [get, token, get, get]);
}

#[test]
fn the_password_goes_to_the_token_server_and_the_token_to_the_registry() {
    let server = token_registry(|seen| seen.header("authorization") == Some(BASIC));
    let reference = format!("{}/a/b:1", server.host).parse().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let known = with_login(&server.host, "me", "pw", folder.path());
    known.to_pull(&reference).unwrap().manifest(&reference).unwrap();
    let sent: Vec<_> =
        server.seen().iter().map(|seen| seen.header("authorization").map(str::to_owned)).collect();
    assert_eq!(sent, [None, Some(BASIC.to_owned()), Some("Bearer good".to_owned())]);
    let wrong = with_login(&server.host, "me", "wrong", folder.path());
    let error = wrong.to_pull(&reference).unwrap().manifest(&reference).unwrap_err();
    assert!(error.to_string().ends_with("incorrect username or password"), "{error}");
    let error = manifest(&server, ":1").unwrap_err();
    assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
}

#[test]
fn an_identity_token_is_exchanged() {
    let server = token_registry(|seen| {
        let form = String::from_utf8_lossy(&seen.body);
        seen.method == "POST"
            && form.contains("grant_type=refresh_token&client_id=vmrun&refresh_token=a%2Bb")
            && form.contains("&service=a%20service&scope=repository%3Aa%2Fb%3Apull")
    });
    let folder = tempfile::tempdir().unwrap();
    let token = Credential::IdentityToken("a+b".to_owned());
    let known = with_credential(&server.host, &token, folder.path());
    let reference = format!("{}/a/b:1", server.host).parse().unwrap();
    known.to_pull(&reference).unwrap().manifest(&reference).unwrap();
    assert_eq!(server.seen()[1].header("authorization"), None);
}

#[test]
fn a_name_and_password_are_shown_when_they_are_asked_for() {
    let server = Server::new(|seen, _| match seen.header("authorization") {
        Some(BASIC) => Answer::ok("{}"),
        _ => Answer::new(401, "").header("www-authenticate", "Basic realm=\"x\""),
    });
    let folder = tempfile::tempdir().unwrap();
    let known = with_login(&server.host, "me", "pw", folder.path());
    let reference = format!("{}/a/b:1", server.host).parse().unwrap();
    let repository = known.to_pull(&reference).unwrap();
    repository.manifest(&reference).unwrap();
    repository.manifest(&reference).unwrap();
    assert_eq!(server.seen().len(), 3);
    let login = |password: &str| {
        let password = password.to_owned();
        known.check(&server.host, &Credential::Password { username: "me".into(), password })
    };
    login("pw").unwrap();
    assert!(matches!(login("other"), Err(RegistryError::Login { .. })));
    assert!(manifest(&server, ":1").is_err());
}

#[test]
fn tokens_that_are_none_are_refused() {
    for answer in ["", "{}", r#"{"token":""}"#, r#"{"token":"a\r\nb: c"}"#, "[[[["] {
        let server = Server::new(move |seen, _| {
            let host = seen.header("host").unwrap_or_default();
            match seen.path.starts_with("/token") {
                true => Answer::ok(answer),
                false => Answer::new(401, "")
                    .header("www-authenticate", format!("Bearer realm=\"http://{host}/token\"")),
            }
        });
        let error = manifest(&server, ":1").unwrap_err().to_string();
        assert!(error.ends_with("sent an answer without a token"), "{error}");
    }
}
