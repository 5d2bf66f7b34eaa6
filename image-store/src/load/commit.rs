//! An image of another one and one layer more: what a container changed, which comes as a tar stream
//! that nobody has seen before.
//!
//! The stream is read once: hashed, unpacked and compressed on the way. What it is called is known
//! only at its end, so it is published then, unless it is there already. The same stream always gives
//! the same bytes.

#[cfg(test)]
mod tests;

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};

use super::document::ConfigDocument;
use super::layer::{
    IngestError, LayerBytes, LayerSource, named_error, prove, publish_blob, read_error,
};
use super::{Found, ImageError};
use crate::archive::Content;
use crate::catalog::{Catalog, LayerRecord, Record};
use crate::compression::{Compressed, Compression, Decoder};
use crate::error::LoadError;
use crate::files::{create_folder, create_new, io_error, publish, sync_folder};
use crate::layer::unpack;
use crate::limits::Limits;
use crate::paths::{Ingest, Lock, Paths};
use crate::{Digest, ImageId, NoProgress, Reference, StoreError};

/// Bytes read at once.
const BUFFER: usize = 128 << 10;

/// A tar archive of nothing, its end mark: of which no layer is made, as in Docker.
const EMPTY: [u8; 1024] = [0; 1024];

/// What an image is made of.
pub struct CommitRequest<'a> {
    /// The image below.
    pub base: ImageId,
    /// Makes the new image's config blob from the base's and from the new layer's diffID. There is
    /// none if the stream was an archive of nothing.
    pub describe: &'a dyn Fn(&serde_json::Value, Option<&Digest>) -> serde_json::Value,
    /// The new image's name.
    pub name: Option<Reference>,
}

impl fmt::Debug for CommitRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("CommitRequest");
        shown.field("base", &self.base).field("name", &self.name).finish_non_exhaustive()
    }
}

/// Brings the image into the store.
pub(crate) fn commit(
    paths: &Paths,
    limits: &Limits,
    stream: &mut dyn Read,
    request: CommitRequest<'_>,
) -> Result<ImageId, LoadError> {
    let _content = Lock::shared(&paths.content_lock())?;
    let ingest = Ingest::create(paths)?;
    let (base, base_config) = find_base(paths, request.base)?;
    let new = take_in(paths, limits, &ingest, stream).map_err(|error| match error {
        IngestError::Store(error) => LoadError::Store(error),
        source => LoadError::NewLayer(source),
    })?;

    let json = |error| LoadError::Image(ImageError::Json(error));
    let config = (request.describe)(&base_config, new.as_ref().map(|layer| &layer.diff_id));
    let config_text = serde_json::to_vec(&config).map_err(json)?;
    let document: ConfigDocument = serde_json::from_slice(&config_text).map_err(json)?;
    let layers: Vec<LayerRecord> = base.layers.into_iter().chain(new).collect();
    let diff_ids = &document.rootfs.diff_ids;
    if !diff_ids.iter().eq(layers.iter().map(|layer| &layer.diff_id)) {
        let (layers, diff_ids) = (layers.len(), diff_ids.len());
        return Err(ImageError::Layers { layers, diff_ids }.into());
    }
    super::check_layers(&document, layers.len())?;
    let source = |layer: LayerRecord| {
        let bytes = LayerBytes::Here(Content::of_file(&paths.blob(&layer.blob))?);
        let (diff_id, digest) = (layer.diff_id, Some(layer.blob));
        Ok(LayerSource { diff_id, bytes, stated: None, digest })
    };
    let layers = layers.into_iter().map(source).collect::<Result<_, StoreError>>()?;
    let names = request.name.into_iter().collect();
    let found = vec![Found { config_text, document, manifest: None, layers, names }];
    let added = super::add(paths, &ingest, limits, found, &NoProgress)?;
    added.first().map(|image| image.id).ok_or(LoadError::Image(ImageError::NotImages))
}

/// The image's record and config. What they name stays, as the content lock is held.
fn find_base(paths: &Paths, id: ImageId) -> Result<(Record, serde_json::Value), LoadError> {
    let catalog = Catalog::read(paths)?;
    let record = catalog.images.into_iter().find(|record| record.id == id);
    let record = record.ok_or(ImageError::Base(id))?;
    let content = Content::of_file(&paths.blob(&id.0))?;
    let text = super::read_document(&id.to_string(), &content)?;
    Ok((record, serde_json::from_slice(&text).map_err(ImageError::Json)?))
}

/// Makes a layer of the stream and publishes it; `None` for an archive of nothing.
fn take_in(
    paths: &Paths,
    limits: &Limits,
    ingest: &Ingest,
    stream: &mut dyn Read,
) -> Result<Option<LayerRecord>, IngestError> {
    let kept = ingest.path().join("commit");
    let folder = ingest.path().join("commit-layer");
    create_folder(&folder)?;
    let packing = Packing::new(stream, &kept)?;
    let decoder = Decoder::new(packing, Compression::None, true, limits);
    let mut decoder = decoder.map_err(IngestError::Read)?;
    let unpacked = unpack(&mut decoder, &folder, limits).map_err(named_error)?;
    let (_, diff_id, packing) = decoder.finish().map_err(read_error)?;
    let (file, blob) = packing.finish().map_err(read_error)?;
    let diff_id = diff_id.ok_or_else(|| IngestError::Read(io::ErrorKind::InvalidData.into()))?;
    if diff_id == Digest::of(&EMPTY) {
        return Ok(None);
    }
    file.sync_all().map_err(io_error("sync", &kept))?;
    unpacked.finish()?;
    sync_folder(&folder)?;
    let published = paths.layer(&diff_id);
    let _making = Lock::exclusive(&paths.making_lock(&diff_id))?;
    if !published.exists() {
        publish(&folder, &published)?;
    }
    publish_blob(&kept, &paths.blob(&blob))?;
    prove(&published, &blob)?;
    Ok(Some(LayerRecord { diff_id, blob }))
}

/// Reads a stream of a length that nobody knows, and keeps it compressed on the way.
struct Packing<'a> {
    stream: &'a mut dyn Read,
    path: PathBuf,
    packed: GzEncoder<Hashed>,
    buffer: Box<[u8]>,
    /// The part of `buffer` that was not consumed yet.
    from: usize,
    to: usize,
    /// Bytes that came.
    taken: u64,
    /// Zeros that came last.
    zeros: usize,
}

impl<'a> Packing<'a> {
    /// Keeps it in a new file.
    fn new(stream: &'a mut dyn Read, kept: &Path) -> Result<Self, StoreError> {
        let file = Hashed { file: create_new(kept)?, hasher: Sha256::new() };
        // The header of its stream has neither a name nor a time.
        let packed = GzEncoder::new(file, flate2::Compression::default());
        let buffer = vec![0; BUFFER].into_boxed_slice();
        let path = kept.to_owned();
        Ok(Self { stream, path, packed, buffer, from: 0, to: 0, taken: 0, zeros: 0 })
    }

    /// The file and its digest. A stream without an end mark was cut off.
    fn finish(self) -> io::Result<(File, Digest)> {
        if self.zeros < EMPTY.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let finished = self.packed.finish().map_err(io_error("write", &self.path));
        let Hashed { file, hasher } = finished.map_err(io::Error::other)?;
        Ok((file, Digest::from(<[u8; 32]>::from(hasher.finalize()))))
    }

    fn refill(&mut self) -> io::Result<()> {
        let count = loop {
            match self.stream.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        let bytes = self.buffer.get(..count).unwrap_or_default();
        let written = self.packed.write_all(bytes).map_err(io_error("write", &self.path));
        written.map_err(io::Error::other)?;
        let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
        self.zeros = if zeros == count { self.zeros.saturating_add(zeros) } else { zeros };
        self.taken = self.taken.saturating_add(count as u64);
        (self.from, self.to) = (0, count);
        Ok(())
    }
}

impl Read for Packing<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(buf)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Packing<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.from == self.to {
            self.refill()?;
        }
        Ok(self.buffer.get(self.from..self.to).unwrap_or_default())
    }

    fn consume(&mut self, amount: usize) {
        self.from = self.from.saturating_add(amount).min(self.to);
    }
}

impl Compressed for Packing<'_> {
    fn taken(&self) -> u64 {
        self.taken
    }
}

/// A file that is hashed as it is written.
struct Hashed {
    file: File,
    hasher: Sha256,
}

impl Write for Hashed {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let count = self.file.write(buf)?;
        self.hasher.update(buf.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
