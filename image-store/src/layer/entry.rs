//! An entry of a layer, with its path made safe.
//!
//! Paths are relative to the image's root: a leading `/` and `.` components mean nothing, as for
//! every OCI runtime, and `..` is refused rather than guessed at (threats.md row 1). Symlinks in
//! a path are not known here; they are resolved within the image's tree when layers are merged.

use thiserror::Error;

use super::LayerError;
use crate::limits::{MAX_NAME, MAX_PATH, MAX_SYMLINK};
use crate::tar::{Member, MemberKind, Timestamp, Xattr};

/// Ahead of the name of what a layer removes (OCI image-spec, layer.md "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
/// In a directory of which a layer removes all that is below.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Ahead of the names of AUFS' own files, which say nothing to others.
const AUFS: &[u8] = b".wh..wh.";

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    /// No name at all.
    #[error("empty name")]
    Empty,
    /// A `..` component.
    #[error("\"..\" in the path")]
    Parent,
    /// A NUL byte.
    #[error("NUL byte in the path")]
    Nul,
    /// A component longer than Linux allows.
    #[error("a name longer than {MAX_NAME} bytes")]
    Name,
    /// A path longer than Linux allows.
    #[error("a path longer than {MAX_PATH} bytes")]
    Path,
    /// A link's target is empty, the root, or longer than Linux allows.
    #[error("a link to nothing, to the root, or of more than {MAX_SYMLINK} bytes")]
    Target,
    /// A whiteout that names nothing, `.` or `..`.
    #[error("whiteout of no name")]
    Whiteout,
}

/// What an entry of a layer does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// A file whose data is `size` bytes of the layer's blob from block `block`.
    Regular {
        size: u64,
        block: u64,
    },
    /// Another name of the file at this path.
    HardLink(Vec<u8>),
    Symlink(Vec<u8>),
    Directory,
    Fifo,
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    /// Removes what lower layers have at the entry's path.
    Whiteout,
    /// Removes what lower layers have below the directory at the entry's path.
    Opaque,
}

/// An entry of a layer. The path is relative, with single slashes, and without `.` and `..`;
/// empty for the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: Vec<Xattr>,
}

impl Entry {
    /// Makes an entry of a member of an archive; `None` for what only AUFS understands. A regular
    /// file's block is not known yet and 0.
    pub(crate) fn from_member(member: Member) -> Result<Option<Self>, LayerError> {
        let wrong = |source| LayerError::Path { entry: show(&member.path), source };
        let path = normalise(&member.path).map_err(wrong)?;
        let is_aufs = |name: &[u8]| name.starts_with(AUFS) && name != OPAQUE;
        if path.split(|&byte| byte == b'/').any(is_aufs) {
            return Ok(None);
        }
        let (folder, name) = split_last(&path);
        let (path, kind) = if name == OPAQUE {
            (folder.to_vec(), EntryKind::Opaque)
        } else if let Some(name) = name.strip_prefix(WHITEOUT) {
            if matches!(name, b"" | b"." | b"..") {
                return Err(wrong(PathError::Whiteout));
            }
            (join(folder, name), EntryKind::Whiteout)
        } else {
            let kind = kind(&member).map_err(wrong)?;
            if path.is_empty() && kind != EntryKind::Directory {
                return Err(LayerError::Root(show(&member.path)));
            }
            (path, kind)
        };
        let (mode, uid, gid, mtime) = (member.mode, member.uid, member.gid, member.mtime);
        Ok(Some(Self { path, kind, mode, uid, gid, mtime, xattrs: member.xattrs }))
    }
}

fn kind(member: &Member) -> Result<EntryKind, PathError> {
    Ok(match member.kind {
        MemberKind::Regular => EntryKind::Regular { size: member.size, block: 0 },
        MemberKind::HardLink => match normalise(&member.link)? {
            root if root.is_empty() => return Err(PathError::Target),
            target => EntryKind::HardLink(target),
        },
        MemberKind::Symlink => {
            check_symlink(&member.link)?;
            EntryKind::Symlink(member.link.clone())
        }
        MemberKind::Directory => EntryKind::Directory,
        MemberKind::Fifo => EntryKind::Fifo,
        MemberKind::CharDevice { major, minor } => EntryKind::CharDevice { major, minor },
        MemberKind::BlockDevice { major, minor } => EntryKind::BlockDevice { major, minor },
    })
}

/// Checks the target of a symlink, which may say anything else.
pub(super) fn check_symlink(target: &[u8]) -> Result<(), PathError> {
    if target.is_empty() || target.len() > MAX_SYMLINK {
        return Err(PathError::Target);
    }
    if target.contains(&0) {
        return Err(PathError::Nul);
    }
    Ok(())
}

/// Makes a path relative to the root, with single slashes and no `.`.
pub(crate) fn normalise(path: &[u8]) -> Result<Vec<u8>, PathError> {
    if path.is_empty() {
        return Err(PathError::Empty);
    }
    let mut normal = Vec::with_capacity(path.len());
    let mut too_long = false;
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => continue,
            b".." => return Err(PathError::Parent),
            _ if component.contains(&0) => return Err(PathError::Nul),
            _ if too_long => return Err(PathError::Name),
            // The name of a whiteout may be: it is no file, but what it names was one.
            _ if component.len() > MAX_NAME => {
                too_long = true;
                if component.strip_prefix(WHITEOUT).is_none_or(|name| name.len() > MAX_NAME) {
                    return Err(PathError::Name);
                }
            }
            _ => {}
        }
        if !normal.is_empty() {
            normal.push(b'/');
        }
        normal.extend_from_slice(component);
    }
    if normal.len() > MAX_PATH {
        return Err(PathError::Path);
    }
    Ok(normal)
}

/// Splits the last component off.
pub(crate) fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => {
            let (folder, name) = path.split_at(slash);
            (folder, name.get(1..).unwrap_or_default())
        }
        None => (b"", path),
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}

/// A path for a message: whatever it is made of, and not without end.
pub(crate) fn show(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    if text.chars().nth(200).is_none() {
        return text.into_owned();
    }
    text.chars().take(200).chain("…".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row1_paths_are_confined_to_the_root_or_refused() {
        for (path, normal) in [
            (&b"/etc/passwd"[..], &b"etc/passwd"[..]),
            (b"./a//./b/", b"a/b"),
            (b"///", b""),
            (b".", b""),
            (b"...", b"..."),
        ] {
            assert_eq!(normalise(path).as_deref(), Ok(normal));
        }
        assert_eq!(normalise(b""), Err(PathError::Empty));
        for path in [&b"../x"[..], b"a/../b", b"..", b"/..", b"a/.."] {
            assert_eq!(normalise(path), Err(PathError::Parent));
        }
        assert_eq!(normalise(b"a\0b"), Err(PathError::Nul));
    }

    #[test]
    fn row7_names_and_paths_have_linux_limits() {
        assert!(normalise(&[b'n'; 255]).is_ok());
        assert_eq!(normalise(&[b'n'; 256]), Err(PathError::Name));
        let whiteout = |length| [WHITEOUT, &vec![b'n'; length]].concat();
        assert!(normalise(&whiteout(255)).is_ok());
        assert_eq!(normalise(&whiteout(256)), Err(PathError::Name));
        assert_eq!(normalise(&[&whiteout(255), &b"/x"[..]].concat()), Err(PathError::Name));
        assert_eq!(normalise(&b"d/".repeat(100_000)), Err(PathError::Path));
    }
}
