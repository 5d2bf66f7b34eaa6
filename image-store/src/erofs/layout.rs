//! Decides where everything is, before anything is written: sizes depend on names and attributes
//! only, addresses on sizes.

use super::{BLOCK, BLOCK_LEN, ErofsError, encode};
use crate::tree::{Directory, NodeId, NodeKind, Tree};

/// Where the first inode is: right after the superblock. The superblock has 16 bits for the root's
/// number, so the root must be early.
const FIRST_INODE: u64 = encode::SUPERBLOCK_AT + 128;
/// Inodes are numbered by their offset in units of this.
pub(super) const SLOT: u64 = 32;
/// Bytes of an inode without attributes.
pub(super) const INODE: u64 = 64;

/// Where the data of an inode is. Blocks are absolute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// None, or it is not on the disk.
    None,
    /// In a layer's blob.
    Blob { block: u64 },
    /// In blocks of its own behind the inodes.
    Blocks { block: u64, count: u64 },
    /// `full` blocks as above, and the rest right behind the inode.
    Inline { block: u64, full: u64 },
}

#[derive(Clone, Copy, Debug)]
struct Place {
    offset: u64,
    ino: u32,
    size: u64,
    data: Data,
}

/// The plan of a metadata file.
#[derive(Debug)]
pub(super) struct Layout {
    order: Vec<NodeId>,
    /// By node; `None` for nodes that are not in the tree.
    places: Vec<Option<Place>>,
    metadata_blocks: u64,
    total_blocks: u32,
}

impl Layout {
    pub(super) fn new(tree: &Tree, blobs: &[u64]) -> Result<Self, ErofsError> {
        let mut plan = Self {
            order: Vec::new(),
            places: vec![None; tree.capacity()],
            metadata_blocks: 0,
            total_blocks: 0,
        };
        // Blocks behind the inodes are numbered from 0 until it is known where the inodes end.
        let mut end = FIRST_INODE;
        let mut own_blocks = 0;
        let mut folders = vec![NodeId::ROOT];
        plan.place(tree, NodeId::ROOT, &mut end, &mut own_blocks)?;
        while let Some(folder) = folders.pop() {
            let NodeKind::Directory(directory) = &tree.node(folder).kind else { continue };
            let before = folders.len();
            for &child in directory.children.values() {
                if plan.places.get(child.index()).is_some_and(Option::is_some) {
                    continue;
                }
                plan.place(tree, child, &mut end, &mut own_blocks)?;
                if matches!(tree.node(child).kind, NodeKind::Directory(_)) {
                    folders.push(child);
                }
            }
            // The first by name is walked first.
            if let Some(new) = folders.get_mut(before..) {
                new.reverse();
            }
        }
        plan.settle(tree, blobs, end.div_ceil(BLOCK), own_blocks)?;
        Ok(plan)
    }

    /// Gives a node the next place that its inode and what follows it fit into.
    fn place(
        &mut self,
        tree: &Tree,
        id: NodeId,
        end: &mut u64,
        own_blocks: &mut u64,
    ) -> Result<(), ErofsError> {
        let node = tree.node(id);
        let head = INODE + encode::xattrs_len(tree.xattrs(node.attributes.xattrs));
        let (size, full, tail) = match &node.kind {
            NodeKind::Directory(directory) => directory_size(directory),
            NodeKind::Symlink(target) => {
                let length = target.len() as u64;
                (length, 0, length)
            }
            NodeKind::Regular { size, .. } => (*size, 0, 0),
            _ => (0, 0, 0),
        };
        let block = *own_blocks;
        let inlined = tail > 0 && head + tail <= BLOCK;
        let data = if inlined {
            *own_blocks += full;
            Data::Inline { block, full }
        } else if full > 0 || tail > 0 {
            let count = full + u64::from(tail > 0);
            *own_blocks += count;
            Data::Blocks { block, count }
        } else {
            Data::None
        };
        // What is inlined must be in the inode's block; else the inode itself is kept in one.
        let together = if inlined { head + tail } else { INODE };
        let mut offset = end.next_multiple_of(SLOT);
        if offset % BLOCK + together > BLOCK {
            offset = offset.next_multiple_of(BLOCK);
        }
        *end = offset + head + if inlined { tail } else { 0 };
        let ino = u32::try_from(self.order.len() + 1).map_err(|_| ErofsError::TooLarge)?;
        if let Some(place) = self.places.get_mut(id.index()) {
            *place = Some(Place { offset, ino, size, data });
        }
        self.order.push(id);
        Ok(())
    }

    /// Turns relative block numbers into absolute ones.
    fn settle(
        &mut self,
        tree: &Tree,
        blobs: &[u64],
        inode_blocks: u64,
        own_blocks: u64,
    ) -> Result<(), ErofsError> {
        self.metadata_blocks = inode_blocks + own_blocks;
        let mut bases = Vec::with_capacity(blobs.len());
        let mut total = self.metadata_blocks;
        for blob in blobs {
            bases.push(total);
            total = total.checked_add(blob / BLOCK).ok_or(ErofsError::TooLarge)?;
        }
        self.total_blocks = u32::try_from(total).map_err(|_| ErofsError::TooLarge)?;
        for &id in &self.order {
            let Some(Some(place)) = self.places.get_mut(id.index()) else { continue };
            match &mut place.data {
                Data::Blocks { block, .. } | Data::Inline { block, .. } => *block += inode_blocks,
                Data::Blob { .. } => {}
                Data::None => {
                    let NodeKind::Regular { size, layer, block } = tree.node(id).kind else {
                        continue;
                    };
                    if size > 0 {
                        let base = bases.get(usize::from(layer)).ok_or(ErofsError::TooLarge)?;
                        let block = base.checked_add(block).ok_or(ErofsError::TooLarge)?;
                        let end = block.checked_add(size.div_ceil(BLOCK));
                        if end.is_none_or(|end| end > total) {
                            return Err(ErofsError::TooLarge);
                        }
                        place.data = Data::Blob { block };
                    }
                }
            }
        }
        Ok(())
    }

    /// Every inode once, in the order in which they lie on the disk.
    pub(super) fn order(&self) -> &[NodeId] {
        &self.order
    }

    fn get(&self, id: NodeId) -> Place {
        const NOWHERE: Place = Place { offset: 0, ino: 0, size: 0, data: Data::None };
        self.places.get(id.index()).copied().flatten().unwrap_or(NOWHERE)
    }

    /// Where an inode is, in bytes.
    pub(super) fn offset(&self, id: NodeId) -> u64 {
        self.get(id).offset
    }

    /// An inode's number as directories have it.
    pub(super) fn nid(&self, id: NodeId) -> u64 {
        self.get(id).offset / SLOT
    }

    /// A number for the 32-bit field; what `stat` shows is the nid.
    pub(super) fn ino(&self, id: NodeId) -> u32 {
        self.get(id).ino
    }

    pub(super) fn size(&self, id: NodeId) -> u64 {
        self.get(id).size
    }

    pub(super) fn data(&self, id: NodeId) -> Data {
        self.get(id).data
    }

    pub(super) fn metadata_blocks(&self) -> u64 {
        self.metadata_blocks
    }

    pub(super) fn total_blocks(&self) -> u32 {
        self.total_blocks
    }
}

/// Size in bytes of a directory, how many whole blocks that is, and the bytes beyond them.
fn directory_size(directory: &Directory) -> (u64, u64, u64) {
    let (mut full, mut used) = (0u64, 0usize);
    for (name, _) in encode::sorted_names(directory) {
        let length = encode::DIRENT + name.len();
        if used + length > BLOCK_LEN {
            full += 1;
            used = 0;
        }
        used += length;
    }
    let tail = used as u64;
    if tail == BLOCK {
        ((full + 1) * BLOCK, full + 1, 0)
    } else {
        (full * BLOCK + tail, full, tail)
    }
}
