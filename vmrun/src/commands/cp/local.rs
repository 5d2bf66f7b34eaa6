//! The local side: Docker's rules for links at the source and at the destination.

use std::{
    fs::{self, File, Metadata},
    io,
    os::unix::{ffi::OsStrExt, fs::FileTypeExt},
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};
use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
};
use tar_stream::tree::{show, words};

use super::{
    paths::{End, TypedPath, as_path},
    plan::{Found, Source, Target},
};

/// Links followed at the destination, as many as in Docker.
const MAX_LINKS: u32 = 10;

/// Looks at the source. Links on the way are followed, the last one only if asked to or if a slash
/// is behind it; what it is called stays.
pub fn source(path: &TypedPath, follow: bool) -> Result<Source> {
    let resolved = if follow || path.end != End::Name {
        path.moved_to(&real_path(&path.to_bytes())?)
    } else {
        let folder = real_path(&path.parent())?;
        path.moved_to(&folder.join(as_path(&path.base())))
    };
    let bytes = resolved.to_bytes();
    let metadata = lstat(&bytes).map_err(|error| failed("lstat", &bytes, &error))?;
    let called = (resolved.base() != path.base()).then(|| path.base());
    Ok(Source { path: resolved, called, is_directory: metadata.is_dir() })
}

/// Refuses a destination that cannot be one before anything else is done.
pub fn check_output(path: &TypedPath) -> Result<()> {
    let folder = path.parent();
    if let Err(error) = fs::metadata(as_path(&folder))
        && error.kind() == io::ErrorKind::NotFound
    {
        bail!("invalid output path: directory \"{}\" does not exist", show(&folder));
    }
    let bytes = path.to_bytes();
    match fs::metadata(as_path(&bytes)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("stat", &bytes, &error)),
        Ok(found) if found.file_type().is_char_device() || found.file_type().is_block_device() => {
            let path = show(&bytes);
            bail!(
                "invalid output path: \"{path}\" must be a directory or a regular file: got a device"
            )
        }
        Ok(_) => Ok(()),
    }
}

/// Looks at the destination. Links there are followed, also to nothing: that is then what is made.
pub fn target(path: &TypedPath) -> Result<Target> {
    let mut at = path.clone();
    for _ in 0..=MAX_LINKS {
        let bytes = at.to_bytes();
        match lstat(&bytes) {
            Ok(found) if found.is_symlink() => {
                let target = fs::read_link(as_path(&bytes))
                    .map_err(|error| failed("readlink", &bytes, &error))?;
                let folder = at.parent();
                at = TypedPath::from_folder(as_path(&folder), target.as_os_str().as_bytes());
            }
            Ok(found) => {
                let found = if found.is_dir() { Found::Directory } else { Found::Other };
                return Ok(Target { path: at, found });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = at.folder();
                match fs::metadata(as_path(&folder)) {
                    Ok(found) if found.is_dir() => {}
                    Ok(_) => bail!("not a directory"),
                    Err(error) => return Err(failed("stat", &folder, &error)),
                }
                return Ok(Target { path: at, found: Found::Nothing });
            }
            Err(error) => return Err(failed("lstat", &bytes, &error)),
        }
    }
    bail!("too many symlinks in {}", show(&path.to_bytes()))
}

/// Opens a directory, for names to be looked up in it.
pub fn open_directory(path: &[u8]) -> Result<File> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let opened = rustix::fs::open(as_path(path), flags, Mode::empty());
    Ok(File::from(opened.map_err(|error| failed("open", path, &error.into()))?))
}

fn lstat(path: &[u8]) -> io::Result<Metadata> {
    fs::symlink_metadata(as_path(path))
}

/// The path with all links followed; an error names the first part of it that is not there.
fn real_path(path: &[u8]) -> Result<PathBuf> {
    let path = as_path(path);
    path.canonicalize().map_err(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            return anyhow::anyhow!("{}", words(errno(&error)));
        }
        let missing = |part: &&Path| fs::metadata(part).is_err();
        let ancestors: Vec<&Path> = path.ancestors().collect();
        let first = ancestors.into_iter().rev().find(missing).unwrap_or(path);
        failed("lstat", first.as_os_str().as_bytes(), &error)
    })
}

/// An error as Docker says it.
fn failed(what: &str, path: &[u8], error: &io::Error) -> anyhow::Error {
    anyhow::anyhow!("{what} {}: {}", show(path), words(errno(error)))
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
