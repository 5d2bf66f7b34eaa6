//! Ingests one layer: verified against both of its digests, then published, once.

use std::fs::{self, File};
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use crate::archive::{Content, Intake};
use crate::compression::{Compression, CompressionError, Decoder, is_wide};
use crate::files::{create_folder, create_new, io_error, publish, sync_folder};
use crate::layer::{LayerError, unpack};
use crate::limits::Limits;
use crate::paths::{Lock, Paths};
use crate::tar::TarError;
use crate::{Digest, Progress, Remote, RemoteError, StoreError};

/// Why a layer cannot be ingested.
#[derive(Debug, Error)]
pub enum IngestError {
    /// Its tar stream.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// It cannot be read or decompressed.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// It does not come.
    #[error("cannot fetch it")]
    Fetch(#[source] RemoteError),
    /// Another layer of the image failed, so this one is not wanted any more.
    #[error("given up")]
    Stopped,
    /// It is compressed in a way that is not supported.
    #[error("cannot read it")]
    Compression(#[from] CompressionError),
    /// Its media type and its first bytes do not agree.
    #[error("its media type says {stated}, its first bytes say {found}")]
    MediaType {
        /// By the media type.
        stated: String,
        /// By the bytes.
        found: String,
    },
    /// What came out is not what the config names.
    #[error("its content has diffID {0}")]
    DiffId(Digest),
    /// The compressed bytes are not what the manifest names.
    #[error("its compressed bytes have digest {found} instead of {expected}")]
    Digest {
        /// The manifest's.
        expected: Digest,
        /// What was read.
        found: Digest,
    },
    /// The store itself does not work.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A layer of an archive or a registry.
#[derive(Clone)]
pub(super) struct LayerSource<'a> {
    pub(super) diff_id: Digest,
    pub(super) bytes: LayerBytes<'a>,
    /// By the media type; `None` if the archive has none.
    pub(super) stated: Option<Compression>,
    /// Of the compressed bytes; `None` if the archive does not say.
    pub(super) digest: Option<Digest>,
}

/// Where the bytes of a layer are.
#[derive(Clone)]
pub(super) enum LayerBytes<'a> {
    /// In a file of this host.
    Here(Content),
    /// At a registry, which says how many they are. Such a layer always has a digest and says how
    /// it is compressed.
    There { remote: &'a dyn Remote, size: u64 },
}

impl LayerBytes<'_> {
    /// Bytes.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Here(content) => content.length(),
            Self::There { size, .. } => *size,
        }
    }
}

/// What is known of a layer once it is in the store.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ingested {
    pub(super) blob: Digest,
    pub(super) compression: Compression,
}

/// Ingests layers into a store.
pub(super) struct LayerIngest<'a> {
    pub(super) paths: &'a Paths,
    pub(super) ingest: &'a Path,
    pub(super) limits: &'a Limits,
    pub(super) progress: &'a dyn Progress,
    /// Held while a layer is ingested that needs much memory.
    pub(super) wide: Mutex<()>,
    /// Set when one layer has failed.
    pub(super) failed: AtomicBool,
}

impl LayerIngest<'_> {
    /// Brings a layer into the store, unless it is there; `number` tells this layer's files in the
    /// ingest folder from others'.
    pub(super) fn run(
        &self,
        layer: &LayerSource<'_>,
        number: usize,
    ) -> Result<Ingested, IngestError> {
        match (&layer.bytes, layer.digest, layer.stated) {
            (LayerBytes::Here(content), ..) => self.run_here(layer, content, number),
            (LayerBytes::There { remote, size }, Some(blob), Some(stated)) => {
                let _making = Lock::exclusive(&self.paths.making_lock(&layer.diff_id))?;
                if !self.is_known(&layer.diff_id, &blob) {
                    self.fetch(layer, *remote, *size, blob, stated, number)?;
                }
                self.progress.layer(&blob, *size, *size);
                Ok(Ingested { blob, compression: stated })
            }
            _ => Err(IngestError::Read(io::ErrorKind::InvalidInput.into())),
        }
    }

    fn run_here(
        &self,
        layer: &LayerSource<'_>,
        content: &Content,
        number: usize,
    ) -> Result<Ingested, IngestError> {
        let head = content.head().map_err(IngestError::Read)?;
        let compression = Compression::detect(&head)?;
        if let Some(stated) = layer.stated
            && content.length() > 0
        {
            check_stated(stated, compression)?;
        }
        // What is not compressed has the same digest twice.
        let digest =
            layer.digest.or_else(|| (compression == Compression::None).then_some(layer.diff_id));
        let _making = Lock::exclusive(&self.paths.making_lock(&layer.diff_id))?;
        let _wide = is_wide(&head, Some(content.length())).then(|| self.be_wide());
        let blob = match digest {
            Some(blob) if self.is_known(&layer.diff_id, &blob) => blob,
            _ => self.ingest(layer, content, digest, compression, number)?,
        };
        self.progress.layer(&layer.diff_id, content.length(), content.length());
        Ok(Ingested { blob, compression })
    }

    /// Waits for its turn to have much memory.
    fn be_wide(&self) -> MutexGuard<'_, ()> {
        self.wide.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether both are there, and the blob is known to decompress to that layer.
    fn is_known(&self, diff_id: &Digest, blob: &Digest) -> bool {
        self.paths.blob(blob).exists() && self.paths.layer(diff_id).join(proof(blob)).exists()
    }

    /// Ingests a layer while it comes from a registry.
    fn fetch(
        &self,
        layer: &LayerSource<'_>,
        remote: &dyn Remote,
        size: u64,
        blob: Digest,
        stated: Compression,
        number: usize,
    ) -> Result<(), IngestError> {
        let tell = |done| self.progress.layer(&blob, done, size);
        tell(0);
        let kept = self.ingest.join(format!("blob-{number}"));
        let copy = create_new(&kept)?;
        let stream = remote.blob(&blob, size).map_err(IngestError::Fetch)?;
        let stream = Box::new(Stoppable { stream, stop: &self.failed });
        let mut intake = Intake::of_stream(stream, size, (copy, kept.clone()), &tell);
        let head = intake.fill_buf().map_err(read_error)?;
        if size > 0 {
            check_stated(stated, Compression::detect(head)?)?;
        }
        let _wide = is_wide(head, Some(size)).then(|| self.be_wide());
        self.take_in(layer, intake, Some(blob), stated, &kept, None, number)?;
        Ok(())
    }

    fn ingest(
        &self,
        layer: &LayerSource<'_>,
        content: &Content,
        expected: Option<Digest>,
        compression: Compression,
        number: usize,
    ) -> Result<Digest, IngestError> {
        let kept = match content.spool() {
            Some(spooled) => spooled.path.clone(),
            None => self.ingest.join(format!("blob-{number}")),
        };
        let tell = |done| self.progress.layer(&layer.diff_id, done, content.length());
        let copy = self.copy_target(content, &kept)?;
        // A file system that can share blocks has copied at once.
        let cloned = copy.as_ref().is_some_and(|file| clone_whole(content, file));
        let cloned_content = if cloned { Some(Content::of_file(&kept)?) } else { None };
        let content = cloned_content.as_ref().unwrap_or(content);
        let (copied, copy) = if cloned { (copy, None) } else { (None, copy) };
        let intake = Intake::new(content, copy.map(|file| (file, kept.clone())), &tell);
        let aside = copied.as_ref().unwrap_or_else(|| content.file());
        self.take_in(layer, intake, expected, compression, &kept, Some(aside), number)
    }

    /// Decompresses, unpacks, verifies and publishes what comes in; gives its digest. The file
    /// `kept` has the layer as it is afterwards; it is the intake's copy, or was written `aside`.
    #[expect(clippy::too_many_arguments, reason = "each is of another kind, and all are needed")]
    fn take_in(
        &self,
        layer: &LayerSource<'_>,
        intake: Intake<'_>,
        expected: Option<Digest>,
        compression: Compression,
        kept: &Path,
        aside: Option<&File>,
        number: usize,
    ) -> Result<Digest, IngestError> {
        let hashed = compression != Compression::None;
        let decoder = Decoder::new(intake, compression, hashed, self.limits);
        let mut decoder = decoder.map_err(IngestError::Read)?;

        let published = self.paths.layer(&layer.diff_id);
        let folder = self.ingest.join(format!("layer-{number}"));
        let unpacked = if published.exists() {
            None
        } else {
            create_folder(&folder)?;
            Some(unpack(&mut decoder, &folder, self.limits).map_err(named_error)?)
        };
        let (_, diff_id, intake) = decoder.finish().map_err(read_error)?;
        let (blob, copy) = intake.finish();
        let (Some(blob), Some(diff_id)) = (blob, diff_id.or(blob)) else {
            return Err(IngestError::Read(io::ErrorKind::InvalidData.into()));
        };
        if diff_id != layer.diff_id {
            return Err(IngestError::DiffId(diff_id));
        }
        if let Some(expected) = expected.filter(|expected| *expected != blob) {
            return Err(IngestError::Digest { expected, found: blob });
        }
        if let Some(file) = copy.as_ref().or(aside) {
            file.sync_all().map_err(io_error("sync", kept))?;
        }
        if let Some(unpacked) = unpacked {
            unpacked.finish()?;
            sync_folder(&folder)?;
            publish(&folder, &published)?;
        }
        publish_blob(kept, &self.paths.blob(&blob))?;
        prove(&published, &blob)?;
        Ok(blob)
    }

    /// The file that a copy of the layer as it is goes to, unless it was spooled to one already.
    fn copy_target(&self, content: &Content, kept: &Path) -> Result<Option<File>, StoreError> {
        match content.spool() {
            Some(_) => Ok(None),
            None => create_new(kept).map(Some),
        }
    }
}

/// Unpacks a blob of the store into a new folder, as it once was for its layer, verifying both
/// digests. An error that is the blob's fault is not of the store, or names the blob.
pub(crate) fn unpack_again(
    paths: &Paths,
    limits: &Limits,
    diff_id: &Digest,
    blob: &Digest,
    folder: &Path,
) -> Result<(), IngestError> {
    let content = Content::of_file(&paths.blob(blob))?;
    let compression = Compression::detect(&content.head().map_err(IngestError::Read)?)?;
    let untold = |_| {};
    let intake = Intake::new(&content, None, &untold);
    let hashed = compression != Compression::None;
    let decoder = Decoder::new(intake, compression, hashed, limits);
    let mut decoder = decoder.map_err(IngestError::Read)?;
    create_folder(folder)?;
    let unpacked = unpack(&mut decoder, folder, limits).map_err(named_error)?;
    let (_, found_diff_id, intake) = decoder.finish().map_err(read_error)?;
    let found = intake.finish().0;
    if let Some(found) = found.filter(|found| found != blob) {
        return Err(IngestError::Digest { expected: *blob, found });
    }
    match found_diff_id.or(found) {
        Some(found) if found == *diff_id => {}
        Some(found) => return Err(IngestError::DiffId(found)),
        None => return Err(IngestError::Read(io::ErrorKind::InvalidData.into())),
    }
    unpacked.finish()?;
    Ok(())
}

/// Ends a stream once another layer has failed.
struct Stoppable<'a> {
    stream: Box<dyn Read + 'a>,
    stop: &'a AtomicBool,
}

impl Read for Stoppable<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other(IngestError::Stopped));
        }
        self.stream.read(buf)
    }
}

fn check_stated(stated: Compression, found: Compression) -> Result<(), IngestError> {
    if stated == found {
        return Ok(());
    }
    Err(IngestError::MediaType { stated: stated.to_string(), found: found.to_string() })
}

/// Name of the empty file in a layer's folder that says that a blob decompresses to the layer.
pub(crate) fn proof(blob: &Digest) -> PathBuf {
    PathBuf::from(format!("from-{}", blob.hex()))
}

/// Notes that a blob decompresses to a layer. Nothing is lost with the note but the time to find that out
/// again, so it is not made durable.
pub(super) fn prove(layer: &Path, blob: &Digest) -> Result<(), StoreError> {
    let path = layer.join(proof(blob));
    File::create(&path).map(drop).map_err(io_error("create", &path))
}

/// Whether a whole file could be copied by sharing its blocks.
fn clone_whole(content: &Content, to: &File) -> bool {
    content.is_whole_file() && rustix::fs::ioctl_ficlone(to, content.file()).is_ok()
}

/// Another layer of the load may have been the same bytes, and have moved the spooled file.
pub(super) fn publish_blob(from: &Path, to: &Path) -> Result<(), StoreError> {
    if fs::exists(to).map_err(io_error("read", to))? {
        return Ok(());
    }
    publish(from, to)
}

/// Errors of the store came through the readers as I/O errors; they speak for themselves.
pub(super) fn read_error(error: io::Error) -> IngestError {
    match error.downcast::<StoreError>() {
        Ok(error) => IngestError::Store(error),
        Err(error) => IngestError::Read(error),
    }
}

pub(super) fn named_error(error: LayerError) -> IngestError {
    match error {
        LayerError::Store(error) => IngestError::Store(error),
        LayerError::Tar { source: TarError::Read(error), after } => {
            match error.downcast::<StoreError>() {
                Ok(error) => IngestError::Store(error),
                Err(error) => LayerError::Tar { source: TarError::Read(error), after }.into(),
            }
        }
        other => other.into(),
    }
}
