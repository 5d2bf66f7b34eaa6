//! From a path that somebody typed to a place in the container's root, by Docker's rules: `..` is
//! taken back word by word first, then links are followed, and what leads above the root leads to
//! the root. The last name of a path is not followed, unless a slash is behind it.

use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, fstatfs, openat2, readlinkat};
use rustix::io::{self, Errno};
use tar_stream::tree::is_of_kernel;

/// Links followed for one path, as many as in Docker.
const MAX_LINKS: u32 = 255;

/// What a path names: something in a directory.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) folder: OwnedFd,
    /// Its name there; `.` for the directory itself.
    pub(super) entry: Vec<u8>,
    /// What it is called in an archive: the path's last name, `/` for the root, `.` after `/.`.
    pub(super) name: Vec<u8>,
}

impl Resource {
    /// Finds the directory; whether something of that name is in it is not looked at.
    pub(super) fn find(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<Self> {
        let mut words = root_words(path);
        let name = words.last().map_or(&b"/"[..], |&last| last).to_vec();
        let end = path.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
        let (typed, slashes) = path.split_at_checked(end).unwrap_or_default();
        let last = typed.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let (entry, name) = match last {
            b"." => (b".".to_vec(), b".".to_vec()),
            // Docker takes no path for the contents of the root.
            _ if path.is_empty() => (b".".to_vec(), b".".to_vec()),
            _ if !slashes.is_empty() => (b".".to_vec(), name),
            _ => match words.pop() {
                Some(entry) => (entry.to_vec(), name),
                None => (b".".to_vec(), name),
            },
        };
        let folder = open_directory(root, &resolve(root, &words)?)?;
        if entry != b"." && is_of_kernel(&fstatfs(&folder)?) {
            return Err(Errno::NOENT);
        }
        Ok(Self { folder, entry, name })
    }
}

/// The words of a path from the root, without `.` and `..`.
pub(super) fn root_words(path: &[u8]) -> Vec<&[u8]> {
    let mut words = Vec::new();
    for word in path.split(|&byte| byte == b'/') {
        match word {
            b"" | b"." => {}
            b".." => drop(words.pop()),
            word => words.push(word),
        }
    }
    words
}

/// Opens a directory by a resolved path, for names to be looked up in it.
pub(super) fn open_directory(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    open(root, path, OFlags::PATH | OFlags::DIRECTORY)
}

/// Follows all links of a path within the root. What is left has no link in it and is relative to
/// the root, empty for the root itself; it need not exist.
pub(super) fn resolve(root: BorrowedFd<'_>, words: &[&[u8]]) -> io::Result<Vec<u8>> {
    let mut left: Vec<Vec<u8>> = words.iter().rev().map(|word| word.to_vec()).collect();
    let mut done: Vec<Vec<u8>> = Vec::new();
    let mut links = 0;
    while let Some(word) = left.pop() {
        match &word[..] {
            b"" | b"." => continue,
            b".." => {
                done.pop();
                continue;
            }
            _ => done.push(word),
        }
        let Some(target) = link_target(root, &done.join(&b'/'))? else { continue };
        links += 1;
        if links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        done.pop();
        if target.starts_with(b"/") {
            done.clear();
        }
        left.extend(target.split(|&byte| byte == b'/').rev().map(<[u8]>::to_vec));
    }
    Ok(done.join(&b'/'))
}

/// Where a symbolic link points; `None` for everything else, or nothing.
fn link_target(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let opened = match open(root, path, OFlags::PATH | OFlags::NOFOLLOW) {
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        opened => opened?,
    };
    match readlinkat(opened, c"", Vec::new()) {
        Ok(target) => Ok(Some(target.into_bytes())),
        Err(Errno::INVAL | Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens what has no link in its path.
fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let path = if path.is_empty() { b"." } else { path };
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how)
}
