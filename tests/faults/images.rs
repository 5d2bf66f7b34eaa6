//! Small images for faults to happen to, as OCI layouts, and a registry that has them.

use std::{
    collections::HashMap,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::Path,
    thread,
};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image: its manifest, and all that this names.
pub struct Image {
    manifest: Vec<u8>,
    blobs: HashMap<String, Vec<u8>>,
}

pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold("sha256:".to_owned(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl Image {
    /// With a layer for each of the words.
    pub fn new(words: &[&str]) -> Self {
        let mut image = Self { manifest: Vec::new(), blobs: HashMap::new() };
        let tars: Vec<Vec<u8>> = words.iter().map(|word| layer(word)).collect();
        let layers: Vec<Value> = tars.iter().map(|tar| image.add(gzip(tar), LAYER)).collect();
        let diff_ids: Vec<String> = tars.iter().map(|tar| digest(tar)).collect();
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": { "Cmd": words },
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        });
        let config = image.add(config.to_string().into_bytes(), CONFIG);
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers });
        image.manifest = manifest.to_string().into_bytes();
        image
    }

    fn add(&mut self, bytes: Vec<u8>, media_type: &str) -> Value {
        let digest = digest(&bytes);
        let descriptor = json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() });
        self.blobs.insert(digest, bytes);
        descriptor
    }

    /// Writes it as an OCI layout.
    pub fn write(&self, folder: &Path, name: &str) {
        let blobs = folder.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        let manifest = digest(&self.manifest);
        for (digest, bytes) in self.blobs.iter().chain([(&manifest, &self.manifest)]) {
            fs::write(blobs.join(digest.trim_start_matches("sha256:")), bytes).unwrap();
        }
        let index = json!({ "schemaVersion": 2, "manifests": [{
            "mediaType": MANIFEST, "digest": manifest, "size": self.manifest.len(),
            "annotations": { "org.opencontainers.image.ref.name": name },
        }] });
        fs::write(folder.join("index.json"), index.to_string()).unwrap();
        fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }

    /// Serves it at a registry of its own, under any name; the registry's `localhost:port`. The
    /// registry ends with this process.
    pub fn serve(self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // Clients that are killed break off.
                let _ = self.answer(&stream);
            }
        });
        format!("localhost:{port}")
    }

    /// Answers one request (OCI distribution specification, "Pull").
    fn answer(&self, mut stream: &TcpStream) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream).lines();
        let request = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        for line in lines {
            if line?.is_empty() {
                break;
            }
        }
        let mut words = request.split(' ');
        let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let last = path.rsplit('/').next().unwrap_or_default();
        let (status, media_type, body): (_, _, &[u8]) = match self.blobs.get(last) {
            _ if path.contains("/manifests/") => (200, MANIFEST, &self.manifest),
            Some(blob) => (200, "application/octet-stream", blob),
            None if path == "/v2/" => (200, "application/json", b"{}"),
            None => (404, "application/json", b"{}"),
        };
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status} X\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\
             connection: close\r\n\r\n"
        )?;
        if method == "HEAD" { Ok(()) } else { stream.write_all(body) }
    }
}

/// A tar of a few files, one of them of more than a block and one with a hole.
pub fn layer(word: &str) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let long = word.repeat(3000).into_bytes();
    let mut holes = vec![0; 20 << 10];
    holes.extend_from_slice(word.as_bytes());
    for (name, bytes) in [("short", word.as_bytes()), ("long", &long), ("holes", &holes)] {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, format!("{word}/{name}"), bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}
