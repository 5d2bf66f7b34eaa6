//! Pulls from registries that are honest, and from ones that are not.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Cursor, Read};
use std::sync::Mutex;
use std::thread;

use serde_json::json;

use super::*;
use crate::testing::{TarBuilder, TestImage, tar_of, zstd};
use crate::{FindError, NoProgress, Removal, Source, Store};

/// A repository in memory that counts what is fetched.
#[derive(Default)]
struct Repository {
    content: HashMap<Digest, Vec<u8>>,
    fetched: Mutex<Vec<Digest>>,
    /// Blobs that break off after so many bytes.
    broken: HashMap<Digest, u64>,
}

impl Repository {
    /// With an image; and its manifest.
    fn with(image: &TestImage) -> (Self, Vec<u8>) {
        let mut repository = Self::default();
        let mut manifest = Vec::new();
        for (name, bytes) in image.layout() {
            if name.starts_with("blobs/") {
                manifest.clone_from(&bytes);
                repository.add(bytes);
            }
        }
        (repository, manifest)
    }

    fn add(&mut self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.content.insert(digest, bytes);
        digest
    }

    fn get(&self, digest: &Digest) -> Result<Vec<u8>, RemoteError> {
        self.fetched.lock().unwrap().push(*digest);
        self.content.get(digest).cloned().ok_or_else(|| "not here".into())
    }

    fn fetches(&self) -> usize {
        self.fetched.lock().unwrap().len()
    }
}

impl Remote for Repository {
    fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, RemoteError> {
        self.get(digest)
    }

    fn blob(&self, digest: &Digest, _size: u64) -> Result<Box<dyn Read + '_>, RemoteError> {
        let bytes = Cursor::new(self.get(digest)?);
        Ok(match self.broken.get(digest) {
            Some(after) => Box::new(bytes.take(*after).chain(Broken)),
            None => Box::new(bytes),
        })
    }
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _buf: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("the cable is cut"))
    }
}

struct Host {
    _folder: tempfile::TempDir,
    store: Store,
}

impl Host {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        Self { _folder: folder, store }
    }

    fn pull(
        &self,
        name: &str,
        repository: &Repository,
        manifest: &[u8],
    ) -> Result<PulledImage, LoadError> {
        let (reference, platform) = (name.parse().unwrap(), Platform::host());
        let request =
            PullRequest { reference: &reference, platform: &platform, manifest, media_type: "" };
        self.store.pull(&request, repository, &NoProgress)
    }

    /// Why a pull is refused; nothing may have been published of it.
    #[track_caller]
    fn refusal(&self, repository: &Repository, manifest: &[u8]) -> String {
        let error = self.pull("bad", repository, manifest).unwrap_err();
        assert_eq!(self.store.images().unwrap(), []);
        let root = self._folder.path().join("store");
        for folder in ["layers", "roots", "blobs/sha256"] {
            assert_eq!(fs::read_dir(root.join(folder)).unwrap().count(), 0, "{folder}");
        }
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        text
    }
}

fn image(name: &str) -> TestImage {
    let layers = [
        TarBuilder::new().dir("etc/").file("etc/a", b"one").finish(),
        TarBuilder::new().file("etc/b", &[7; 100_000]).finish(),
    ];
    TestImage::new(name, &layers)
}

#[test]
fn what_is_pulled_is_what_is_loaded() {
    let image = image("demo:1");
    let (repository, manifest) = Repository::with(&image);
    let (pulled, loaded) = (Host::new(), Host::new());
    let result = pulled.pull("demo:1", &repository, &manifest).unwrap();
    assert_eq!((result.digest, result.up_to_date), (Digest::of(&manifest), false));
    let archive = tar_of(&image.layout());
    let same = loaded.store.load(Source::Stream(&mut &archive[..]), &NoProgress).unwrap();
    assert_eq!((result.id, result.digest), (same[0].id, same[0].digest));
    let find = |host: &Host, name: &str| host.store.find(name).unwrap();
    assert_eq!(find(&pulled, "demo:1"), find(&loaded, "demo:1"));
    assert_eq!(find(&pulled, &format!("demo@{}", result.digest)).id, result.id);
}

#[test]
fn what_is_here_is_not_fetched() {
    let host = Host::new();
    let (repository, manifest) = Repository::with(&image("one"));
    host.pull("one", &repository, &manifest).unwrap();
    // A config and two layers.
    assert_eq!(repository.fetches(), 3);
    assert!(host.pull("one", &repository, &manifest).unwrap().up_to_date);
    assert!(!host.pull("other", &repository, &manifest).unwrap().up_to_date);
    assert_eq!(repository.fetches(), 3);
    let mut layers = image("two").layers;
    layers[1] = TarBuilder::new().file("new", b"new").finish();
    let (two, manifest) = Repository::with(&TestImage::new("two", &layers));
    host.pull("one", &two, &manifest).unwrap();
    assert_eq!(two.fetches(), 2);
    let summaries = host.store.images().unwrap();
    let names = |at: usize| summaries[at].names.len() + summaries[at].digests.len();
    assert_eq!(names(0) + names(1), 5);
}

#[test]
fn what_goes_out_is_what_came_in() {
    let host = Host::new();
    let (repository, manifest) = Repository::with(&image("demo"));
    let pulled = host.pull("demo", &repository, &manifest).unwrap();
    let other = "other/name".parse::<Reference>().unwrap().with_digest(pulled.digest);
    host.store.note_digest(&pulled.id, &other).unwrap();
    let outgoing = host.store.outgoing("demo").unwrap();
    assert_eq!(outgoing.manifest, manifest);
    assert_eq!(outgoing.media_type, "application/vnd.oci.image.manifest.v1+json");
    assert_eq!((outgoing.blobs.len(), outgoing.digests.len()), (3, 2));
    for blob in &outgoing.blobs {
        let mut bytes = Vec::new();
        outgoing.open(&blob.digest).unwrap().read_to_end(&mut bytes).unwrap();
        assert_eq!((bytes.len() as u64, &bytes), (blob.size, &repository.content[&blob.digest]));
    }
    assert_eq!(outgoing.blobs[2].digest, pulled.id.0);
    assert!(matches!(host.store.outgoing("nothing"), Err(FindError::NotFound(_))));
}

#[test]
fn row35_several_pulls_at_once_fetch_each_layer_once() {
    let host = Host::new();
    let (repository, manifest) = Repository::with(&image("demo"));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| host.pull("demo", &repository, &manifest).unwrap());
        }
    });
    for layer in &image("demo").layers {
        let digest = Digest::of(&crate::testing::gzip(layer));
        let fetched = repository.fetched.lock().unwrap();
        assert_eq!(fetched.iter().filter(|other| **other == digest).count(), 1);
    }
}

#[test]
fn an_index_gives_the_image_for_the_platform() {
    let mut arm = image("arm");
    arm.config["architecture"] = "arm64".into();
    arm.config["variant"] = "v8".into();
    let (mut repository, host_manifest) = Repository::with(&image("amd"));
    let (other, arm_manifest) = Repository::with(&arm);
    repository.content.extend(other.content);
    let entry = |manifest: &[u8], architecture: &str| {
        json!({ "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": Digest::of(manifest), "size": manifest.len(),
            "platform": { "os": "linux", "architecture": architecture } })
    };
    let manifests = [entry(&arm_manifest, "arm64"), entry(&host_manifest, "amd64")];
    let index = json!({ "schemaVersion": 2, "manifests": manifests }).to_string().into_bytes();
    let host = Host::new();
    let pulled = host.pull("multi", &repository, &index).unwrap();
    assert_eq!(pulled.digest, Digest::of(&index));
    let found = host.store.find(&format!("multi@{}", Digest::of(&index))).unwrap();
    assert_eq!(found.id, pulled.id);
    let pull = |platform: &str| {
        let (reference, platform) = ("arm".parse().unwrap(), platform.parse().unwrap());
        let request = PullRequest {
            reference: &reference,
            platform: &platform,
            manifest: &index,
            media_type: "application/vnd.oci.image.index.v1+json",
        };
        host.store.pull(&request, &repository, &NoProgress)
    };
    assert_ne!(pull("linux/arm64").unwrap().id, pulled.id);
    let error = pull("linux/s390x").unwrap_err().to_string();
    assert_eq!(error, "no image for linux/s390x in it, only for: linux/amd64, linux/arm64");
}

#[test]
fn an_image_that_was_pulled_by_digest_has_no_tag_and_goes_by_it() {
    let host = Host::new();
    let (repository, manifest) = Repository::with(&image("demo"));
    let name = format!("demo@{}", Digest::of(&manifest));
    let pulled = host.pull(&name, &repository, &manifest).unwrap();
    assert!(matches!(host.store.find("demo"), Err(FindError::NotFound(_))));
    assert_eq!(host.store.images().unwrap()[0].names, []);
    let removed = host.store.remove(&name, false, &|| Ok(Vec::new())).unwrap();
    assert_eq!(removed[0], Removal::Untagged(name));
    assert_eq!(removed[1], Removal::Deleted(pulled.id.0));
    assert_eq!(host.store.images().unwrap(), []);
}

#[test]
fn row13_content_that_is_not_what_was_named_is_not_published() {
    let image = image("demo");
    let layer = Digest::of(&crate::testing::gzip(&image.layers[1]));
    let host = Host::new();
    let refusal = |change: &dyn Fn(&mut Repository)| {
        let (mut repository, manifest) = Repository::with(&image);
        // The other layer may be published before this one is refused: it is right.
        let other = Digest::of(&crate::testing::gzip(&image.layers[0]));
        repository.content.insert(other, b"junk".to_vec());
        change(&mut repository);
        host.refusal(&repository, &manifest)
    };
    let text = refusal(&|repository| {
        let config = serde_json::to_vec(&image.config).unwrap();
        let other = config.iter().map(u8::to_ascii_uppercase).collect();
        repository.content.insert(Digest::of(&config), other);
    });
    assert!(text.contains("has digest"), "{text}");
    let text = refusal(&|repository| {
        repository.content.remove(&layer);
    });
    assert!(text.contains("cannot"), "{text}");
}

#[test]
fn row13_layers_with_wrong_bytes_diff_ids_or_media_types_are_refused() {
    let one = TarBuilder::new().file("a", b"one").finish();
    let other = TarBuilder::new().file("a", b"two").finish();
    let compressed = crate::testing::gzip(&one);
    let host = Host::new();
    // Another layer under the digest: the content decompresses, but is another.
    let (mut repository, manifest) =
        Repository::with(&TestImage::new("x", std::slice::from_ref(&one)));
    let padded = {
        let mut padded = crate::testing::gzip(&other);
        padded.resize(compressed.len(), 0);
        padded
    };
    repository.content.insert(Digest::of(&compressed), padded);
    host.refusal(&repository, &manifest);
    // The config names another diffID.
    let mut image = TestImage::new("x", std::slice::from_ref(&one));
    image.config["rootfs"]["diff_ids"] = json!([Digest::of(&other)]);
    let (repository, manifest) = Repository::with(&image);
    let text = host.refusal(&repository, &manifest);
    assert!(text.contains("its content has diffID"), "{text}");
    // It is compressed in another way than its media type says.
    let image = TestImage { compress: zstd, ..TestImage::new("x", &[one]) };
    let (repository, manifest) = Repository::with(&image);
    let text = host.refusal(&repository, &manifest);
    assert!(text.contains("media type says gzip, its first bytes say zstd"), "{text}");
}

#[test]
fn row18_a_pull_that_breaks_off_publishes_nothing_and_can_be_repeated() {
    let image = TestImage::new("x", &[TarBuilder::new().file("b", &[7; 100_000]).finish()]);
    let layer = Digest::of(&crate::testing::gzip(&image.layers[0]));
    let (mut repository, manifest) = Repository::with(&image);
    let host = Host::new();
    for after in [0, 5, 100, repository.content[&layer].len() as u64 - 1] {
        repository.broken.insert(layer, after);
        let text = host.refusal(&repository, &manifest);
        assert!(text.ends_with("the cable is cut"), "{text}");
    }
    repository.broken.clear();
    host.pull("good", &repository, &manifest).unwrap();
}

#[test]
fn row15_documents_have_limits_before_they_are_fetched() {
    let (repository, _) = Repository::with(&image("demo"));
    let digest = Digest::of(b"huge");
    let manifest = json!({ "schemaVersion": 2, "layers": [],
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": digest, "size": 1_u64 << 40 } });
    let host = Host::new();
    let text = host.refusal(&repository, manifest.to_string().as_bytes());
    assert!(text.contains("the limit is"), "{text}");
    assert_eq!(repository.fetches(), 0);
}

#[test]
fn row15_nested_indexes_end() {
    let mut repository = Repository::default();
    let mut index = br#"{"schemaVersion":2,"manifests":[]}"#.to_vec();
    for _ in 0..10 {
        let digest = repository.add(index.clone());
        let entry = json!({ "mediaType": "application/vnd.oci.image.index.v1+json",
            "digest": digest, "size": index.len() });
        index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string().into_bytes();
    }
    let text = Host::new().refusal(&repository, &index);
    assert_eq!(text, "indexes are nested too deeply");
}
