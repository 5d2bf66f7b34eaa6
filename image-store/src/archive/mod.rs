//! The archive that images come in: files by name, wherever they really are.
//!
//! A tar file that is not compressed is read in place, by offset. A compressed one, or a stream,
//! is spooled: each of its files goes into the load's ingest folder, hashed on the way, and is
//! later moved into the store from there without another copy. A folder is read as it is.

mod content;
mod tarball;

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

pub(crate) use content::{Content, Intake, Spooled};

use crate::compression::{Compression, CompressionError, Counted, Decoder};
use crate::files::io_error;
use crate::layer::{normalise, show};
use crate::limits::{Limits, MAX_ARCHIVE_MEMBERS};
use crate::tar::{SeekInput, TarError};
use crate::{Source, StoreError};

/// Links followed for one name: `docker save` had one where layers were equal.
const MAX_LINKS: usize = 8;

/// Why an archive cannot be read.
#[derive(Debug, Error)]
pub enum ArchiveError {
    /// It cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The stream cannot be read.
    #[error("cannot read the archive")]
    Stream(#[source] io::Error),
    /// It is compressed in a way that is not supported.
    #[error("cannot read the archive")]
    Compression(#[from] CompressionError),
    /// It is not a tar archive, or a damaged one.
    #[error("not a tar archive, or a damaged one")]
    Tar(#[from] TarError),
    /// Too many files in it.
    #[error("more than {MAX_ARCHIVE_MEMBERS} files in the archive")]
    Members,
    /// A name in it leads in circles or is not a file.
    #[error("{0:?} in the archive is not a file")]
    NotAFile(String),
    /// A sparse file in it.
    #[error("{0:?} in the archive is a sparse file")]
    Sparse(String),
    /// It cannot be spooled.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a name in a tar archive stands for.
#[derive(Debug)]
enum Member {
    File(Content),
    /// Another name, relative to the archive's root.
    Link(Vec<u8>),
}

/// An archive that images come in.
#[derive(Debug)]
pub(crate) enum Archive {
    Folder(PathBuf),
    Tar(Members),
}

/// The files of a tar archive.
#[derive(Debug, Default)]
pub(crate) struct Members(HashMap<Vec<u8>, Member>);

impl Archive {
    /// Opens an archive; `ingest` is where it is spooled if need be.
    pub(crate) fn open(
        source: Source<'_>,
        ingest: &Path,
        limits: &Limits,
    ) -> Result<Self, ArchiveError> {
        let path = match source {
            Source::Path(path) => path,
            Source::Stream(stream) => return Self::spool(stream, ingest, limits),
        };
        let failed = |source| ArchiveError::Read { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if metadata.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        if !metadata.is_file() {
            return Self::spool(&mut &file, ingest, limits);
        }
        let mut head = Vec::new();
        (&file).take(16).read_to_end(&mut head).map_err(failed)?;
        let again = File::open(path).map_err(failed)?;
        match Compression::detect(&head)? {
            Compression::None => {
                let input = SeekInput::new(again).map_err(failed)?;
                Ok(Self::Tar(tarball::scan(input, file)?))
            }
            _ => Self::spool(&mut &again, ingest, limits),
        }
    }

    fn spool(stream: &mut dyn Read, ingest: &Path, limits: &Limits) -> Result<Self, ArchiveError> {
        let mut stream = BufReader::with_capacity(128 << 10, stream);
        let compression = Compression::detect(stream.fill_buf().map_err(ArchiveError::Stream)?)?;
        let decoder = Decoder::new(Counted::new(stream), compression, false, limits);
        let decoder = decoder.map_err(ArchiveError::Stream)?;
        Ok(Self::Tar(tarball::spool(decoder, ingest)?))
    }

    /// The file of that name; `None` if there is none.
    pub(crate) fn file(&self, name: &str) -> Result<Option<Content>, ArchiveError> {
        match self {
            Self::Folder(folder) => open_in(folder, name),
            Self::Tar(members) => members.file(name),
        }
    }
}

/// Opens a file of a folder. It must be a regular one: a FIFO would block for ever.
fn open_in(folder: &Path, name: &str) -> Result<Option<Content>, ArchiveError> {
    let not_a_file = || ArchiveError::NotAFile(show(name.as_bytes()));
    if normalise(name.as_bytes()).is_err() {
        return Err(not_a_file());
    }
    let path = folder.join(name.trim_start_matches('/'));
    let flags = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(ArchiveError::Read { path, source }),
    };
    let metadata = file.metadata().map_err(io_error("read", &path))?;
    if !metadata.is_file() {
        return Err(not_a_file());
    }
    Ok(Some(Content::whole(file, metadata.len())))
}

impl Members {
    fn add(&mut self, path: Vec<u8>, member: Member) -> Result<(), ArchiveError> {
        if self.0.len() >= MAX_ARCHIVE_MEMBERS {
            return Err(ArchiveError::Members);
        }
        self.0.insert(path, member);
        Ok(())
    }

    fn file(&self, name: &str) -> Result<Option<Content>, ArchiveError> {
        let not_a_file = || ArchiveError::NotAFile(show(name.as_bytes()));
        let mut path = normalise(name.as_bytes()).map_err(|_| not_a_file())?;
        for _ in 0..MAX_LINKS {
            match self.0.get(&path) {
                None => return Ok(None),
                Some(Member::File(content)) => return Ok(Some(content.clone())),
                Some(Member::Link(target)) => path.clone_from(target),
            }
        }
        Err(not_a_file())
    }
}
