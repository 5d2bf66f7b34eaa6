//! Writes a [`Tree`](crate::tree::Tree) as EROFS metadata.
//!
//! The file system spans one device: this metadata, then the blobs of the image's layers, laid end
//! to end. Every regular file is one run of blocks (`FLAT_PLAIN`) at an absolute address beyond
//! the metadata; there is no device table, no compression and no chunk index. Linux checks no
//! such address against the size of the device, so the writer does.
//!
//! ```text
//! 1024           superblock, its checksum over the rest of block 0
//! 1152           the root's inode; then the inodes of each directory's children side by side,
//!                each followed by its extended attributes and, if all of it fits into one block,
//!                by the tail of its directory or its symlink's target (`FLAT_INLINE`)
//! next block     whole blocks of directories, and symlink targets that were not inlined
//! next block     blob of the lowest layer, and so on
//! ```
//!
//! The same tree gives the same bytes: the only order is that of names. Formats are those of
//! Linux 6.12 `fs/erofs/erofs_fs.h`.

mod encode;
mod layout;
#[cfg(test)]
pub(crate) mod reader;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use thiserror::Error;

use crate::StoreError;
use crate::files::{create_new, io_error};
use crate::tree::{NodeId, NodeKind, Tree};
use layout::{Data, Layout};

/// Bytes of a block.
const BLOCK: u64 = 4096;
/// [`BLOCK`] in memory.
const BLOCK_LEN: usize = 4096;

/// Why a tree cannot be written.
#[derive(Debug, Error)]
pub enum ErofsError {
    /// More than 2^32 blocks.
    #[error("root disk would be larger than 16 TiB")]
    TooLarge,
    /// More attributes than an inode can count.
    #[error("too many extended attributes on one file")]
    Xattrs,
    /// The file cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes the metadata of `tree` into a new file and makes it durable; its length in bytes, a
/// multiple of 4096. `blobs` has the length in bytes of each layer's blob, lowest first.
pub(crate) fn write(
    tree: &Tree,
    blobs: &[u64],
    uuid: [u8; 16],
    path: &Path,
) -> Result<u64, ErofsError> {
    let layout = Layout::new(tree, blobs)?;
    let file = create_new(path)?;
    let failed = |source| ErofsError::Store(io_error("write", path)(source));
    let mut out = Out { inner: BufWriter::with_capacity(1 << 20, &file), at: 0 };
    write_blocks(tree, &layout, uuid, &mut out).map_err(|error| match error {
        WriteError::Io(source) => failed(source),
        WriteError::Erofs(error) => error,
    })?;
    write_checksum(&file).map_err(failed)?;
    file.sync_all().map_err(io_error("sync", path))?;
    Ok(layout.metadata_blocks() * BLOCK)
}

enum WriteError {
    Io(std::io::Error),
    Erofs(ErofsError),
}

impl From<std::io::Error> for WriteError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ErofsError> for WriteError {
    fn from(error: ErofsError) -> Self {
        Self::Erofs(error)
    }
}

/// A file that is written from its start to its end.
struct Out<W> {
    inner: W,
    at: u64,
}

impl<W: Write> Out<W> {
    fn put(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.at += bytes.len() as u64;
        self.inner.write_all(bytes)
    }

    /// Zeros up to the offset `to`.
    fn pad(&mut self, to: u64) -> std::io::Result<()> {
        const ZEROS: [u8; BLOCK_LEN] = [0; BLOCK_LEN];
        while self.at < to {
            let step = usize::try_from(to - self.at).unwrap_or(BLOCK_LEN).min(BLOCK_LEN);
            self.put(ZEROS.split_at(step).0)?;
        }
        Ok(())
    }
}

fn write_blocks<W: Write>(
    tree: &Tree,
    layout: &Layout,
    uuid: [u8; 16],
    out: &mut Out<W>,
) -> Result<(), WriteError> {
    out.pad(encode::SUPERBLOCK_AT)?;
    out.put(&encode::superblock(layout, uuid)?)?;
    for &id in layout.order() {
        let node = tree.node(id);
        out.pad(layout.offset(id))?;
        out.put(&encode::inode(tree, layout, id)?)?;
        out.put(&encode::xattrs(tree.xattrs(node.attributes.xattrs))?)?;
        if let Data::Inline { .. } = layout.data(id) {
            match &node.kind {
                NodeKind::Directory(directory) => {
                    let blocks = encode::directory(tree, layout, id, directory);
                    out.put(blocks.last().map_or(&[], Vec::as_slice))?;
                }
                NodeKind::Symlink(target) => out.put(target)?,
                _ => {}
            }
        }
    }
    for &id in layout.order() {
        write_own_blocks(tree, layout, id, out)?;
    }
    out.pad(layout.metadata_blocks() * BLOCK)?;
    out.inner.flush()?;
    Ok(())
}

/// The blocks of a directory or symlink beyond the inodes.
fn write_own_blocks<W: Write>(
    tree: &Tree,
    layout: &Layout,
    id: NodeId,
    out: &mut Out<W>,
) -> Result<(), WriteError> {
    let (block, count) = match layout.data(id) {
        Data::Inline { block, full } => (block, full),
        Data::Blocks { block, count } => (block, count),
        Data::Blob { .. } | Data::None => return Ok(()),
    };
    if count == 0 {
        return Ok(());
    }
    out.pad(block * BLOCK)?;
    match &tree.node(id).kind {
        NodeKind::Directory(directory) => {
            let blocks = encode::directory(tree, layout, id, directory);
            for (number, bytes) in (1u64..=count).zip(blocks) {
                out.put(&bytes)?;
                out.pad((block + number) * BLOCK)?;
            }
        }
        NodeKind::Symlink(target) => out.put(target)?,
        _ => {}
    }
    Ok(())
}

fn write_checksum(file: &File) -> std::io::Result<()> {
    let mut covered = [0; BLOCK_LEN - 1024];
    file.read_exact_at(&mut covered, encode::SUPERBLOCK_AT)?;
    // EROFS leaves out the final inversion that the crate does.
    let checksum = !crc32c::crc32c(&covered);
    file.write_all_at(&checksum.to_le_bytes(), encode::SUPERBLOCK_AT + encode::CHECKSUM_AT)
}
