//! The client against a server that says what it likes: threats.md rows 13–18, logins, pushes.

mod login;
mod push;
mod server;

use std::io::Read;
use std::time::{Duration, Instant};

use image_store::Digest;
use server::{Answer, Server};

use crate::retry::Patience;
use crate::{Config, Credentials, HttpError, Registries, RegistryError, Repository, TargetError};

const PATIENCE: Patience = Patience {
    attempts: 3,
    first_delay: Duration::from_millis(2),
    longest_delay: Duration::from_millis(50),
    // A loaded machine is not to be taken for a stalled one.
    stall: Duration::from_secs(20),
    least: 64,
};

fn registries() -> Registries {
    let (config, credentials) = (Config::default(), Credentials::default());
    Registries { config, credentials, patience: PATIENCE }
}

fn repository(server: &Server) -> Repository {
    registries().to_pull(&format!("{}/a/b", server.host).parse().unwrap()).unwrap()
}

fn manifest(server: &Server, name: &str) -> Result<crate::Manifest, RegistryError> {
    let reference = format!("{}/a/b{name}", server.host);
    repository(server).manifest(&reference.parse().unwrap())
}

fn blob(server: &Server, digest: Digest, size: usize) -> Result<Vec<u8>, String> {
    read_blob(&repository(server), digest, size)
}

fn read_blob(repository: &Repository, digest: Digest, size: usize) -> Result<Vec<u8>, String> {
    let mut blob = repository.blob(&digest, size as u64).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    blob.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

fn content() -> Vec<u8> {
    (0..200_000_u32).flat_map(u32::to_le_bytes).collect()
}

#[test]
fn files_are_downloaded_from_where_their_server_says() {
    let server = Server::new(|seen, _| match seen.path.as_str() {
        "/a?b=c" => Answer::new(302, "").header("location", "/there"),
        "/there" => Answer::ok("a file"),
        "/busy" => Answer::new(503, ""),
        _ => Answer::new(403, ""),
    });
    let read = |path: &str| {
        let mut download = registries().download(&format!("http://{}{path}", server.host))?;
        let mut text = String::new();
        download.read_to_string(&mut text).unwrap();
        Ok::<_, RegistryError>((download.length, text))
    };
    assert_eq!(read("/a?b=c").unwrap(), (Some(6), "a file".to_owned()));
    assert!(matches!(read("/secret").unwrap_err(), RegistryError::Denied { .. }));
    assert!(matches!(read("/busy").unwrap_err(), RegistryError::Status { status: 503, .. }));
    assert!(server.seen().iter().all(|seen| seen.header("authorization").is_none()));
    assert_eq!(server.seen().iter().filter(|seen| seen.path == "/busy").count(), 3);
    assert!(matches!(registries().download("http://a b/"), Err(RegistryError::Url(_))));
}

#[test]
fn manifests_come_by_tag_and_digest_with_their_type() {
    let text = br#"{"schemaVersion":2}"#;
    let digest = Digest::of(text);
    let server = Server::new(move |_, _| {
        let kind = "application/vnd.oci.image.manifest.v1+json; charset=utf-8";
        Answer::ok(text).header("content-type", kind)
    });
    for name in [":tag".to_owned(), format!("@{digest}")] {
        let found = manifest(&server, &name).unwrap();
        assert_eq!((found.digest, &found.bytes[..]), (digest, &text[..]));
        assert_eq!(found.media_type, "application/vnd.oci.image.manifest.v1+json");
    }
    let expected = ["GET /v2/a/b/manifests/tag", &format!("GET /v2/a/b/manifests/{digest}")];
    assert_eq!(server.lines(), expected);
    assert!(server.seen()[0].header("accept").unwrap().contains("image.index"));
    assert_eq!(server.seen()[0].header("authorization"), None);
}

#[test]
fn row13_manifests_other_than_announced_or_asked_for_are_refused() {
    let other = Digest::of(b"other").to_string();
    let server = Server::new({
        let other = other.clone();
        move |_, _| Answer::ok("{}").header("Docker-Content-Digest", &other)
    });
    for name in [":tag".to_owned(), format!("@{other}")] {
        let error = manifest(&server, &name).unwrap_err();
        assert!(matches!(error, RegistryError::Digest { .. }), "{error}");
    }
    let server =
        Server::new(|_, _| Answer::ok("{}").header("Docker-Content-Digest", "sha256:../x"));
    assert!(manifest(&server, ":tag").is_ok());
}

#[test]
fn row15_a_manifest_without_end_is_refused() {
    let server = Server::new(|_, _| Answer::ok(vec![b' '; 5 << 20]));
    let error = manifest(&server, ":tag").unwrap_err().to_string();
    assert!(error.ends_with("sent a document of more than 4194304 bytes"), "{error}");
    // Of no announced length: the connection's end is that of the body.
    let server = Server::new(|seen, _| match seen.path.as_str() {
        "/v2/a/b/manifests/tag" => Answer::ok(vec![b' '; 10 << 20]).announcing(1 << 40),
        _ => Answer::new(404, ""),
    });
    assert!(manifest(&server, ":tag").is_err());
}

#[test]
fn refusals_are_told_apart_and_their_words_are_harmless() {
    let errors = |code: &str, message: &str| {
        serde_json::json!({ "errors": [{ "code": code, "message": message }] }).to_string()
    };
    for (status, body, expected) in [
        (
            404,
            errors("MANIFEST_UNKNOWN", "not known"),
            "manifest not found: manifest unknown: not known",
        ),
        (404, errors("NAME_UNKNOWN", "x"), "repository a/b not found: name unknown: x"),
        (403, errors("DENIED", "go \u{1b}[31maway"), "HOST refuses access: denied: go  [31maway"),
        (401, String::new(), "HOST refuses access: unauthorized"),
        (418, "<html>".to_owned(), "HOST answered 418: i'm a teapot"),
        (400, errors("X", &"y".repeat(10_000)), "HOST answered 400: x: y"),
    ] {
        let server = Server::new(move |_, _| Answer::new(status, body.clone()));
        let error = manifest(&server, ":tag").unwrap_err().to_string();
        let error = error.replace(&server.host, "HOST");
        assert!(error.starts_with(expected) && error.len() < 400, "{error}");
        assert_eq!(server.seen().len(), 1);
    }
}

#[test]
fn row18_passing_faults_are_tried_again_and_others_are_not() {
    let server = Server::new(|_, number| match number {
        0 => Answer::new(503, ""),
        1 => Answer::new(429, "").header("retry-after", "0"),
        _ => Answer::ok("{}"),
    });
    assert!(manifest(&server, ":tag").is_ok());
    let server = Server::new(|_, _| Answer::new(502, ""));
    assert!(matches!(manifest(&server, ":tag"), Err(RegistryError::Status { status: 502, .. })));
    assert_eq!(server.seen().len(), 3);
    // More than it is going to be waited for.
    let server = Server::new(|_, _| Answer::new(429, "").header("retry-after", "60"));
    assert!(matches!(manifest(&server, ":tag"), Err(RegistryError::Status { status: 429, .. })));
    assert_eq!(server.seen().len(), 1);
    // No answer, and a document that breaks off.
    let server = Server::new(|_, number| match number {
        0 => Answer::none(),
        1 => Answer::ok("{").announcing(2),
        _ => Answer::ok("{}"),
    });
    assert!(manifest(&server, ":tag").is_ok());
}

#[test]
fn row18_a_blob_goes_on_where_it_broke_off() {
    let bytes = content();
    let digest = Digest::of(&bytes);
    for honours_range in [true, false] {
        let whole = bytes.clone();
        let server = Server::new(move |seen, number| {
            let start = seen.range().filter(|_| honours_range).unwrap_or(0);
            let end = whole.len().min(300_000 * (number + 1));
            let answer = Answer::new(if start > 0 { 206 } else { 200 }, &whole[start..end]);
            let range = format!("bytes {start}-{}/{}", whole.len() - 1, whole.len());
            answer.header("content-range", range).announcing(whole.len() - start)
        });
        assert_eq!(blob(&server, digest, bytes.len()).unwrap(), bytes);
        let ranges: Vec<_> = server.seen().iter().map(server::Seen::range).collect();
        assert_eq!(ranges, [None, Some(300_000), Some(600_000)], "{honours_range}");
    }
}

#[test]
fn row18_a_blob_that_lies_or_breaks_off_for_ever_is_given_up() {
    let bytes = content();
    let (digest, size) = (Digest::of(&bytes), bytes.len());
    let cases: [(&str, Server); 4] = [
        ("where 800000 are left", Server::new(|_, _| Answer::ok([0; 10]).announcing(1 << 40))),
        ("sent ", Server::new(move |_, _| Answer::ok([0; 10]).announcing(size))),
        (
            "another part",
            Server::new(move |seen, _| match seen.range() {
                None => Answer::ok([0; 100]).announcing(size),
                Some(_) => Answer::new(206, [0; 9]).header("content-range", "bytes 0-8/9"),
            }),
        ),
        ("404", Server::new(|_, _| Answer::new(404, ""))),
    ];
    for (expected, server) in &cases {
        let error = blob(server, digest, size).unwrap_err();
        assert!(error.contains(expected) && server.seen().len() <= 4, "{expected}: {error}");
    }
}

#[test]
fn row18_a_blob_that_stalls_or_drips_is_given_up() {
    let patience = Patience { stall: Duration::from_millis(200), ..PATIENCE };
    let registries = Registries { patience, ..registries() };
    let start = Instant::now();
    for wait in [Duration::from_millis(20), Duration::from_secs(60)] {
        let server = Server::new(move |_, _| Answer::ok([0; 5000]).dripping(wait));
        let reference = format!("{}/a/b", server.host).parse().unwrap();
        let repository = registries.to_pull(&reference).unwrap();
        assert!(read_blob(&repository, Digest::of(b""), 5000).is_err());
        assert!((1..=4).contains(&server.seen().len()));
    }
    assert!(start.elapsed() < Duration::from_secs(50));
}

#[test]
fn row17_redirects_are_followed_without_credentials_of_another_host() {
    let storage = Server::new(|_, _| Answer::ok("blob"));
    let location = format!("http://{}/there?signed=1", storage.host);
    let server =
        Server::new(move |seen, _| match (seen.path.as_str(), seen.header("authorization")) {
            (_, None) => Answer::new(401, "").header("www-authenticate", "Basic realm=x"),
            (path, _) if path.contains("/blobs/") => {
                Answer::new(302, "").header("location", "/inner")
            }
            ("/inner", _) => Answer::new(307, "").header("location", &location),
            _ => Answer::new(404, ""),
        });
    let folder = tempfile::tempdir().unwrap();
    let registries = login::with_login(&server.host, "me", "pw", folder.path());
    let reference = format!("{}/a/b", server.host).parse().unwrap();
    let repository = registries.to_pull(&reference).unwrap();
    let mut text = String::new();
    repository.blob(&Digest::of(b""), 4).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "blob");
    assert!(server.seen().last().unwrap().header("authorization").is_some());
    assert_eq!(storage.lines(), ["GET /there?signed=1"]);
    assert_eq!(storage.seen()[0].header("authorization"), None);
}

#[test]
fn row17_a_registry_cannot_send_its_client_to_link_local_addresses() {
    for location in
        ["http://169.254.169.254/latest/meta-data", "http://[fe80::1]/", "//0xa9fe0101/x"]
    {
        let redirecting =
            Server::new(move |_, _| Answer::new(302, "").header("location", location));
        let error = manifest(&redirecting, ":tag").unwrap_err();
        assert!(matches!(error, RegistryError::Http(_)), "{location}: {error}");
        let realm = format!("Bearer realm=\"{location}\"");
        let server =
            Server::new(move |_, _| Answer::new(401, "").header("www-authenticate", &realm));
        let error = manifest(&server, ":tag").unwrap_err();
        assert!(matches!(error, RegistryError::Http(_)), "{location}: {error}");
    }
    let server = Server::new(|_, _| Answer::new(302, "").header("location", "http://169.254.1.1/"));
    let error = manifest(&server, ":tag").unwrap_err();
    let RegistryError::Http(HttpError::Target(TargetError::Local { host, .. })) = error else {
        panic!("{error}")
    };
    assert_eq!(host, "169.254.1.1");
}

#[test]
fn redirects_end() {
    let server = Server::new(|seen, _| Answer::new(302, "").header("location", &seen.path));
    let error = manifest(&server, ":tag").unwrap_err();
    assert!(matches!(error, RegistryError::Http(HttpError::Redirects(_))), "{error}");
    assert_eq!(server.seen().len(), 11);
}

#[test]
fn tags_come_page_by_page_from_the_registry_alone() {
    let server = Server::new(|seen, _| match seen.path.as_str() {
        "/v2/a/b/tags/list?n=1000" => Answer::ok(r#"{"tags":["1","2"]}"#)
            .header("link", r#"</v2/a/b/tags/list?n=1000&last=2>; rel="next""#),
        "/v2/a/b/tags/list?n=1000&last=2" => Answer::ok(r#"{"name":"a/b","tags":["3"]}"#)
            .header("link", r#"<http://127.0.0.1:1/>; rel="next""#),
        _ => Answer::new(404, ""),
    });
    assert_eq!(repository(&server).tags().unwrap(), ["1", "2", "3"]);
    let server = Server::new(|_, _| Answer::ok(r#"{"tags":null}"#));
    assert!(repository(&server).tags().unwrap().is_empty());
    let server = Server::new(|seen, _| {
        Answer::ok(r#"{"tags":[]}"#).header("link", format!("<{}>; rel=\"next\"", seen.path))
    });
    assert!(repository(&server).tags().unwrap_err().to_string().contains("without end"));
}

#[test]
fn mirrors_are_asked_first_and_the_registry_has_the_last_word() {
    let mirror = Server::new(|seen, _| match seen.path.as_str() {
        "/v2/a/b/manifests/mirrored" => Answer::ok("{}"),
        path if path.contains("/blobs/") => Answer::ok("bl").announcing(4),
        _ => Answer::new(404, ""),
    });
    let origin = Server::new(|seen, _| match (seen.path.as_str(), seen.range()) {
        ("/v2/a/b/manifests/new", _) => Answer::ok("{ }"),
        (path, Some(2)) if path.contains("/blobs/") => {
            Answer::new(206, "ob").header("content-range", "bytes 2-3/4")
        }
        _ => Answer::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#),
    });
    let text = format!("[registry.\"{}\"]\nmirrors = [\"{}\"]", origin.host, mirror.host);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let config = Config::read(file.path()).unwrap();
    let registries = Registries { config, ..registries() };
    let reference = |tag: &str| format!("{}/a/b:{tag}", origin.host).parse().unwrap();
    let repository = registries.to_pull(&reference("x")).unwrap();
    assert_eq!(repository.manifest(&reference("mirrored")).unwrap().bytes, b"{}");
    assert_eq!(repository.manifest(&reference("new")).unwrap().bytes, b"{ }");
    let error = repository.manifest(&reference("none")).unwrap_err();
    assert!(matches!(error, RegistryError::ManifestUnknown { .. }), "{error}");
    let mut text = String::new();
    repository.blob(&Digest::of(b"blob"), 4).unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, "blob");
}

#[test]
fn a_registry_that_is_not_there_is_told_at_once() {
    let start = Instant::now();
    let reference = "localhost:1/a/b".parse().unwrap();
    let error = registries().to_pull(&reference).unwrap().manifest(&reference).unwrap_err();
    assert_eq!(error.to_string(), "cannot reach localhost:1");
    let reason = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(reason, "Connection refused (os error 111)");
    assert!(start.elapsed() < Duration::from_secs(5));
}
