//! The merged tree of an image: its layers applied one after another, in memory.
//!
//! Each layer is applied in two passes. First its whiteouts remove from what the lower layers
//! made, wherever in the archive they are: the specification has them hide lower layers only.
//! Those in a directory that this layer puts in a symlink's place do not follow the symlink.
//! Then its entries are taken in order, as GNU tar extracts: a later entry replaces an earlier one
//! of the same name, except that a directory stays where one is and takes the new attributes.
//!
//! Decisions where runtimes differ:
//! - A path whose parent is a symlink goes through it, as in containerd, but within this tree:
//!   an absolute target begins at its root and `..` ends there (threats.md row 2).
//! - Parents that no entry names are made, root's, mode 0755, with time 0; a parent that is not a
//!   directory gives way to one. A whiteout makes its parents as well (its entry is in a folder),
//!   but replaces nothing.
//! - A hard link must name a non-directory that exists by then, in this layer or a lower one.

mod resolve;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use thiserror::Error;

use crate::layer::{Entry, EntryKind, show};
use crate::limits::{Limits, MAX_DEPTH, MAX_SYMLINKS_FOLLOWED};
use crate::tar::{Timestamp, Xattr};
use resolve::Missing;

/// Why layers cannot be merged.
#[derive(Debug, Error)]
pub enum TreeError {
    /// A hard link to nothing, to a directory or to itself.
    #[error("entry {entry:?} is a hard link to {target:?}, which is {problem}")]
    HardLink {
        /// The link.
        entry: String,
        /// What it links to.
        target: String,
        /// "missing", "a directory" or "itself".
        problem: &'static str,
    },
    /// Symlinks that lead to each other.
    #[error("more than {MAX_SYMLINKS_FOLLOWED} symlinks in the path of entry {0:?}")]
    Symlinks(String),
    /// A symlink in a path names a directory that cannot be made.
    #[error("a symlink in the path of entry {0:?} leads to a name that is too long")]
    Name(String),
    /// Too deep.
    #[error("entry {0:?} is more than {MAX_DEPTH} directories deep")]
    Depth(String),
    /// Too many inodes.
    #[error("more than {0} files")]
    Inodes(u64),
    /// Paths made to be slow to resolve.
    #[error("paths take too long to resolve, at entry {0:?}")]
    Work(String),
}

/// A node's place in [`Tree`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NodeId(u32);

impl NodeId {
    pub(crate) const ROOT: Self = Self(0);

    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// A set of extended attributes that several nodes may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct XattrSet(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Timestamp,
    pub(crate) xattrs: XattrSet,
}

/// A file of any kind.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) attributes: Attributes,
    pub(crate) kind: NodeKind,
    /// Names that the node has; 0 for one that was removed. The root counts as having one.
    pub(crate) names: u32,
}

#[derive(Debug)]
pub(crate) enum NodeKind {
    Directory(Directory),
    /// `size` bytes from block `block` of the blob of the image's `layer`th layer.
    Regular {
        size: u64,
        layer: u16,
        block: u64,
    },
    Symlink(Box<[u8]>),
    Fifo,
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
}

#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) children: BTreeMap<Box<[u8]>, NodeId>,
    pub(crate) parent: NodeId,
    depth: u32,
}

/// The tree.
#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
    xattr_sets: Vec<Vec<Xattr>>,
    xattr_ids: HashMap<Vec<Xattr>, XattrSet>,
    max_inodes: u64,
    /// Steps of path resolution that are left.
    work: u64,
}

impl Attributes {
    /// Those of a directory that no entry names.
    const IMPLICIT: Self = Self {
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Timestamp { seconds: 0, nanoseconds: 0 },
        xattrs: XattrSet(0),
    };
}

/// Steps of path resolution for one image: a million entries of two hundred components each.
const MAX_WORK: u64 = 1 << 28;

impl Tree {
    /// An empty root directory.
    pub(crate) fn new(limits: &Limits) -> Self {
        let root = Directory { children: BTreeMap::new(), parent: NodeId::ROOT, depth: 0 };
        let kind = NodeKind::Directory(root);
        Self {
            nodes: vec![Node { attributes: Attributes::IMPLICIT, kind, names: 1 }],
            free: Vec::new(),
            xattr_sets: vec![Vec::new()],
            xattr_ids: HashMap::from([(Vec::new(), XattrSet(0))]),
            max_inodes: limits.entries,
            work: MAX_WORK,
        }
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        // Ids come from this tree only, and nodes are never taken out of the vector.
        &self.nodes[id.index()]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.index()]
    }

    /// One more than the largest index of a node.
    pub(crate) fn capacity(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn xattrs(&self, set: XattrSet) -> &[Xattr] {
        self.xattr_sets.get(set.0 as usize).map_or(&[], Vec::as_slice)
    }

    fn directory(&self, id: NodeId) -> Option<&Directory> {
        match &self.node(id).kind {
            NodeKind::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    fn child(&self, folder: NodeId, name: &[u8]) -> Option<NodeId> {
        self.directory(folder)?.children.get(name).copied()
    }

    /// First pass over a layer: takes a whiteout, and a symlink away where a directory comes in its
    /// place; other entries are passed over.
    pub(crate) fn apply_whiteout(&mut self, entry: &Entry) -> Result<(), TreeError> {
        match entry.kind {
            EntryKind::Whiteout => {
                let place = self.resolve_parent(&entry.path, Missing::Stop)?;
                if let Some((folder, name)) = place {
                    self.unlink(folder, name);
                }
            }
            EntryKind::Opaque => {
                if let Some(folder) = self.resolve(&entry.path, Missing::Stop)?
                    && let NodeKind::Directory(directory) = &mut self.node_mut(folder).kind
                {
                    let children = std::mem::take(&mut directory.children);
                    self.release(children.into_values().collect());
                }
            }
            EntryKind::Directory if !entry.path.is_empty() => {
                let place = self.resolve_parent(&entry.path, Missing::Stop)?;
                if let Some((folder, name)) = place
                    && let Some(child) = self.child(folder, name)
                    && matches!(self.node(child).kind, NodeKind::Symlink(_))
                {
                    self.unlink(folder, name);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Second pass over the image's `layer`th layer: takes every entry.
    pub(crate) fn apply(&mut self, entry: Entry, layer: u16) -> Result<(), TreeError> {
        let xattrs = self.intern(entry.xattrs);
        let Entry { path, mode, uid, gid, mtime, .. } = entry;
        let attributes = Attributes { mode, uid, gid, mtime, xattrs };
        let kind = match entry.kind {
            EntryKind::Whiteout => {
                return self.resolve_parent(&path, Missing::Create).map(drop);
            }
            EntryKind::Opaque => return self.resolve(&path, Missing::Create).map(drop),
            EntryKind::Directory => return self.apply_directory(&path, attributes),
            EntryKind::HardLink(target) => return self.apply_hard_link(&path, &target),
            EntryKind::Regular { size, block } => NodeKind::Regular { size, layer, block },
            EntryKind::Symlink(target) => NodeKind::Symlink(target.into()),
            EntryKind::Fifo => NodeKind::Fifo,
            EntryKind::CharDevice { major, minor } => NodeKind::CharDevice { major, minor },
            EntryKind::BlockDevice { major, minor } => NodeKind::BlockDevice { major, minor },
        };
        let Some((folder, name)) = self.resolve_parent(&path, Missing::Replace)? else {
            return Ok(());
        };
        self.unlink(folder, name);
        let node = self.add(Node { attributes, kind, names: 0 })?;
        self.link(folder, name, node);
        Ok(())
    }

    fn apply_directory(&mut self, path: &[u8], attributes: Attributes) -> Result<(), TreeError> {
        if path.is_empty() {
            self.node_mut(NodeId::ROOT).attributes = attributes;
            return Ok(());
        }
        let Some((folder, name)) = self.resolve_parent(path, Missing::Replace)? else {
            return Ok(());
        };
        let existing = self.child(folder, name).filter(|&id| self.directory(id).is_some());
        let id = match existing {
            Some(id) => id,
            None => {
                self.unlink(folder, name);
                self.make_directory(folder, name, path)?
            }
        };
        self.node_mut(id).attributes = attributes;
        Ok(())
    }

    fn apply_hard_link(&mut self, path: &[u8], target: &[u8]) -> Result<(), TreeError> {
        let wrong =
            |problem| Err(TreeError::HardLink { entry: show(path), target: show(target), problem });
        // The link's own parents first: making them may remove the target.
        let Some((folder, name)) = self.resolve_parent(path, Missing::Replace)? else {
            return Ok(());
        };
        let place = self.resolve_parent(target, Missing::Stop)?;
        if place == Some((folder, name)) {
            return wrong("itself");
        }
        let Some(node) = place.and_then(|(folder, name)| self.child(folder, name)) else {
            return wrong("missing");
        };
        if self.directory(node).is_some() {
            return wrong("a directory");
        }
        // Counted ahead of the removal, lest the target be below what is removed.
        self.node_mut(node).names += 1;
        self.unlink(folder, name);
        self.node_mut(node).names -= 1;
        self.link(folder, name, node);
        Ok(())
    }

    fn intern(&mut self, xattrs: Vec<Xattr>) -> XattrSet {
        if let Some(&set) = self.xattr_ids.get(&xattrs) {
            return set;
        }
        // There are fewer sets than entries, of which there are fewer than 2^32.
        let set = XattrSet(u32::try_from(self.xattr_sets.len()).unwrap_or_default());
        self.xattr_sets.push(xattrs.clone());
        self.xattr_ids.insert(xattrs, set);
        set
    }

    fn add(&mut self, node: Node) -> Result<NodeId, TreeError> {
        if let Some(id) = self.free.pop() {
            *self.node_mut(id) = node;
            return Ok(id);
        }
        let id = u32::try_from(self.nodes.len()).map_err(|_| TreeError::Inodes(self.max_inodes))?;
        if u64::from(id) >= self.max_inodes {
            return Err(TreeError::Inodes(self.max_inodes));
        }
        self.nodes.push(node);
        Ok(NodeId(id))
    }

    fn make_directory(
        &mut self,
        parent: NodeId,
        name: &[u8],
        path: &[u8],
    ) -> Result<NodeId, TreeError> {
        let depth = self.directory(parent).map_or(0, |parent| parent.depth) + 1;
        if depth > MAX_DEPTH {
            return Err(TreeError::Depth(show(path)));
        }
        let kind = NodeKind::Directory(Directory { children: BTreeMap::new(), parent, depth });
        let id = self.add(Node { attributes: Attributes::IMPLICIT, kind, names: 0 })?;
        self.link(parent, name, id);
        Ok(id)
    }

    /// Gives a node a name that is free.
    fn link(&mut self, folder: NodeId, name: &[u8], node: NodeId) {
        if let NodeKind::Directory(directory) = &mut self.node_mut(folder).kind {
            directory.children.insert(name.into(), node);
            self.node_mut(node).names += 1;
        }
    }

    /// Removes a name if it is there, and all below it.
    fn unlink(&mut self, folder: NodeId, name: &[u8]) {
        if let NodeKind::Directory(directory) = &mut self.node_mut(folder).kind
            && let Some(node) = directory.children.remove(name)
        {
            self.release(vec![node]);
        }
    }

    /// Takes a name away from each of the nodes, which have lost it in their folder already.
    fn release(&mut self, mut nodes: Vec<NodeId>) {
        while let Some(id) = nodes.pop() {
            let node = self.node_mut(id);
            node.names -= 1;
            if node.names > 0 {
                continue;
            }
            if let NodeKind::Directory(directory) = &mut node.kind {
                nodes.extend(std::mem::take(&mut directory.children).into_values());
            }
            self.free.push(id);
        }
    }
}
