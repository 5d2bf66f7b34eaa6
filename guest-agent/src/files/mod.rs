//! The container's files, for `vmrun cp`: what is at a path, an archive of it, and an archive
//! unpacked, as Docker's API has these three (`HEAD`, `GET` and `PUT` of
//! `/containers/NAME/archive`).
//!
//! Plain blocking functions, for a process of their own whose streams are the host's; its umask
//! should be empty. The container may run, and do to its files whatever it likes at the same time:
//! every name is resolved by the kernel from a descriptor of the container's root (`openat2`), never
//! through links of `/proc`, so nothing leads out, whatever the process's own root is.
//!
//! As in Docker, what the kernel makes up (`/proc`, `/sys`) is not there: directories of it are
//! empty, files cannot be found. File systems in memory are left out of what is around them, and
//! can be had by their own names.

mod resolve;
#[cfg(test)]
mod tests;

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use agent_protocol::{FrameError, PathAnswer, PathStat, write_frame};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, open, statat};
use rustix::io::Errno;
use tar_stream::tree::{
    Destination, Entries, PackError, Rights, Source, UnpackError, pack, show, unpack, words,
};

use resolve::{Resource, open_directory, resolve, root_words};

/// Bytes that are read or written at once.
const CHUNK: usize = 128 << 10;

/// Why a task on the container's files failed; its `Display` is in Docker's words.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Nothing is at the path.
    #[error("Could not find the file {0}")]
    NotFound(String),
    /// An archive is unpacked into directories only.
    #[error("extraction point is not a directory")]
    NotDirectory,
    /// A path cannot be looked at.
    #[error("lstat {path}: {}", words(*.cause))]
    Lstat {
        /// Which one.
        path: String,
        /// Why.
        cause: Errno,
    },
    /// An archive could not be made.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// An archive could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The host is gone.
    #[error("cannot read what the host sends")]
    Read(#[source] io::Error),
    /// The host is gone.
    #[error("cannot answer the host")]
    Answer(#[source] FrameError),
}

impl FilesError {
    fn at(path: &[u8], cause: Errno) -> Self {
        match cause {
            Errno::NOENT => Self::NotFound(show(path)),
            cause => Self::Lstat { path: show(path), cause },
        }
    }
}

/// The files of one container.
#[derive(Debug)]
pub struct Files {
    root: OwnedFd,
}

impl Files {
    /// Takes the directory that is the container's root.
    pub fn open(root: &Path) -> Result<Self, FilesError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = open(root, flags, Mode::empty());
        let root =
            opened.map_err(|cause| FilesError::at(root.as_os_str().as_encoded_bytes(), cause))?;
        Ok(Self { root })
    }

    /// Writes one frame with what is at a path, a [`PathAnswer`].
    pub fn stat(&self, path: &[u8], out: &mut impl Write) -> Result<(), FilesError> {
        let answer = match self.look(path) {
            Ok(stat) => PathAnswer::Found(stat),
            Err(Errno::NOENT) => PathAnswer::Missing,
            Err(cause) => PathAnswer::Failed(FilesError::at(path, cause).to_string()),
        };
        write_frame(out, &answer).map_err(FilesError::Answer)
    }

    /// Writes the archive of what is at a path. Names in it begin with the last one of the path; a
    /// symbolic link there is archived as one, unless a slash follows.
    pub fn archive(&self, path: &[u8], out: &mut impl Write) -> Result<(), FilesError> {
        let not_found = |cause| FilesError::at(path, cause);
        let resource = Resource::find(self.root.as_fd(), path).map_err(not_found)?;
        statat(&resource.folder, &resource.entry[..], AtFlags::SYMLINK_NOFOLLOW)
            .map_err(not_found)?;
        let source = Source {
            folder: resource.folder.as_fd(),
            entry: &resource.entry,
            name: &resource.name,
            shown: path,
            owner: None,
            without_tmpfs: true,
        };
        Ok(pack(&source, BufWriter::with_capacity(CHUNK, out))?)
    }

    /// Unpacks an archive into a directory, with the owners that it names, and reads the input to
    /// its end. A directory and something else do not take each other's place.
    pub fn extract(&self, folder: &[u8], input: &mut impl Read) -> Result<(), FilesError> {
        let not_found = |cause| match cause {
            Errno::NOTDIR => FilesError::NotDirectory,
            cause => FilesError::at(folder, cause),
        };
        let root = self.root.as_fd();
        let resolved = resolve(root, &root_words(folder)).map_err(not_found)?;
        open_directory(root, &resolved).map_err(not_found)?;
        let shown = [b"/", &resolved[..]].concat();
        let folder = if resolved.is_empty() { b"." } else { &resolved[..] };
        let destination = Destination { root, folder, shown: &shown, rights: Rights::Root };
        let mut input = BufReader::with_capacity(CHUNK, input);
        unpack(&destination, &Entries::Any, &mut input)?;
        // Whoever sends it should see it all taken, padding and all.
        io::copy(&mut input, &mut io::sink()).map(drop).map_err(FilesError::Read)
    }

    fn look(&self, path: &[u8]) -> Result<PathStat, Errno> {
        let root = self.root.as_fd();
        let resource = Resource::find(root, path)?;
        let stat = statat(&resource.folder, &resource.entry[..], AtFlags::SYMLINK_NOFOLLOW)?;
        let link_target = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => [b"/", &resolve(root, &root_words(path))?[..]].concat(),
            _ => Vec::new(),
        };
        Ok(PathStat {
            name: resource.name,
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            mode: stat.st_mode,
            mtime_seconds: stat.st_mtime,
            mtime_nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
            link_target,
        })
    }
}
