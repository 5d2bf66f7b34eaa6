//! From a file tree to an archive.
//!
//! Files that vanish on the way are left out, those that change are cut or filled to the length
//! they had; sockets are left out, as nothing can be said of them. Nothing here waits for the other
//! end of a FIFO or opens a device.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, FsWord, Mode, OFlags, ResolveFlags, Stat, StatFs, fgetxattr,
    fgetxattr_query, flistxattr, flistxattr_query, fstat, fstatfs, major, minor, openat, openat2,
    readlinkat, statat,
};
use rustix::io::Errno;

use super::{is_carried, show, words};
use crate::{Member, MemberKind, TarWriter, Timestamp, Xattr};

/// Bytes of a file that are read at once.
const CHUNK: usize = 128 << 10;

/// cgroup2, debugfs, devpts, mqueue, proc, sysfs, tracefs.
const KERNEL_FILE_SYSTEMS: [FsWord; 7] =
    [0x6367_7270, 0x6462_6720, 0x1cd1, 0x1980_0202, 0x9fa0, 0x6265_6572, 0x7472_6163];
const TMPFS: FsWord = 0x0102_1994;

/// Whether nothing in a file system is a file, only what the kernel makes up: sizes, for one, say
/// nothing there.
#[must_use]
pub fn is_of_kernel(file_system: &StatFs) -> bool {
    KERNEL_FILE_SYSTEMS.contains(&file_system.f_type)
}

/// What is packed: one file, or a directory and all that is below it.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// The directory that it lies in.
    pub folder: BorrowedFd<'a>,
    /// Its name there, or `.` for the directory itself. A symbolic link is packed as one.
    pub entry: &'a [u8],
    /// Its name in the archive; with `.` or `/` only what is below it has one of its own.
    pub name: &'a [u8],
    /// Its path, for messages.
    pub shown: &'a [u8],
    /// Owner and group of everything in the archive; as they are if `None`.
    pub owner: Option<(u32, u32)>,
    /// What is mounted below it from memory is an empty directory in the archive, as what the
    /// kernel makes up (`/proc`, `/sys`) always is.
    pub without_tmpfs: bool,
}

/// Why a tree could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file cannot be read.
    #[error("{what} {path}: {}", words(*.cause))]
    Read {
        /// The system call, as Docker names it.
        what: &'static str,
        /// Which one.
        path: String,
        /// Why.
        cause: Errno,
    },
    /// The archive cannot be written.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
}

/// Writes the archive of a tree, with its end mark.
pub fn pack<W: Write>(source: &Source<'_>, out: W) -> Result<(), PackError> {
    let mut packer = Packer {
        source,
        writer: TarWriter::new(out),
        seen: BTreeMap::new(),
        chunk: vec![0; CHUNK],
    };
    packer.run()?;
    packer.writer.finish().map(drop).map_err(PackError::Write)
}

struct Packer<'a, W> {
    source: &'a Source<'a>,
    writer: TarWriter<W>,
    /// Device and inode of the files that have several names, and the first of those.
    seen: BTreeMap<(u64, u64), Vec<u8>>,
    chunk: Vec<u8>,
}

/// A directory that is being packed.
struct Level {
    /// Relative to the source's folder.
    path: Vec<u8>,
    /// In the archive, with a slash at its end.
    name: Vec<u8>,
    device: u64,
    /// Names in it that are still to come, the next one last.
    left: Vec<Vec<u8>>,
}

impl<W: Write> Packer<'_, W> {
    fn run(&mut self) -> Result<(), PackError> {
        let Source { folder, entry, name, .. } = *self.source;
        let found = statat(folder, entry, AtFlags::SYMLINK_NOFOLLOW);
        found.map_err(|cause| self.failed("lstat", entry, cause))?;
        let mut stack: Vec<Level> = Vec::new();
        stack.extend(self.entry(folder, entry, entry.to_vec(), name.to_vec(), None)?);
        // The topmost directory; one that was left for another below it is opened again.
        let mut open: Option<OwnedFd> = None;
        while let Some(level) = stack.last_mut() {
            let Some(entry) = level.left.pop() else {
                stack.pop();
                open = None;
                continue;
            };
            let path = [&level.path[..], b"/", &entry].concat();
            let name = [&level.name[..], &entry].concat();
            let device = Some(level.device);
            let Some(folder) = open.take().or_else(|| self.reopen(&level.path)) else {
                level.left.clear();
                continue;
            };
            match self.entry(folder.as_fd(), &entry, path, name, device)? {
                Some(below) => stack.push(below),
                None => open = Some(folder),
            }
        }
        Ok(())
    }

    /// A directory by its path from the source's folder, if that still is one.
    fn reopen(&self, path: &[u8]) -> Option<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(self.source.folder, path, flags, Mode::empty(), resolve).ok()
    }

    /// Packs one thing; gives what is in it, if it is a directory. `device` is that of the directory
    /// around it, `None` for the source itself.
    fn entry(
        &mut self,
        folder: BorrowedFd<'_>,
        entry: &[u8],
        path: Vec<u8>,
        name: Vec<u8>,
        device: Option<u64>,
    ) -> Result<Option<Level>, PackError> {
        let stat = match statat(folder, entry, AtFlags::SYMLINK_NOFOLLOW) {
            Err(cause) if is_gone(cause) => return Ok(None),
            found => found.map_err(|cause| self.failed("lstat", &path, cause))?,
        };
        let mut member = self.member(name, &stat);
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => return self.directory(folder, entry, path, member, device),
            FileType::Socket | FileType::Unknown => return Ok(None),
            _ => {}
        }
        if stat.st_nlink > 1 {
            match self.seen.get(&(stat.st_dev, stat.st_ino)) {
                Some(first) => {
                    (member.kind, member.link) = (MemberKind::HardLink, first.clone());
                    return self.begin(&member).map(|()| None);
                }
                None => {
                    self.seen.insert((stat.st_dev, stat.st_ino), member.path.clone());
                }
            }
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.file(folder, entry, &path, member, &stat)?,
            FileType::Symlink => match readlinkat(folder, entry, Vec::new()) {
                // Something else has taken its place.
                Err(Errno::INVAL) => {}
                Err(cause) if is_gone(cause) => {}
                read => {
                    let target = read.map_err(|cause| self.failed("readlink", &path, cause))?;
                    member.link = target.into_bytes();
                    self.begin(&member)?;
                }
            },
            _ => self.begin(&member)?,
        }
        Ok(None)
    }

    fn directory(
        &mut self,
        folder: BorrowedFd<'_>,
        entry: &[u8],
        path: Vec<u8>,
        mut member: Member,
        device: Option<u64>,
    ) -> Result<Option<Level>, PackError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match openat(folder, entry, flags, Mode::empty()) {
            Err(cause) if is_gone(cause) => return Ok(None),
            opened => opened.map_err(|cause| self.failed("open", &path, cause))?,
        };
        let stat = fstat(&opened).map_err(|cause| self.failed("fstat", &path, cause))?;
        member = Member { xattrs: xattrs(&opened), ..self.member(member.path, &stat) };
        if !member.path.ends_with(b"/") {
            member.path.push(b'/');
        }
        self.begin(&member)?;
        if device != Some(stat.st_dev) && self.is_left_out(&opened, device.is_none()) {
            return Ok(None);
        }
        let left = read_names(&opened).map_err(|cause| self.failed("read", &path, cause))?;
        Ok(Some(Level { path, name: member.path, device: stat.st_dev, left }))
    }

    /// Whether a file system is only its mount point in the archive. One in memory is so only
    /// where nobody asked for it.
    fn is_left_out(&self, directory: &OwnedFd, asked_for: bool) -> bool {
        fstatfs(directory).is_ok_and(|found| {
            is_of_kernel(&found) || self.source.without_tmpfs && !asked_for && found.f_type == TMPFS
        })
    }

    fn file(
        &mut self,
        folder: BorrowedFd<'_>,
        entry: &[u8],
        path: &[u8],
        mut member: Member,
        seen: &Stat,
    ) -> Result<(), PackError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = match openat(folder, entry, flags | OFlags::CLOEXEC, Mode::empty()) {
            Err(cause) if is_gone(cause) => return Ok(()),
            opened => opened.map_err(|cause| self.failed("open", path, cause))?,
        };
        let stat = fstat(&file).map_err(|cause| self.failed("fstat", path, cause))?;
        if (stat.st_dev, stat.st_ino) != (seen.st_dev, seen.st_ino) {
            return Ok(());
        }
        member = Member { xattrs: xattrs(&file), ..self.member(member.path, &stat) };
        self.begin(&member)?;
        let mut wanted = member.size > 0;
        while wanted {
            let count = match rustix::io::read(&file, &mut self.chunk[..]) {
                Ok(0) => break,
                Err(Errno::INTR) => continue,
                read => read.map_err(|cause| self.failed("read", path, cause))?,
            };
            let bytes = self.chunk.get(..count).unwrap_or_default();
            wanted = self.writer.data(bytes).map_err(PackError::Write)?;
        }
        Ok(())
    }

    fn begin(&mut self, member: &Member) -> Result<(), PackError> {
        self.writer.member(member).map_err(PackError::Write)
    }

    /// What an inode says of itself.
    fn member(&self, path: Vec<u8>, stat: &Stat) -> Member {
        let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => MemberKind::Directory,
            FileType::Symlink => MemberKind::Symlink,
            FileType::Fifo => MemberKind::Fifo,
            FileType::CharacterDevice => MemberKind::CharDevice { major, minor },
            FileType::BlockDevice => MemberKind::BlockDevice { major, minor },
            _ => MemberKind::Regular,
        };
        let (uid, gid) = self.source.owner.unwrap_or((stat.st_uid, stat.st_gid));
        let size = if kind == MemberKind::Regular { stat.st_size } else { 0 };
        Member {
            path,
            kind,
            mode: u16::try_from(stat.st_mode & 0o7777).unwrap_or_default(),
            uid,
            gid,
            // Whole seconds, as in Docker's archives.
            mtime: Timestamp { seconds: stat.st_mtime, nanoseconds: 0 },
            link: Vec::new(),
            size: u64::try_from(size).unwrap_or_default(),
            xattrs: Vec::new(),
        }
    }

    /// `path` is relative to the source's folder and begins with its entry.
    fn failed(&self, what: &'static str, path: &[u8], cause: Errno) -> PackError {
        let below = path.strip_prefix(self.source.entry).unwrap_or(path);
        PackError::Read { what, path: show(&[self.source.shown, below].concat()), cause }
    }
}

/// Whether a name has vanished, or become another kind of thing, since it was read.
fn is_gone(error: Errno) -> bool {
    matches!(error, Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO | Errno::STALE)
}

/// The names in a directory, in Docker's order, the first one last.
fn read_names(directory: &OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable_by(|one, other| other.cmp(one));
    Ok(names)
}

/// The attributes of an open file that are copied; none where the file system has none.
fn xattrs(file: &OwnedFd) -> Vec<Xattr> {
    let list = whole(|| flistxattr_query(file), |buffer| flistxattr(file, buffer));
    let list = list.unwrap_or_default();
    let names = list.split(|&byte| byte == 0).filter(|name| is_carried(name));
    let named = |name: &[u8]| {
        let value =
            whole(|| fgetxattr_query(file, name), |buffer| fgetxattr(file, name, buffer)).ok()?;
        Some((name.to_vec(), value))
    };
    names.filter_map(named).collect()
}

/// What a call gives that is first asked how many bytes it has; it may have more by then.
fn whole(
    size: impl Fn() -> rustix::io::Result<usize>,
    read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> rustix::io::Result<Vec<u8>> {
    loop {
        let mut bytes = vec![0; size()?];
        match read(&mut bytes) {
            Err(Errno::RANGE) => {}
            length => {
                bytes.truncate(length?);
                return Ok(bytes);
            }
        }
    }
}
