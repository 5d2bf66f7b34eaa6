//! The layer: what the upper layer holds as entries of a tar archive, and whiteouts for what is gone
//! (OCI image specification, "Image Layer Filesystem Changeset").
//!
//! - A file that overlayfs copied up is in the layer even where it came to be the same again.
//! - Of a folder that hides the image's (opaque, or moved here) comes everything, with an opaque
//!   whiteout in it.
//! - Names that start with `.wh.` cannot be in a layer, sockets are not in Docker's either: both are
//!   left out, and what the image had in a socket's place is gone.

use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};

use rustix::fs::{OFlags, major, minor};
use rustix::io::Errno;
use tar_stream::{Member, MemberKind, Piece, TarWriter, Timestamp};

use super::walk::{Found, Report, Scope, Trees, Verdict, walk};
use super::{BUFFER, LayerError, is_absent, look, mount_points, place, sparse, xattr};

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Writes the whole archive.
pub(super) fn write<W: Write>(trees: &Trees<'_>, out: W) -> Result<(), LayerError> {
    let writer = TarWriter::new(out);
    let mut archive = Archive { trees, writer, links: HashMap::new(), buffer: vec![0; BUFFER] };
    archive.root()?;
    walk(trees, &mut archive)?;
    archive.writer.finish().map(drop).map_err(LayerError::Write)
}

struct Archive<'a, W> {
    trees: &'a Trees<'a>,
    writer: TarWriter<W>,
    /// Files that have names which did not come yet.
    links: HashMap<Inode, Links>,
    buffer: Vec<u8>,
}

/// Device and number.
type Inode = (u64, u64);

struct Links {
    /// The name under which the file was written.
    path: Vec<u8>,
    /// Names that may still come.
    left: u64,
}

impl<W: Write> Report for Archive<'_, W> {
    fn judge(&mut self, found: &Found) -> Result<Verdict, LayerError> {
        let is_new_socket = found.lower.is_none() && found.merged.file_type().is_socket();
        if is_new_socket || name(&found.path).starts_with(WHITEOUT) {
            return Ok(Verdict::Passed);
        }
        let Found { path, merged, lower: Some(lower), .. } = found else {
            return Ok(Verdict::Differs);
        };
        if found.below != Scope::Same || numbers(merged) != numbers(lower) {
            return Ok(Verdict::Differs);
        }
        let time = |of: &Metadata| (of.mtime(), of.mtime_nsec());
        let same = (time(merged) == time(lower) || mount_points::may_be_in(path))
            && xattr::all(self.trees.merged, path)? == xattr::all(self.trees.lower, path)?;
        Ok(if same { Verdict::Same } else { Verdict::Differs })
    }

    fn tell(&mut self, found: &Found) -> Result<(), LayerError> {
        let Found { path, merged, .. } = found;
        if merged.is_dir() {
            self.folder(found)
        } else if merged.is_file() {
            self.file(path, merged)
        } else if merged.file_type().is_socket() {
            self.tell_gone(path, found.scope)
        } else {
            self.other(path, merged)
        }
    }

    fn tell_gone(&mut self, path: &[u8], scope: Scope) -> Result<(), LayerError> {
        // Where a folder hides the image's, an opaque whiteout has said it.
        if scope == Scope::Hiding {
            return Ok(());
        }
        let name = name(path);
        let folder = path.get(..path.len() - name.len()).unwrap_or_default();
        self.whiteout(&[folder, WHITEOUT, name].concat())
    }
}

impl<W: Write> Archive<'_, W> {
    /// The root comes if somebody changed it. Its time is changed by making mount points too.
    fn root(&mut self) -> Result<(), LayerError> {
        let of = |root| look(root, b"");
        let (Some(merged), Some(lower)) = (of(self.trees.merged)?, of(self.trees.lower)?) else {
            return Ok(());
        };
        if numbers(&merged) == numbers(&lower) {
            return Ok(());
        }
        let root = Member { path: b"./".to_vec(), ..self.member(b"", &merged)? };
        self.put(&root)
    }

    fn folder(&mut self, found: &Found) -> Result<(), LayerError> {
        let folder = self.member(&found.path, &found.merged)?;
        self.put(&folder)?;
        if found.scope == Scope::Same && found.below == Scope::Hiding {
            self.whiteout(&[&found.path, &b"/"[..], OPAQUE].concat())?;
        }
        Ok(())
    }

    /// An empty file of root's.
    fn whiteout(&mut self, path: &[u8]) -> Result<(), LayerError> {
        self.put(&Member {
            path: relative(path),
            kind: MemberKind::Regular,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: Timestamp::default(),
            link: Vec::new(),
            size: 0,
            xattrs: Vec::new(),
        })
    }

    fn file(&mut self, path: &[u8], merged: &Metadata) -> Result<(), LayerError> {
        let mut options = OpenOptions::new();
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        options.read(true).custom_flags(flags.bits().cast_signed());
        let place = place(self.trees.merged, path);
        let file = match options.open(&place) {
            Ok(file) => file,
            // Of a container that runs on, it may be gone, or be a link by now.
            Err(error)
                if is_absent(&error)
                    || error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) =>
            {
                return Ok(());
            }
            Err(cause) => return Err(LayerError::Read { path: place, cause }),
        };
        if self.is_link(path, merged)? {
            return Ok(());
        }
        let failed = |cause: io::Error| LayerError::Read { path: place.clone(), cause };
        let member = self.member(path, merged)?;
        let sparse = sparse::pieces(&file, merged).map_err(|error| failed(error.into()))?;
        let begun = match &sparse {
            Some(pieces) => self.writer.sparse_member(&member, pieces),
            None => self.writer.member(&member),
        };
        begun.map_err(LayerError::Write)?;
        let whole = || vec![Piece { offset: 0, length: merged.len() }];
        for piece in sparse.unwrap_or_else(whole) {
            self.copy(&file, piece).map_err(|error| match error {
                CopyError::Read(cause) => failed(cause),
                CopyError::Write(cause) => LayerError::Write(cause),
            })?;
        }
        Ok(())
    }

    /// Copies a piece; what the file has lost of it meanwhile comes as zeros.
    fn copy(&mut self, mut file: &File, piece: Piece) -> Result<(), CopyError> {
        file.seek(SeekFrom::Start(piece.offset)).map_err(CopyError::Read)?;
        let mut left = piece.length;
        while left > 0 {
            let most = usize::try_from(left).map_or(BUFFER, |left| left.min(BUFFER));
            let buffer = self.buffer.get_mut(..most).unwrap_or_default();
            let count = match file.read(buffer) {
                Ok(0) => {
                    buffer.fill(0);
                    most
                }
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(CopyError::Read(error)),
            };
            let bytes = buffer.get(..count).unwrap_or_default();
            self.writer.data(bytes).map_err(CopyError::Write)?;
            left -= count as u64;
        }
        Ok(())
    }

    /// Symlinks, devices and FIFOs.
    fn other(&mut self, path: &[u8], merged: &Metadata) -> Result<(), LayerError> {
        let mut member = self.member(path, merged)?;
        if member.kind == MemberKind::Symlink {
            let place = place(self.trees.merged, path);
            member.link = match fs::read_link(&place) {
                Ok(target) => target.as_os_str().as_bytes().to_vec(),
                Err(error) if is_absent(&error) => return Ok(()),
                Err(cause) => return Err(LayerError::Read { path: place, cause }),
            };
        }
        if self.is_link(path, merged)? { Ok(()) } else { self.put(&member) }
    }

    /// Writes an entry for another name of a file that was written already, if it is that.
    ///
    /// Names belong together that do in the upper layer, or in the image below a folder that was
    /// moved. A file that has further names in the image alone was separated from them when it was
    /// copied up, which is how the container sees it.
    fn is_link(&mut self, path: &[u8], merged: &Metadata) -> Result<bool, LayerError> {
        let upper = look(self.trees.upper, path)?;
        let real = upper.as_ref().unwrap_or(merged);
        if real.nlink() < 2 {
            return Ok(false);
        }
        let inode = (real.dev(), real.ino());
        let Some(links) = self.links.get_mut(&inode) else {
            let links = Links { path: path.to_vec(), left: real.nlink() - 1 };
            self.links.insert(inode, links);
            return Ok(false);
        };
        let target = relative(&links.path);
        links.left -= 1;
        if links.left == 0 {
            self.links.remove(&inode);
        }
        let link = Member {
            kind: MemberKind::HardLink,
            link: target,
            size: 0,
            xattrs: Vec::new(),
            ..self.member(path, merged)?
        };
        self.put(&link)?;
        Ok(true)
    }

    /// What is to be said of something, but for where it points.
    fn member(&self, path: &[u8], merged: &Metadata) -> Result<Member, LayerError> {
        let kind = merged.file_type();
        let (major, minor) = (major(merged.rdev()), minor(merged.rdev()));
        Ok(Member {
            path: relative(path),
            kind: if kind.is_dir() {
                MemberKind::Directory
            } else if kind.is_file() {
                MemberKind::Regular
            } else if kind.is_symlink() {
                MemberKind::Symlink
            } else if kind.is_char_device() {
                MemberKind::CharDevice { major, minor }
            } else if kind.is_block_device() {
                MemberKind::BlockDevice { major, minor }
            } else {
                MemberKind::Fifo
            },
            mode: u16::try_from(merged.mode() & 0o7777).unwrap_or_default(),
            uid: merged.uid(),
            gid: merged.gid(),
            mtime: Timestamp {
                seconds: merged.mtime(),
                nanoseconds: u32::try_from(merged.mtime_nsec()).unwrap_or_default(),
            },
            link: Vec::new(),
            size: if kind.is_file() { merged.len() } else { 0 },
            xattrs: xattr::all(self.trees.merged, path)?,
        })
    }

    fn put(&mut self, member: &Member) -> Result<(), LayerError> {
        self.writer.member(member).map_err(LayerError::Write)
    }
}

enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

fn numbers(of: &Metadata) -> (u32, u32, u32) {
    (of.mode(), of.uid(), of.gid())
}

/// The last name of a path.
fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// A path as a layer has it.
fn relative(path: &[u8]) -> Vec<u8> {
    path.strip_prefix(b"/").unwrap_or(path).to_vec()
}
