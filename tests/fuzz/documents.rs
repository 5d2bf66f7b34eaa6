//! The JSON documents of images, archives of them, and the names that people and registries give.

use std::{fs, io::Read};

use image_store::{
    Digest, NoProgress, Platform, PullRequest, Reference, Remote, RemoteError, Source, Store,
};
use serde_json::{Value, json};
use tar_stream::testing::TarBuilder;

use crate::{
    fuzz, fuzz_mended,
    layers::{gzip, mend, tars},
};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An archive as `docker save` once wrote them, of these layers and that config.
pub fn docker_archive(config: &[u8], layers: &[Vec<u8>]) -> Vec<u8> {
    let mut tar = TarBuilder::new();
    let names: Vec<String> = (0..layers.len()).map(|number| format!("{number}.tar")).collect();
    let list = json!([{ "Config": "config.json", "RepoTags": ["fuzz/x:1"], "Layers": names }]);
    tar.file("config.json", config).file("manifest.json", list.to_string().as_bytes());
    for (name, layer) in names.iter().zip(layers) {
        tar.file(name, layer);
    }
    tar.finish()
}

/// An image's documents and layer, as a registry has them.
struct Image {
    layer: Vec<u8>,
    config: Vec<u8>,
    manifest: Vec<u8>,
}

fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len() })
}

impl Image {
    fn new() -> Self {
        let tar = tars().remove(0);
        let layer = gzip(&tar);
        let config = json!({
            "architecture": "amd64", "os": "linux", "created": "2026-01-02T03:04:05.6Z",
            "config": {
                "Cmd": ["sh"], "Entrypoint": null, "Env": ["A=b"], "WorkingDir": "/srv", "User": "1:2",
                "ExposedPorts": { "80/tcp": {} }, "Volumes": { "/data": {} }, "Labels": { "a": "b" },
                "StopSignal": "SIGINT", "Healthcheck": { "Test": ["CMD", "true"], "Interval": 1 },
            },
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(&tar)] },
            "history": [{ "created_by": "x", "empty_layer": true }],
        });
        let config = config.to_string().into_bytes();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": descriptor(CONFIG, &config), "layers": [descriptor(LAYER, &layer)],
        });
        Self { layer, config, manifest: manifest.to_string().into_bytes() }
    }

    /// An index that has it, in an index.
    fn index(&self) -> Vec<u8> {
        let mut entry = descriptor(MANIFEST, &self.manifest);
        entry["platform"] = json!({ "os": "linux", "architecture": "amd64", "variant": "v1" });
        entry["annotations"] = json!({ "org.opencontainers.image.ref.name": "fuzz/y:2" });
        json!({ "schemaVersion": 2, "manifests": [entry] }).to_string().into_bytes()
    }
}

impl Remote for Image {
    fn manifest(&self, _digest: &Digest) -> Result<Vec<u8>, RemoteError> {
        Ok(self.manifest.clone())
    }

    fn blob(&self, digest: &Digest, _size: u64) -> Result<Box<dyn Read + '_>, RemoteError> {
        let is_layer = Digest::of(&self.layer) == *digest;
        Ok(Box::new(if is_layer { &self.layer[..] } else { &self.config[..] }))
    }
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

#[test]
fn manifest() {
    let (image, (_folder, store)) = (Image::new(), store());
    let reference: Reference = "fuzz/x:1".parse().unwrap();
    fuzz("manifest", vec![image.manifest.clone(), image.index()], |input| {
        let platform = Platform::host();
        let media_type = "";
        let request =
            PullRequest { reference: &reference, platform: &platform, manifest: input, media_type };
        if let Ok(pulled) = store.pull(&request, &image, &NoProgress) {
            assert_eq!(pulled.digest, Digest::of(input));
        }
    });
    assert!(store.check(false, &|| Ok(Vec::new())).unwrap().damages.is_empty());
}

#[test]
fn config() {
    let image = Image::new();
    let (_folder, store) = store();
    let layers = [tars().remove(0)];
    fuzz("config", vec![image.config.clone()], |input| {
        let archive = docker_archive(input, &layers);
        if let Ok(loaded) = store.load(Source::Stream(&mut &archive[..]), &NoProgress) {
            assert_eq!(loaded[0].id.to_string(), Digest::of(input).to_string());
            store.find(&loaded[0].id.to_string()).unwrap();
            store.details(&loaded[0].id.to_string()).unwrap();
            store.images().unwrap();
        }
    });
}

#[test]
fn archive() {
    let image = Image::new();
    let (_folder, store) = store();
    let mut oci = TarBuilder::new();
    oci.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).file("index.json", &image.index());
    for bytes in [&image.layer, &image.config, &image.manifest] {
        oci.file(&format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes);
    }
    let docker = docker_archive(&image.config, &tars()[..1]);
    fuzz_mended("archive", vec![oci.finish(), docker], mend, |input| {
        let _ = store.load(Source::Stream(&mut &input[..]), &NoProgress);
    });
    assert!(store.check(false, &|| Ok(Vec::new())).unwrap().damages.is_empty());
}

/// The store's own file, but a disk may have changed it.
#[test]
fn catalog() {
    let (folder, store) = store();
    let archive = docker_archive(&Image::new().config, &tars()[..1]);
    store.load(Source::Stream(&mut &archive[..]), &NoProgress).unwrap();
    let path = folder.path().join("images.json");
    let sound = fs::read(&path).unwrap();
    fuzz("catalog", vec![sound], |input| {
        fs::write(&path, input).unwrap();
        let Ok(store) = Store::open(folder.path()) else { return };
        for image in store.images().unwrap_or_default() {
            let _ = store.details(&image.id.to_string());
        }
        let _ = store.find("fuzz/x");
        let _ = store.save(&["fuzz/x".to_owned()], &mut std::io::sink());
        let _ = store.check(false, &|| Ok(Vec::new()));
    });
}

#[test]
fn reference() {
    let digest = Digest::of(b"");
    let seeds = ["alpine", "host:5000/a/b_c:tag", "[::1]:80/a", &format!("docker.io/x@{digest}")];
    fuzz("reference", seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect(), |input| {
        let Ok(text) = str::from_utf8(input) else { return };
        let _ = text.parse::<Platform>();
        if let Ok(reference) = text.parse::<Reference>() {
            let words = [reference.domain(), reference.path()];
            assert!(words.iter().all(|word| !word.contains("..") && word.is_ascii()), "{text}");
            // `t..` is a tag by Docker's rule; it may not be a path.
            let tag = reference.tag().unwrap_or("none");
            assert!(tag.is_ascii() && !tag.contains('/') && !tag.starts_with('.'), "{text}");
            assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            assert_eq!(reference.familiar().parse::<Reference>().unwrap(), reference);
        }
    });
}
