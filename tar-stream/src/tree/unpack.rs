//! From an archive to a file tree.
//!
//! What is made is made anew and never written through: a name that is there is removed first,
//! unless both it and the entry are directories, which are merged; neither takes the other's place
//! (`docker cp` has it so). Metadata goes to what is open, not to a name. Missing directories are
//! made.
//!
//! Directories get their modes and times last, as filling them needs the one and changes the other.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
    chownat, fchmod, fchown, fsetxattr, futimens, linkat, makedev, mkdirat, mknodat, openat,
    openat2, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::names::Entries;
use super::{is_carried, show, words};
use crate::{DataSink, Input, Member, MemberKind, TarError, TarReader, Timestamp};

/// Entries of one archive: more than the inodes of an image and of a container's disk.
const MAX_ENTRIES: u64 = 1 << 22;
/// Bytes of the paths of its directories, which are kept in memory to the end.
const MAX_DIRECTORY_BYTES: usize = 64 << 20;
/// How often a name is resolved anew while something on the way is moved.
const TRIES: u32 = 100;

/// Where an archive is unpacked.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// The directory that all names are resolved in; nothing above it can be reached.
    pub root: BorrowedFd<'a>,
    /// The directory to fill, from there; `.` for itself.
    pub folder: &'a [u8],
    /// Its path, for messages.
    pub shown: &'a [u8],
    /// On whose behalf.
    pub rights: Rights,
}

/// What may be made of an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rights {
    /// Whatever the archive says, in the root of a container, by the rules of that root: symbolic
    /// links on the way are followed within it.
    Root,
    /// What a user's own file may be, whoever made the archive: no link on the way is followed, no
    /// device made, no file with set-user-id or set-group-id. With `owners` they are the archive's,
    /// as far as the user may set them.
    User { owners: bool },
}

/// Why an archive could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive is not one.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// A name leads above the destination.
    #[error("{0:?} is outside of the destination")]
    Outside(String),
    /// A name is not of what was asked for.
    #[error("{0:?} is not part of what was to be copied")]
    Unexpected(String),
    /// A name is longer than Linux takes.
    #[error("{0:?} is too long")]
    PathTooLong(String),
    /// As Docker says it.
    #[error("cannot overwrite directory {path:?} with non-directory {folder:?}")]
    OverDirectory {
        /// What is there.
        path: String,
        /// The destination.
        folder: String,
    },
    /// As Docker says it.
    #[error("cannot overwrite non-directory {path:?} with directory {folder:?}")]
    OverNonDirectory {
        /// What is there.
        path: String,
        /// The destination.
        folder: String,
    },
    /// The file system refused.
    #[error("{what} {path}: {}", words(*.cause))]
    Make {
        /// The system call, as Docker names it.
        what: &'static str,
        /// On which file.
        path: String,
        /// Why.
        cause: Errno,
    },
    /// A limit.
    #[error("too many {0} in the archive")]
    TooMany(&'static str),
}

/// Unpacks an archive up to its end mark. What `input` has after that is left to the caller.
pub fn unpack<R: Input>(
    destination: &Destination<'_>,
    entries: &Entries,
    input: R,
) -> Result<(), UnpackError> {
    let mut reader = TarReader::new(input);
    let mut unpacker =
        Unpacker { destination, entries, folder: None, directories: BTreeMap::new(), kept: 0 };
    let mut count = 0;
    while let Some(member) = reader.next_member()? {
        count += 1;
        if count > MAX_ENTRIES {
            return Err(UnpackError::TooMany("entries"));
        }
        let path = entries.place(&member.path)?;
        let is_directory = member.kind == MemberKind::Directory;
        match (entries, is_directory, path.is_empty()) {
            (Entries::Single { .. }, true, _) | (_, false, true) => {
                return Err(UnpackError::Unexpected(show(&member.path)));
            }
            // The destination stays as it is.
            (_, true, true) => {}
            _ => unpacker.entry(&path, &member, &mut reader)?,
        }
    }
    unpacker.finish()
}

struct Unpacker<'a> {
    destination: &'a Destination<'a>,
    entries: &'a Entries,
    /// The directory that the last entry went to.
    folder: Option<(Vec<u8>, OwnedFd)>,
    /// The directories that still have to get their mode and time.
    directories: BTreeMap<Vec<u8>, (Mode, Timestamp)>,
    /// Bytes of their paths.
    kept: usize,
}

impl Unpacker<'_> {
    fn entry<R: Input>(
        &mut self,
        path: &[u8],
        member: &Member,
        reader: &mut TarReader<R>,
    ) -> Result<(), UnpackError> {
        let (above, name) = split(path);
        let (of, folder) = match self.folder.take() {
            Some((of, folder)) if of == above => (of, folder),
            _ => (above.to_vec(), self.open_or_make(above)?),
        };
        let exists = self.make_way(folder.as_fd(), path, name, member)?;
        let place = Place { folder: folder.as_fd(), name, path };
        match member.kind {
            MemberKind::Directory => self.directory(&place, member, exists)?,
            MemberKind::Regular => self.file(&place, member, reader)?,
            MemberKind::HardLink => self.hard_link(&place, member)?,
            MemberKind::Symlink => {
                symlinkat(&member.link[..], place.folder, name)
                    .map_err(|cause| self.failed("symlink", path, cause))?;
                self.set_owner_and_time(&place, member)?;
            }
            MemberKind::Fifo => self.fifo(&place, member)?,
            MemberKind::CharDevice { major, minor } => {
                self.device(&place, member, FileType::CharacterDevice, (major, minor))?;
            }
            MemberKind::BlockDevice { major, minor } => {
                self.device(&place, member, FileType::BlockDevice, (major, minor))?;
            }
        }
        self.folder = Some((of, folder));
        Ok(())
    }

    /// Removes what has the entry's name; whether it is a directory that stays, to be merged with.
    fn make_way(
        &self,
        folder: BorrowedFd<'_>,
        path: &[u8],
        name: &[u8],
        member: &Member,
    ) -> Result<bool, UnpackError> {
        let found = match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(false),
            found => found.map_err(|cause| self.failed("lstat", path, cause))?,
        };
        let there = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
        let (path, folder_shown) = (self.shown(path), show(self.destination.shown));
        match (there, member.kind == MemberKind::Directory) {
            (true, true) => Ok(true),
            (true, false) => Err(UnpackError::OverDirectory { path, folder: folder_shown }),
            (false, true) => Err(UnpackError::OverNonDirectory { path, folder: folder_shown }),
            (false, false) => match unlinkat(folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => Ok(false),
                Err(cause) => Err(UnpackError::Make { what: "unlinkat", path, cause }),
            },
        }
    }

    fn directory(
        &mut self,
        place: &Place<'_>,
        member: &Member,
        exists: bool,
    ) -> Result<(), UnpackError> {
        if !exists {
            mkdirat(place.folder, place.name, Mode::RWXU)
                .map_err(|cause| self.failed("mkdir", place.path, cause))?;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = openat(place.folder, place.name, flags, Mode::empty())
            .map_err(|cause| self.failed("open", place.path, cause))?;
        self.set_owner(&directory, place.path, member)?;
        self.set_xattrs(&directory, place.path, member)?;
        let mode = Mode::from_raw_mode(member.mode.into());
        fchmod(&directory, mode | Mode::RWXU)
            .map_err(|cause| self.failed("chmod", place.path, cause))?;
        self.kept = self.kept.saturating_add(place.path.len());
        if self.kept > MAX_DIRECTORY_BYTES {
            return Err(UnpackError::TooMany("directories"));
        }
        self.directories.insert(place.path.to_vec(), (mode, member.mtime));
        Ok(())
    }

    fn file<R: Input>(
        &self,
        place: &Place<'_>,
        member: &Member,
        reader: &mut TarReader<R>,
    ) -> Result<(), UnpackError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW;
        // Nobody else's before it is whole, and its owner's to remove or replace if it never is.
        let mode = Mode::RUSR | Mode::WUSR;
        let file = openat(place.folder, place.name, flags | OFlags::CLOEXEC, mode)
            .map_err(|cause| self.failed("open", place.path, cause))?;
        let failed = |cause| self.failed("write", place.path, cause);
        let mut sink = FileSink { file: File::from(file), failed: &failed };
        reader.read_data(&mut sink)?;
        let file = sink.file;
        // A hole at the end.
        file.set_len(member.size).map_err(|error| failed(errno(&error)))?;
        self.finish_file(&file, place.path, member)
    }

    fn fifo(&self, place: &Place<'_>, member: &Member) -> Result<(), UnpackError> {
        let failed = |cause| self.failed("mknod", place.path, cause);
        mknodat(place.folder, place.name, FileType::Fifo, Mode::RUSR, 0).map_err(failed)?;
        // For reading, this does not wait.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fifo = openat(place.folder, place.name, flags, Mode::empty()).map_err(failed)?;
        self.finish_file(&fifo, place.path, member)
    }

    /// Owner, attributes, mode and time of something that is open.
    fn finish_file(
        &self,
        file: &impl AsFd,
        path: &[u8],
        member: &Member,
    ) -> Result<(), UnpackError> {
        self.set_owner(file, path, member)?;
        self.set_xattrs(file, path, member)?;
        let allowed = match self.destination.rights {
            Rights::Root => 0o7777,
            Rights::User { .. } => 0o1777,
        };
        let mode = Mode::from_raw_mode(u32::from(member.mode) & allowed);
        fchmod(file, mode).map_err(|cause| self.failed("chmod", path, cause))?;
        futimens(file, &times(member.mtime)).map_err(|cause| self.failed("chtimes", path, cause))
    }

    /// The process's umask is in the way of a device's mode, as there is no opening it to set that.
    fn device(
        &self,
        place: &Place<'_>,
        member: &Member,
        kind: FileType,
        (major, minor): (u32, u32),
    ) -> Result<(), UnpackError> {
        let mode = Mode::from_raw_mode(member.mode.into());
        let made = match self.destination.rights {
            Rights::Root => mknodat(place.folder, place.name, kind, mode, makedev(major, minor)),
            Rights::User { .. } => Err(Errno::PERM),
        };
        made.map_err(|cause| self.failed("mknod", place.path, cause))?;
        self.set_owner_and_time(place, member)
    }

    /// The other name may be of a file that was there before: its metadata is left alone.
    fn hard_link(&self, place: &Place<'_>, member: &Member) -> Result<(), UnpackError> {
        let target = self.entries.place(&member.link)?;
        let (above, name) = split(&target);
        let failed = |cause| self.failed("link", place.path, cause);
        let folder = self.open(above).map_err(failed)?;
        linkat(folder, name, place.folder, place.name, AtFlags::empty()).map_err(failed)
    }

    /// For what cannot be opened without an effect.
    fn set_owner_and_time(&self, place: &Place<'_>, member: &Member) -> Result<(), UnpackError> {
        if let Some((uid, gid)) = self.owner(member) {
            let flags = AtFlags::SYMLINK_NOFOLLOW;
            let done = chownat(place.folder, place.name, Some(uid), Some(gid), flags);
            self.check_owner(done, place.path)?;
        }
        utimensat(place.folder, place.name, &times(member.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|cause| self.failed("chtimes", place.path, cause))
    }

    fn set_owner(&self, file: &impl AsFd, path: &[u8], member: &Member) -> Result<(), UnpackError> {
        match self.owner(member) {
            Some((uid, gid)) => self.check_owner(fchown(file, Some(uid), Some(gid)), path),
            None => Ok(()),
        }
    }

    fn owner(&self, member: &Member) -> Option<(Uid, Gid)> {
        let owners = !matches!(self.destination.rights, Rights::User { owners: false });
        owners.then(|| (Uid::from_raw(member.uid), Gid::from_raw(member.gid)))
    }

    fn check_owner(&self, done: rustix::io::Result<()>, path: &[u8]) -> Result<(), UnpackError> {
        match (done, self.destination.rights) {
            (Err(Errno::PERM | Errno::INVAL), Rights::User { .. }) => Ok(()),
            (done, _) => done.map_err(|cause| self.failed("lchown", path, cause)),
        }
    }

    fn set_xattrs(
        &self,
        file: &impl AsFd,
        path: &[u8],
        member: &Member,
    ) -> Result<(), UnpackError> {
        for (name, value) in &member.xattrs {
            let wanted = match self.destination.rights {
                Rights::Root => is_carried(name),
                Rights::User { .. } => is_carried(name) && name.starts_with(b"user."),
            };
            if wanted {
                match fsetxattr(file, &name[..], value, XattrFlags::empty()) {
                    // Not every file system has them; Docker does without then.
                    Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                    Err(cause) => return Err(self.failed("setxattr", path, cause)),
                }
            }
        }
        Ok(())
    }

    /// Gives the directories their modes and times, the deepest first.
    fn finish(self) -> Result<(), UnpackError> {
        for (path, (mode, mtime)) in self.directories.iter().rev() {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW;
            let directory = match self.resolve(path, flags) {
                // Somebody else has removed or replaced it.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                opened => opened.map_err(|cause| self.failed("open", path, cause))?,
            };
            futimens(&directory, &times(*mtime))
                .and_then(|()| fchmod(&directory, *mode))
                .map_err(|cause| self.failed("chmod", path, cause))?;
        }
        Ok(())
    }

    /// Opens a directory, made with those above it where it is missing.
    fn open_or_make(&self, path: &[u8]) -> Result<OwnedFd, UnpackError> {
        match self.open(path) {
            Err(Errno::NOENT) if !path.is_empty() => {}
            opened => return opened.map_err(|cause| self.failed("open", path, cause)),
        }
        let (above, name) = split(path);
        let folder = self.open_or_make(above)?;
        match mkdirat(folder, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(cause) => return Err(self.failed("mkdir", path, cause)),
        }
        self.open(path).map_err(|cause| self.failed("open", path, cause))
    }

    fn open(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        self.resolve(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Opens a name below the destination.
    fn resolve(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let Destination { root, folder, rights, .. } = self.destination;
        let path = [folder, &b"/"[..], path].concat();
        let how = match rights {
            Rights::Root => ResolveFlags::IN_ROOT,
            Rights::User { .. } => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        };
        let how = how | ResolveFlags::NO_MAGICLINKS;
        let open = || openat2(root, &path[..], flags | OFlags::CLOEXEC, Mode::empty(), how);
        // The kernel says so when it cannot tell whether a `..` stayed inside.
        let mut opened = open();
        for _ in 1..TRIES {
            match opened {
                Err(Errno::AGAIN) => opened = open(),
                opened => return opened,
            }
        }
        opened
    }

    fn failed(&self, what: &'static str, path: &[u8], cause: Errno) -> UnpackError {
        UnpackError::Make { what, path: self.shown(path), cause }
    }

    fn shown(&self, path: &[u8]) -> String {
        let top = self.destination.shown;
        show(&[top.strip_suffix(b"/").unwrap_or(top), b"/", path].concat())
    }
}

/// Where an entry goes: the directory, the name in it, and the path for messages.
struct Place<'a> {
    folder: BorrowedFd<'a>,
    name: &'a [u8],
    path: &'a [u8],
}

/// Writes a file's data as it comes from the archive.
struct FileSink<'a> {
    file: File,
    failed: &'a dyn Fn(Errno) -> UnpackError,
}

impl DataSink for FileSink<'_> {
    type Error = UnpackError;

    fn data(&mut self, bytes: &[u8]) -> Result<(), UnpackError> {
        self.file.write_all(bytes).map_err(|error| (self.failed)(errno(&error)))
    }

    fn hole(&mut self, length: u64) -> Result<(), UnpackError> {
        let length = i64::try_from(length).map_err(|_| (self.failed)(Errno::FBIG))?;
        let sought = self.file.seek(SeekFrom::Current(length));
        sought.map(drop).map_err(|error| (self.failed)(errno(&error)))
    }
}

fn errno(error: &std::io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}

/// A clean path's directory, empty for the top, and its last name.
fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => {
            let (above, name) = path.split_at(slash);
            (above, name.strip_prefix(b"/").unwrap_or(name))
        }
        None => (b"", path),
    }
}

/// Docker makes the time of access that of the modification too.
fn times(mtime: Timestamp) -> Timestamps {
    let time = Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}
