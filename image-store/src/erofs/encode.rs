//! The bytes of superblock, inodes, extended attributes and directories; all little endian.

use super::layout::{Data, Layout};
use super::{BLOCK_LEN, ErofsError};
use crate::tar::Xattr;
use crate::tree::{Directory, NodeId, NodeKind, Tree};

/// Where the superblock is.
pub(super) const SUPERBLOCK_AT: u64 = 1024;
/// Where in the superblock its checksum is.
pub(super) const CHECKSUM_AT: u64 = 4;
/// Bytes of a directory entry without its name.
pub(super) const DIRENT: usize = 12;

const MAGIC: u32 = 0xe0f5_e1e2;
const COMPAT_CHECKSUM_AND_MTIME: u32 = 1 | 2;
const BLOCK_BITS: u8 = 12;

/// `i_format`: extended inode, with the layout above bit 0.
const FORMAT_PLAIN: u16 = 1;
const FORMAT_INLINE: u16 = 1 | 2 << 1;

/// Bytes ahead of the extended attributes of an inode.
const XATTR_HEADER: usize = 12;

/// File types: bits of the mode, and what directories say.
struct FileType {
    mode: u16,
    dirent: u8,
}

fn file_type(kind: &NodeKind) -> FileType {
    let (mode, dirent) = match kind {
        NodeKind::Regular { .. } => (0o100_000, 1),
        NodeKind::Directory(_) => (0o040_000, 2),
        NodeKind::CharDevice { .. } => (0o020_000, 3),
        NodeKind::BlockDevice { .. } => (0o060_000, 4),
        NodeKind::Fifo => (0o010_000, 5),
        NodeKind::Symlink(_) => (0o120_000, 7),
    };
    FileType { mode, dirent }
}

fn block32(block: u64) -> Result<u32, ErofsError> {
    u32::try_from(block).map_err(|_| ErofsError::TooLarge)
}

/// `struct erofs_super_block`, without its checksum.
pub(super) fn superblock(layout: &Layout, uuid: [u8; 16]) -> Result<Vec<u8>, ErofsError> {
    let root = u16::try_from(layout.nid(NodeId::ROOT)).map_err(|_| ErofsError::TooLarge)?;
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&COMPAT_CHECKSUM_AND_MTIME.to_le_bytes());
    out.extend_from_slice(&[BLOCK_BITS, 0]);
    out.extend_from_slice(&root.to_le_bytes());
    out.extend_from_slice(&(layout.order().len() as u64).to_le_bytes());
    // Build time and its nanoseconds: used for compact inodes alone, of which there are none.
    out.extend_from_slice(&[0; 12]);
    out.extend_from_slice(&layout.total_blocks().to_le_bytes());
    // Inodes count from block 0, and there are no shared attributes.
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&uuid);
    out.resize(128, 0);
    Ok(out)
}

/// `struct erofs_inode_extended`.
pub(super) fn inode(tree: &Tree, layout: &Layout, id: NodeId) -> Result<Vec<u8>, ErofsError> {
    let node = tree.node(id);
    let attributes = &node.attributes;
    let permissions = match node.kind {
        NodeKind::Symlink(_) => 0o777,
        _ => attributes.mode,
    };
    let format = match layout.data(id) {
        Data::Inline { .. } => FORMAT_INLINE,
        _ => FORMAT_PLAIN,
    };
    let union = match (&node.kind, layout.data(id)) {
        (NodeKind::CharDevice { major, minor } | NodeKind::BlockDevice { major, minor }, _) => {
            // new_encode_dev() of Linux.
            (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
        }
        (_, Data::None) => 0,
        (_, Data::Blob { block } | Data::Blocks { block, .. } | Data::Inline { block, .. }) => {
            block32(block)?
        }
    };
    let links = match &node.kind {
        NodeKind::Directory(directory) => {
            let is_directory =
                |id: &&NodeId| matches!(tree.node(**id).kind, NodeKind::Directory(_));
            2 + directory.children.values().filter(is_directory).count()
        }
        _ => node.names as usize,
    };
    let mut out = Vec::with_capacity(64);
    out.extend_from_slice(&format.to_le_bytes());
    out.extend_from_slice(&xattr_count(tree.xattrs(attributes.xattrs))?.to_le_bytes());
    out.extend_from_slice(&(file_type(&node.kind).mode | permissions).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&layout.size(id).to_le_bytes());
    out.extend_from_slice(&union.to_le_bytes());
    out.extend_from_slice(&layout.ino(id).to_le_bytes());
    out.extend_from_slice(&attributes.uid.to_le_bytes());
    out.extend_from_slice(&attributes.gid.to_le_bytes());
    out.extend_from_slice(&attributes.mtime.seconds.to_le_bytes());
    out.extend_from_slice(&attributes.mtime.nanoseconds.to_le_bytes());
    let links = u32::try_from(links).map_err(|_| ErofsError::TooLarge)?;
    out.extend_from_slice(&links.to_le_bytes());
    out.resize(64, 0);
    Ok(out)
}

/// The number that stands for a name's prefix, and the rest of the name; `None` for a name that
/// EROFS has no number for.
fn split_prefix(name: &[u8]) -> Option<(u8, &[u8])> {
    match name {
        b"system.posix_acl_access" => return Some((2, b"")),
        b"system.posix_acl_default" => return Some((3, b"")),
        _ => {}
    }
    [(1, &b"user."[..]), (4, b"trusted."), (6, b"security.")]
        .into_iter()
        .find_map(|(index, prefix)| name.strip_prefix(prefix).map(|rest| (index, rest)))
}

/// Bytes that the attributes take behind an inode.
pub(super) fn xattrs_len(xattrs: &[Xattr]) -> u64 {
    let entry = |(name, value): &Xattr| match split_prefix(name) {
        Some((_, rest)) => (4 + rest.len() + value.len()).next_multiple_of(4),
        None => 0,
    };
    match xattrs.iter().map(entry).sum() {
        0 => 0,
        entries => (XATTR_HEADER + entries) as u64,
    }
}

/// `i_xattr_icount`.
fn xattr_count(xattrs: &[Xattr]) -> Result<u16, ErofsError> {
    match xattrs_len(xattrs) {
        0 => Ok(0),
        length => {
            u16::try_from((length - XATTR_HEADER as u64) / 4 + 1).map_err(|_| ErofsError::Xattrs)
        }
    }
}

/// `struct erofs_xattr_ibody_header` and the entries.
pub(super) fn xattrs(xattrs: &[Xattr]) -> Result<Vec<u8>, ErofsError> {
    let mut out = Vec::new();
    for (name, value) in xattrs {
        let Some((index, rest)) = split_prefix(name) else { continue };
        if out.is_empty() {
            out.resize(XATTR_HEADER, 0);
        }
        out.push(u8::try_from(rest.len()).map_err(|_| ErofsError::Xattrs)?);
        out.push(index);
        let size = u16::try_from(value.len()).map_err(|_| ErofsError::Xattrs)?;
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(rest);
        out.extend_from_slice(value);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    Ok(out)
}

/// What stands for a name in a directory.
#[derive(Clone, Copy)]
pub(super) enum Target {
    This,
    Parent,
    Child(NodeId),
}

/// The names of a directory in the order of their bytes, `.` and `..` among them.
pub(super) fn sorted_names(directory: &Directory) -> Vec<(&[u8], Target)> {
    let children = directory.children.iter().map(|(name, &id)| (&name[..], Target::Child(id)));
    let dots = [(&b"."[..], Target::This), (b"..", Target::Parent)];
    let mut names: Vec<_> = dots.into_iter().chain(children).collect();
    names.sort_by_key(|(name, _)| *name);
    names
}

/// The blocks of a directory, the last as long as it is.
pub(super) fn directory(
    tree: &Tree,
    layout: &Layout,
    id: NodeId,
    directory: &Directory,
) -> Vec<Vec<u8>> {
    let names = sorted_names(directory);
    let mut blocks = Vec::new();
    let mut rest = &names[..];
    while !rest.is_empty() {
        let mut used = 0;
        let fits = |(name, _): &&(&[u8], Target)| {
            used += DIRENT + name.len();
            used <= BLOCK_LEN
        };
        let count = rest.iter().take_while(fits).count();
        let (here, later) = rest.split_at(count);
        rest = later;
        let mut block = Vec::with_capacity(BLOCK_LEN);
        let mut name_at = DIRENT * here.len();
        for (name, target) in here {
            let target = match target {
                Target::This => id,
                Target::Parent => directory.parent,
                Target::Child(child) => *child,
            };
            block.extend_from_slice(&layout.nid(target).to_le_bytes());
            // Within a block, so within 16 bits.
            block.extend_from_slice(&u16::try_from(name_at).unwrap_or_default().to_le_bytes());
            block.push(file_type(&tree.node(target).kind).dirent);
            block.push(0);
            name_at += name.len();
        }
        for (name, _) in here {
            block.extend_from_slice(name);
        }
        blocks.push(block);
    }
    blocks
}
