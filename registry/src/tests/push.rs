//! Pushes: blobs that are there, mounted or sent, and registries that send them elsewhere.

use std::io::{self, Read};
use std::sync::atomic::{AtomicUsize, Ordering};

use image_store::Digest;

use super::login::with_login;
use super::registries;
use super::server::{Answer, Server};
use crate::{Pushed, Registries, RegistryError, Upload};

const BLOB: &[u8] = b"the bytes of a blob";

fn push(registries: &Registries, host: &str) -> Result<Pushed, RegistryError> {
    let repository = registries.to_push(&format!("{host}/a/b").parse().unwrap()).unwrap();
    repository.push(&Upload {
        digest: Digest::of(BLOB),
        size: BLOB.len() as u64,
        open: &|| Ok(Box::new(BLOB)),
        mount: Some("c/d"),
        progress: &|_| {},
    })
}

#[test]
fn a_blob_that_is_there_is_not_sent() {
    let server = Server::new(|_, _| Answer::ok(""));
    assert_eq!(push(&registries(), &server.host).unwrap(), Pushed::Existed);
    assert_eq!(server.lines(), [format!("HEAD /v2/a/b/blobs/{}", Digest::of(BLOB))]);
}

#[test]
fn a_blob_of_another_repository_is_mounted() {
    let server = Server::new(|seen, _| match seen.method.as_str() {
        "POST" => Answer::new(201, ""),
        _ => Answer::new(404, ""),
    });
    assert_eq!(push(&registries(), &server.host).unwrap(), Pushed::Mounted("c/d".into()));
    let digest = Digest::of(BLOB).to_string().replace(':', "%3A");
    let post = format!("POST /v2/a/b/blobs/uploads/?mount={digest}&from=c%2Fd");
    assert_eq!(server.lines()[1..], [post]);
}

#[test]
fn a_blob_is_sent_whole_and_again_after_a_passing_fault() {
    let server = Server::new(|seen, number| match seen.method.as_str() {
        "POST" => Answer::new(202, "").header("location", format!("/up/{number}?state=s")),
        "PUT" if number < 3 => Answer::new(503, ""),
        "PUT" => Answer::new(201, ""),
        _ => Answer::new(404, ""),
    });
    assert_eq!(push(&registries(), &server.host).unwrap(), Pushed::Sent);
    let seen = server.seen();
    assert_eq!(seen.len(), 5);
    let digest = Digest::of(BLOB).to_string().replace(':', "%3A");
    assert_eq!(seen[4].path, format!("/up/3?state=s&digest={digest}"));
    assert!(seen[2].body == BLOB && seen[4].body == BLOB);
}

#[test]
fn row17_an_upload_elsewhere_goes_without_credentials() {
    let storage = Server::new(|_, _| Answer::new(201, ""));
    let location = format!("http://{}/store", storage.host);
    let server = Server::new(move |seen, _| match (seen.header("authorization"), &*seen.method) {
        (None, _) => Answer::new(401, "").header("www-authenticate", "Basic realm=x"),
        (_, "POST") => Answer::new(202, "").header("location", &location),
        _ => Answer::new(404, ""),
    });
    let folder = tempfile::tempdir().unwrap();
    let known = with_login(&server.host, "me", "pw", folder.path());
    assert_eq!(push(&known, &server.host).unwrap(), Pushed::Sent);
    assert_eq!(storage.seen().len(), 1);
    assert_eq!(storage.seen()[0].header("authorization"), None);
    assert_eq!(storage.seen()[0].body, BLOB);
    let server = Server::new(|seen, _| match &*seen.method {
        "POST" => Answer::new(202, "").header("location", "http://169.254.169.254/"),
        _ => Answer::new(404, ""),
    });
    assert!(matches!(push(&registries(), &server.host), Err(RegistryError::Http(_))));
}

#[test]
fn a_blob_that_cannot_be_read_here_is_no_fault_of_the_registry() {
    struct Bad;
    impl Read for Bad {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("bad disk"))
        }
    }
    let server = Server::new(|seen, _| match &*seen.method {
        "POST" => Answer::new(202, "").header("location", "/up"),
        _ => Answer::new(404, ""),
    });
    let repository = registries().to_push(&format!("{}/a", server.host).parse().unwrap()).unwrap();
    let tries = AtomicUsize::new(0);
    let result = repository.push(&Upload {
        digest: Digest::of(BLOB),
        size: 5,
        open: &|| {
            tries.fetch_add(1, Ordering::Relaxed);
            Ok(Box::new(Bad))
        },
        mount: None,
        progress: &|_| {},
    });
    assert!(matches!(result, Err(RegistryError::Local { .. })), "{result:?}");
    assert_eq!(tries.load(Ordering::Relaxed), 1);
}

#[test]
fn a_manifest_is_sent_with_its_type_and_confirmed() {
    let text = br#"{"schemaVersion":2}"#;
    let server = Server::new(|seen, _| {
        let digest = match seen.path.ends_with("/lying") {
            true => Digest::of(b"other"),
            false => Digest::of(&seen.body),
        };
        Answer::new(201, "").header("docker-content-digest", digest.to_string())
    });
    let reference = format!("{}/a/b", server.host).parse().unwrap();
    let repository = registries().to_push(&reference).unwrap();
    let pushed = repository.push_manifest("1", "application/vnd.x+json", text).unwrap();
    assert_eq!(pushed, Digest::of(text));
    assert_eq!(server.lines(), ["PUT /v2/a/b/manifests/1"]);
    assert_eq!(server.seen()[0].header("content-type"), Some("application/vnd.x+json"));
    assert!(repository.push_manifest("lying", "application/vnd.x+json", text).is_err());
}
