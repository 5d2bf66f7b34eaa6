//! Images of images, and streams that no image can be made of.

use std::collections::BTreeMap;
use std::fs;
use std::thread;

use serde_json::{Value, json};

use super::*;
use crate::erofs::reader;
use crate::testing::{TarBuilder, TestImage, disk_bytes, fsck, zstd};
use crate::{Source, Store};

struct Host {
    folder: tempfile::TempDir,
    store: Store,
    base: ImageId,
}

impl Host {
    /// With an image of two layers, the upper one compressed with zstd.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store")).unwrap();
        let mut image = TestImage::new(
            "base",
            &[
                TarBuilder::new().file("etc/kept", b"kept").file("etc/gone", b"").finish(),
                TarBuilder::new().file("etc/changed", b"before").finish(),
            ],
        );
        image.compress = zstd;
        image.layer_type = "application/vnd.oci.image.layer.v1.tar+zstd";
        let loaded = store.load(Source::Stream(&mut &image.archive()[..]), &NoProgress).unwrap();
        Self { folder, store, base: loaded[0].id }
    }

    fn commit(&self, stream: impl Read, name: &str) -> Result<ImageId, LoadError> {
        self.commit_as(stream, name, &describe)
    }

    fn commit_as(
        &self,
        mut stream: impl Read,
        name: &str,
        describe: &dyn Fn(&Value, Option<&Digest>) -> Value,
    ) -> Result<ImageId, LoadError> {
        let name = Some(name.parse::<Reference>().unwrap().or_latest());
        let request = CommitRequest { base: self.base, describe, name };
        self.store.commit(&mut stream, request)
    }

    /// Paths and data of an image's files.
    fn tree(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        let root = self.store.find(name).unwrap().root;
        let disk = disk_bytes(&self.store.open_root(&root).unwrap());
        fsck(&disk);
        let text = |path: Vec<u8>| String::from_utf8(path).unwrap();
        reader::read(&disk).into_iter().map(|(path, found)| (text(path), found.data)).collect()
    }

    fn count(&self, folder: &str) -> usize {
        fs::read_dir(self.folder.path().join("store").join(folder)).unwrap().count()
    }

    fn manifest(&self, name: &str) -> Value {
        serde_json::from_slice(&self.store.outgoing(name).unwrap().manifest).unwrap()
    }
}

fn describe(base: &Value, layer: Option<&Digest>) -> Value {
    let mut config = base.clone();
    let diff_ids = config["rootfs"]["diff_ids"].as_array_mut().unwrap();
    diff_ids.extend(layer.map(|layer| json!(layer)));
    config["history"] = json!([{ "created_by": "test", "empty_layer": layer.is_none() }]);
    config
}

fn changes() -> Vec<u8> {
    TarBuilder::new()
        .dir("etc")
        .file("etc/.wh.gone", b"")
        .file("etc/changed", b"after")
        .file("etc/new", &[7; 100_000])
        .finish()
}

/// A stream that comes byte for byte, and fails at its end.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.split_first() {
            Some((byte, rest)) => {
                self.0 = rest;
                buf[0] = *byte;
                Ok(1)
            }
            None => Err(io::Error::other("the container is gone")),
        }
    }
}

#[test]
fn changes_become_one_layer_over_the_base() {
    let host = Host::new();
    let id = host.commit(&changes()[..], "new").unwrap();
    let tree = host.tree("new");
    let names: Vec<_> = tree.keys().map(String::as_str).collect();
    assert_eq!(names, ["", "etc", "etc/changed", "etc/kept", "etc/new"]);
    assert_eq!(
        (&tree["etc/changed"][..], &tree["etc/new"][..]),
        (&b"after"[..], &[7; 100_000][..])
    );
    assert!(host.tree("base").contains_key("etc/gone"));

    let details = host.store.details("new").unwrap();
    assert_eq!((details.summary.id, details.layers.len()), (id, 3));
    assert_eq!(details.layers[2].diff_id, Digest::of(&changes()));
    let (base, new) = (host.manifest("base"), host.manifest("new"));
    let layers = |manifest: &Value| manifest["layers"].as_array().unwrap().clone();
    assert_eq!(layers(&new)[0]["digest"], layers(&base)[0]["digest"]);
    assert_eq!(layers(&new)[2]["mediaType"], "application/vnd.oci.image.layer.v1.tar+gzip");
    assert_eq!(host.store.check(false, &|| Ok(Vec::new())).unwrap().damages.len(), 0);
}

#[test]
fn the_same_changes_give_the_same_image_and_one_layer() {
    let (host, other) = (Host::new(), Host::new());
    let id = other.commit(&changes()[..], "new").unwrap();
    thread::scope(|scope| {
        for number in 0..4 {
            let host = &host;
            scope.spawn(move || {
                let same = host.commit(&changes()[..], &format!("new{number}"));
                assert_eq!(same.unwrap(), id);
            });
        }
    });
    assert_eq!(host.manifest("new3"), other.manifest("new"));
    assert_eq!((host.count("layers"), host.count("roots"), host.count("ingest")), (3, 2, 6));
}

#[test]
fn an_archive_of_nothing_adds_no_layer() {
    let host = Host::new();
    host.commit(&EMPTY[..], "same").unwrap();
    assert_eq!(host.store.find("same").unwrap().root, host.store.find("base").unwrap().root);
    assert_eq!(host.manifest("same")["layers"], host.manifest("base")["layers"]);
    assert_eq!(host.store.details("same").unwrap().config["history"][0]["empty_layer"], true);
}

/// Also one that ends where an entry does.
#[test]
fn row13_a_stream_that_breaks_off_publishes_nothing() {
    let host = Host::new();
    let whole = changes();
    let junk = [&whole[..], b"junk"].concat();
    for stream in
        [&whole[..whole.len() - 1024], &whole[..1536], &whole[..700], b"", &junk, b"not a tar"]
    {
        let error = host.commit(stream, "new").unwrap_err();
        assert!(matches!(error, LoadError::NewLayer(_)), "{error}");
    }
    let error = host.commit(Failing(&whole), "new").unwrap_err();
    let cause = std::error::Error::source(&error).and_then(std::error::Error::source).unwrap();
    assert_eq!(cause.to_string(), "the container is gone");
    assert_eq!(host.store.images().unwrap().len(), 1);
    assert_eq!((host.count("layers"), host.count("roots")), (2, 1));
}

#[test]
fn row11_a_config_that_does_not_name_the_layers_is_refused() {
    let host = Host::new();
    let error = host.commit_as(&changes()[..], "new", &|base, _| base.clone()).unwrap_err();
    assert!(matches!(error, LoadError::Image(ImageError::Layers { layers: 3, diff_ids: 2 })));
    assert_eq!(host.store.images().unwrap().len(), 1);
}

#[test]
fn an_image_that_was_removed_is_no_base() {
    let host = Host::new();
    host.store.remove("base", true, &|| Ok(Vec::new())).unwrap();
    let error = host.commit(&changes()[..], "new").unwrap_err();
    assert_eq!(error.to_string(), format!("No such image: {}", host.base));
}
