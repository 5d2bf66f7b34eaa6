//! Layers: tar archives, compressed or not, and what the store makes of them.

use std::{fs, io::Write, path::Path};

use image_store::{Digest, NoProgress, Source, Store};
use serde_json::json;
use tar_stream::{
    DataSink, TarError, TarReader,
    testing::{Header, TarBuilder},
};

use crate::{corpus, fuzz, fuzz_mended};

/// Inputs that a store is given before it is made anew.
const INPUTS: usize = 50;

/// A store in memory.
struct Fresh {
    folder: tempfile::TempDir,
    store: Store,
    inputs: usize,
}

impl Fresh {
    pub fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let store = Store::open(folder.path()).unwrap();
        Self { folder, store, inputs: 0 }
    }

    /// The store, emptied now and then.
    fn store(&mut self) -> &Store {
        self.inputs += 1;
        if self.inputs > INPUTS {
            *self = Self::new();
        }
        &self.store
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What was taken is sound, and none of it is left when it was refused.
    fn check(&self) {
        let checked = self.store.check(false, &|| Ok(Vec::new())).unwrap();
        assert_eq!(checked.damages, []);
        for image in self.store.images().unwrap() {
            let image = self.store.find(&image.id.to_string()).unwrap();
            assert!(self.store.open_root(&image.root).unwrap().size > 0);
        }
    }
}

/// Archives with all that a layer may have, and some of what it may not.
pub fn tars() -> Vec<Vec<u8>> {
    let sparse: &[(&str, &[u8])] = &[
        ("GNU.sparse.major", b"1"),
        ("GNU.sparse.minor", b"0"),
        ("GNU.sparse.name", b"holes"),
        ("GNU.sparse.realsize", b"100000"),
    ];
    let mut map = b"2\n0\n3\n99997\n3\n".to_vec();
    map.resize(512, 0);
    map.extend_from_slice(b"onetwo");
    let mut old_sparse = Header::new(b"old", b'S', 4);
    old_sparse.set(257, b"ustar  \0").octal(386, 11, 4096).octal(398, 11, 4).octal(483, 11, 9000);
    let device = |kind| {
        let mut header = Header::new(b"dev/x", kind, 0);
        header.octal(329, 7, 1).octal(337, 7, 3);
        header
    };
    let mut longlink = TarBuilder::new();
    longlink.raw(&Header::new(b"././@LongLink", b'L', 300), &[b'n'; 300]).file("x", b"long");
    let tar = |build: &dyn Fn(&mut TarBuilder)| {
        let mut tar = TarBuilder::new();
        build(&mut tar);
        tar.finish()
    };
    vec![
        tar(&|tar| {
            tar.dir("etc/")
                .file("etc/hosts", b"127.0.0.1 localhost\n")
                .symlink("link", "etc/hosts");
            tar.hard_link("hard", "etc/hosts").device("null", 1, 3);
        }),
        tar(&|tar| {
            tar.dir("a").file("a/.wh.b", b"").file("a/.wh..wh..opq", b"").file(".wh.c", b"");
        }),
        tar(&|tar| {
            tar.pax(&[("path", b"a/long/path"), ("size", b"5"), ("mtime", b"1.5")]);
            tar.file("short", b"12345");
            tar.pax(&[("SCHILY.xattr.user.x", b"value"), ("uid", b"4294967295")]).file("x", b"");
        }),
        tar(&|tar| {
            let size = map.len() as u64;
            tar.pax(sparse).raw(&Header::new(b"sparse/holes", b'0', size), &map);
        }),
        tar(&|tar| {
            tar.raw(&old_sparse, b"data");
            tar.raw(&device(b'3'), b"").raw(&device(b'4'), b"").raw(&device(b'6'), b"");
        }),
        tar(&|tar| {
            tar.symlink("out", "../../..").file("out/x", b"1").hard_link("y", "../z");
            tar.symlink("self", "self").file("self/x", b"2").file("/abs", b"").file("..", b"");
        }),
        longlink.finish(),
    ]
}

/// Gives every block that looks like a header the checksum it should have.
pub fn mend(tar: &mut Vec<u8>) {
    tar.resize(tar.len().next_multiple_of(512), 0);
    for block in tar.chunks_exact_mut(512).filter(|block| block[257..].starts_with(b"ustar")) {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

/// Counts; more than archives of this length can hold is a failure.
struct Sink(u64);

impl DataSink for Sink {
    type Error = TarError;

    fn data(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        self.0 += bytes.len() as u64;
        Ok(())
    }

    fn hole(&mut self, _length: u64) -> Result<(), TarError> {
        Ok(())
    }
}

#[test]
fn tar() {
    fuzz_mended("tar", tars(), mend, |input| {
        let (mut reader, mut sink) = (TarReader::new(input), Sink(0));
        while let Ok(Some(_)) = reader.next_member() {
            if reader.read_data(&mut sink).is_err() {
                break;
            }
        }
        assert!(sink.0 <= input.len() as u64, "more data than there is");
    });
}

fn import(store: &mut Fresh, layer: &[u8]) {
    let describe = |diff_id: &Digest| {
        let rootfs = json!({ "type": "layers", "diff_ids": [diff_id] });
        json!({ "architecture": "amd64", "os": "linux", "config": {}, "rootfs": rootfs })
    };
    let _ = store.store().import(&mut &layer[..], &describe, None);
    store.check();
}

#[test]
fn layer() {
    let mut store = Fresh::new();
    let seeds = [tars(), corpus("tar")].concat();
    fuzz_mended("layer", seeds, mend, |input| import(&mut store, input));
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn compressed_layer() {
    let mut store = Fresh::new();
    let mut seeds = Vec::new();
    for tar in tars().iter().take(3) {
        let (head, tail) = tar.split_at(700);
        seeds.extend([gzip(tar), [gzip(head), gzip(tail)].concat()]);
        seeds
            .extend([::zstd::encode_all(&tar[..], 1).unwrap(), [gzip(tar), vec![0; 512]].concat()]);
    }
    // A skippable frame ahead of the data (RFC 8878 §3.1.2).
    seeds.push([b"\x50\x2a\x4d\x18\x04\0\0\0skip", &seeds[2][..]].concat());
    fuzz("compressed-layer", seeds, |input| import(&mut store, input));
}

/// A layer's index is the store's own file, but a disk may have changed it.
#[test]
fn layer_index() {
    let archive = |layers: &[Vec<u8>]| {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let rootfs = json!({ "type": "layers", "diff_ids": diff_ids });
        let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": rootfs });
        crate::documents::docker_archive(config.to_string().as_bytes(), layers)
    };
    let layers = tars();
    let (ground, two) = (archive(&layers[..1]), archive(&layers[..2]));
    let fresh = Fresh::new();
    let load = |bytes: &[u8]| fresh.store.load(Source::Stream(&mut &bytes[..]), &NoProgress);
    load(&ground).unwrap();
    let index = fresh.path().join("layers").join(Digest::of(&layers[0]).hex()).join("index");
    let sound = fs::read(&index).unwrap();
    fuzz("layer-index", vec![sound], |input| {
        fs::write(&index, input).unwrap();
        // An image that has no root yet, so the index is read to make one.
        if let Ok(images) = load(&two) {
            fresh.store.remove(&images[0].id.to_string(), true, &|| Ok(Vec::new())).unwrap();
        }
        let _ = fresh.store.details("fuzz/x");
        let _ = fresh.store.check(false, &|| Ok(Vec::new()));
    });
}
