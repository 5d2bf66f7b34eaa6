//! Writes an OCI layout of many small images that share all layers but one, to measure commands on a
//! large store with: `many_images COUNT FOLDER`, then `vmrun load -i FOLDER`.

use std::fs;
use std::path::{Path, PathBuf};

use image_store::Digest;
use serde_json::{Value, json};

/// Layers of each image, the lowest first; the last is its own.
const LAYERS: usize = 8;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [count, folder] = &arguments[..] else {
        eprintln!("usage: many_images COUNT FOLDER");
        std::process::exit(2);
    };
    let written =
        count.parse().map_err(Into::into).and_then(|count| write(count, Path::new(folder)));
    if let Err(error) = written {
        eprintln!("many_images: {error}");
        std::process::exit(1);
    }
}

fn write(count: u32, folder: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let mut manifests = Vec::new();
    for number in 0..count {
        let mut layers = Vec::new();
        for layer in 0..LAYERS {
            let own = if layer + 1 == LAYERS { number.to_string() } else { String::new() };
            let tar = tar_of(&format!("layer-{layer}{own}"))?;
            layers.push(put(&blobs, &tar, "application/vnd.oci.image.layer.v1.tar")?);
        }
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "created": format!("2026-01-01T00:{:02}:{:02}Z", number / 60 % 60, number % 60),
            "config": { "Cmd": ["sh"], "Labels": { "number": number.to_string() } },
            "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|layer| &layer["digest"]).collect::<Vec<_>>() },
            "history": (0..LAYERS).map(|layer| json!({ "created_by": format!("step {layer}") })).collect::<Vec<_>>(),
        });
        let config =
            put(&blobs, &serde_json::to_vec(&config)?, "application/vnd.oci.image.config.v1+json")?;
        let manifest = json!({ "schemaVersion": 2, "config": config, "layers": layers });
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let mut manifest = put(&blobs, &serde_json::to_vec(&manifest)?, media_type)?;
        let name = format!("many/image-{number}:1");
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        manifests.push(manifest);
    }
    let index = json!({ "schemaVersion": 2, "manifests": manifests });
    fs::write(folder.join("index.json"), serde_json::to_vec(&index)?)?;
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    Ok(())
}

/// A tar stream of one small file.
fn tar_of(name: &str) -> Result<Vec<u8>, std::io::Error> {
    let mut header = tar::Header::new_ustar();
    header.set_size(name.len() as u64);
    header.set_mode(0o644);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, PathBuf::from(name), name.as_bytes())?;
    archive.into_inner()
}

/// Writes a blob; its descriptor.
fn put(blobs: &Path, bytes: &[u8], media_type: &str) -> Result<Value, std::io::Error> {
    let digest = Digest::of(bytes);
    fs::write(blobs.join(digest.hex()), bytes)?;
    Ok(json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() }))
}
