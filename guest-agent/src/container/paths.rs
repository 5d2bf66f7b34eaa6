//! Making names inside the container's root. The image is hostile: any component may be a symlink,
//! a dangling one too. All of it is resolved by the kernel in a process whose root is the
//! container's, so nothing leads out; links of `/proc` that lead elsewhere are refused for files.

use std::os::fd::OwnedFd;

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, mkdir, openat2, readlink, stat};
use rustix::io::{self, Errno};

/// Dangling symlinks followed on the way to one name, as many as the kernel follows.
const MAX_LINKS: u32 = 40;

const DIRECTORY: Mode = Mode::from_bits_retain(0o755);
const FILE: Mode = Mode::from_bits_retain(0o644);

/// Makes a directory and the missing ones above it, as root's, mode 0755 less the umask. Where a
/// symlink points to nothing, that is what gets made.
pub(super) fn make_directories(path: &[u8]) -> io::Result<()> {
    make_directories_at(path, MAX_LINKS)
}

fn make_directories_at(path: &[u8], links: u32) -> io::Result<()> {
    match mkdir(path, DIRECTORY) {
        Err(Errno::NOENT) => {
            make_directories_at(parent(path).ok_or(Errno::NOENT)?, links)?;
            match mkdir(path, DIRECTORY) {
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(error) => Err(error),
            }
        }
        Err(Errno::EXIST) => match stat(path) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::Directory => Ok(()),
            Ok(_) => Err(Errno::NOTDIR),
            Err(Errno::NOENT) => {
                let links = links.checked_sub(1).ok_or(Errno::LOOP)?;
                make_directories_at(&link_target(path)?, links)
            }
            Err(error) => Err(error),
        },
        made => made,
    }
}

/// Opens the place that a file is to be mounted on, made as an empty file if it is missing.
pub(super) fn file_mount_point(path: &[u8]) -> io::Result<OwnedFd> {
    let mut path = path.to_vec();
    for _ in 0..MAX_LINKS {
        match open(&path, OFlags::PATH, Mode::empty()) {
            Err(Errno::NOENT) => {}
            opened => return opened,
        }
        // This follows a last dangling symlink, as long as the directory is there.
        match open(&path, OFlags::CREATE | OFlags::WRONLY | OFlags::NONBLOCK, FILE) {
            Err(Errno::NOENT) => {}
            made => return made,
        }
        match link_target(&path) {
            Ok(target) => path = target,
            Err(_) => make_directories(parent(&path).ok_or(Errno::NOENT)?)?,
        }
    }
    Err(Errno::LOOP)
}

/// Opens a file of the image for reading, whatever it is: never waits for the other end of a FIFO,
/// never leaves through a link of `/proc`.
pub(super) fn open_file(path: &[u8]) -> io::Result<OwnedFd> {
    open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty())
}

fn open(path: &[u8], flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    openat2(CWD, path, flags | OFlags::CLOEXEC, mode, ResolveFlags::NO_MAGICLINKS)
}

/// Where a symlink points, seen from the directory it lies in.
fn link_target(path: &[u8]) -> io::Result<Vec<u8>> {
    let target = readlink(trimmed(path), Vec::new())?.into_bytes();
    if target.starts_with(b"/") {
        return Ok(target);
    }
    Ok([parent(path).ok_or(Errno::NOENT)?, b"/", &target].concat())
}

/// The path without its last component; `None` where nothing is left to make.
fn parent(path: &[u8]) -> Option<&[u8]> {
    let path = trimmed(path);
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    let parent = path.get(..slash)?;
    if trimmed(path).is_empty() {
        None
    } else {
        Some(if parent.is_empty() { b"/" } else { parent })
    }
}

fn trimmed(mut path: &[u8]) -> &[u8] {
    while let [rest @ .., b'/'] = path {
        path = rest;
    }
    path
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use super::*;

    fn below(root: &tempfile::TempDir, path: &str) -> Vec<u8> {
        [root.path().as_os_str().as_bytes(), b"/", path.as_bytes()].concat()
    }

    #[test]
    fn directories_are_made_as_deep_as_needed() {
        let root = tempfile::tempdir().unwrap();
        make_directories(&below(&root, "a//b/c/")).unwrap();
        make_directories(&below(&root, "a/b/c")).unwrap();
        assert!(root.path().join("a/b/c").is_dir());
    }

    #[test]
    fn dangling_symlink_on_the_way_is_followed() {
        let root = tempfile::tempdir().unwrap();
        symlink("real/place", root.path().join("link")).unwrap();
        make_directories(&below(&root, "link/sub")).unwrap();
        assert!(root.path().join("real/place/sub").is_dir());
    }

    #[test]
    fn file_in_the_way_of_a_directory_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        assert_eq!(make_directories(&below(&root, "file")), Err(Errno::NOTDIR));
        assert_eq!(make_directories(&below(&root, "file/sub")), Err(Errno::NOTDIR));
    }

    #[test]
    fn symlink_loop_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        symlink("b", root.path().join("a")).unwrap();
        symlink("a", root.path().join("b")).unwrap();
        assert_eq!(make_directories(&below(&root, "a/x")), Err(Errno::LOOP));
        assert_eq!(file_mount_point(&below(&root, "a")).unwrap_err(), Errno::LOOP);
    }

    #[test]
    fn symlink_that_grows_for_ever_is_an_error() {
        let root = tempfile::tempdir().unwrap();
        symlink("grow/x", root.path().join("grow")).unwrap();
        assert!(make_directories(&below(&root, "grow/y")).is_err());
        assert!(file_mount_point(&below(&root, "grow")).is_err());
    }

    #[test]
    fn mount_point_is_made_where_a_dangling_symlink_points() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        symlink("../run/systemd/stub.conf", root.path().join("etc/resolv.conf")).unwrap();
        file_mount_point(&below(&root, "etc/resolv.conf")).unwrap();
        assert!(root.path().join("run/systemd/stub.conf").is_file());
    }

    #[test]
    fn existing_mount_point_is_left_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("hosts"), "of the image").unwrap();
        file_mount_point(&below(&root, "hosts")).unwrap();
        assert_eq!(fs::read(root.path().join("hosts")).unwrap(), b"of the image");
    }
}
