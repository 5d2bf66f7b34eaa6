//! What tests build archives and layers with.

use std::io::Write;
use std::os::unix::fs::FileExt;

use serde_json::json;
pub(crate) use tar_stream::testing::{Header, TarBuilder};

use crate::Digest;

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ::zstd::encode_all(bytes, 1).unwrap()
}

/// An image to be put into an archive.
#[derive(Clone, Debug)]
pub(crate) struct TestImage {
    pub(crate) layers: Vec<Vec<u8>>,
    pub(crate) name: String,
    pub(crate) config: serde_json::Value,
    pub(crate) compress: fn(&[u8]) -> Vec<u8>,
    pub(crate) layer_type: &'static str,
}

impl TestImage {
    pub(crate) fn new(name: &str, layers: &[Vec<u8>]) -> Self {
        let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::of(layer)).collect();
        Self {
            layers: layers.to_vec(),
            name: name.to_owned(),
            config: json!({
                "architecture": "amd64", "os": "linux", "created": "2024-01-02T03:04:05.678Z",
                "config": { "Cmd": ["sh"], "Env": ["A=b"] },
                "rootfs": { "type": "layers", "diff_ids": diff_ids },
            }),
            compress: gzip,
            layer_type: "application/vnd.oci.image.layer.v1.tar+gzip",
        }
    }

    /// The files of an OCI layout.
    pub(crate) fn layout(&self) -> Vec<(String, Vec<u8>)> {
        let mut files =
            vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
        let mut add = |bytes: Vec<u8>, media_type: &str| {
            let digest = Digest::of(&bytes);
            let descriptor =
                json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
            files.push((format!("blobs/sha256/{}", digest.hex()), bytes));
            descriptor
        };
        let layers: Vec<_> =
            self.layers.iter().map(|layer| add((self.compress)(layer), self.layer_type)).collect();
        let config = add(
            serde_json::to_vec(&self.config).unwrap(),
            "application/vnd.oci.image.config.v1+json",
        );
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        let mut manifest = add(
            serde_json::to_vec(&manifest).unwrap(),
            "application/vnd.oci.image.manifest.v1+json",
        );
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": self.name });
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        files.push(("index.json".to_owned(), serde_json::to_vec(&index).unwrap()));
        files
    }

    /// An OCI archive.
    pub(crate) fn archive(&self) -> Vec<u8> {
        tar_of(&self.layout())
    }

    /// An archive as `docker save` wrote them before it wrote OCI layouts.
    pub(crate) fn docker_archive(&self) -> Vec<u8> {
        let config = serde_json::to_vec(&self.config).unwrap();
        let config_name = format!("{}.json", Digest::of(&config).hex());
        let mut tar = TarBuilder::new();
        tar.file(&config_name, &config);
        let mut names = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            let name = format!("{number:064x}/layer.tar");
            let same = self.layers[..number].iter().position(|other| other == layer);
            tar.dir(&format!("{number:064x}/"));
            match same {
                Some(same) => tar.symlink(&name, &format!("../{same:064x}/layer.tar")),
                None => tar.file(&name, layer),
            };
            names.push(name);
        }
        let list = json!([{ "Config": config_name, "RepoTags": [self.name], "Layers": names }]);
        tar.file("manifest.json", &serde_json::to_vec(&list).unwrap());
        tar.file("repositories", b"{}");
        tar.finish()
    }
}

/// A tar archive of files.
pub(crate) fn tar_of(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut tar = TarBuilder::new();
    for (name, bytes) in files {
        tar.file(name, bytes);
    }
    tar.finish()
}

/// All bytes of a root disk.
pub(crate) fn disk_bytes(disk: &crate::RootDisk) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(disk.size).unwrap()];
    for extent in &disk.extents {
        let start = usize::try_from(extent.start).unwrap();
        let length = usize::try_from(extent.length).unwrap();
        extent.file.read_exact_at(&mut bytes[start..start + length], extent.offset).unwrap();
    }
    bytes
}

/// Fails unless `fsck.erofs` (Debian package erofs-utils) accepts a disk.
pub(crate) fn fsck(disk: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(disk).unwrap();
    let output = std::process::Command::new("fsck.erofs").arg(file.path()).output();
    let output = output.expect("fsck.erofs of package erofs-utils is needed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
