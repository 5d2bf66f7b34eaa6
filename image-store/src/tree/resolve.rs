//! From a path to a node, through symlinks, never out of the tree.

use super::{NodeId, NodeKind, Tree, TreeError};
use crate::layer::{show, split_last};
use crate::limits::{MAX_NAME, MAX_SYMLINKS_FOLLOWED};

/// What to do about a directory of the path that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    /// The path leads nowhere.
    Stop,
    /// It is made, unless something else is in its place.
    Create,
    /// It is made, and what is in its place goes.
    Replace,
}

impl Tree {
    /// The directory that `path`, which is not empty, has its last component in, and that
    /// component.
    pub(super) fn resolve_parent<'p>(
        &mut self,
        path: &'p [u8],
        missing: Missing,
    ) -> Result<Option<(NodeId, &'p [u8])>, TreeError> {
        let (folder, name) = split_last(path);
        Ok(self.resolve(folder, missing)?.map(|folder| (folder, name)))
    }

    /// The directory at `path`.
    pub(super) fn resolve(
        &mut self,
        path: &[u8],
        missing: Missing,
    ) -> Result<Option<NodeId>, TreeError> {
        let mut at = NodeId::ROOT;
        let mut links = 0;
        // Components still to be walked: those of `path`, and on top those of symlinks' targets.
        let mut rest = path;
        let mut pushed: Vec<Box<[u8]>> = Vec::new();
        loop {
            let owned = pushed.pop();
            let component = match &owned {
                Some(component) => component,
                None if rest.is_empty() => return Ok(Some(at)),
                None => {
                    let mut parts = rest.splitn(2, |&byte| byte == b'/');
                    let first = parts.next().unwrap_or_default();
                    rest = parts.next().unwrap_or_default();
                    first
                }
            };
            self.work = self.work.checked_sub(1).ok_or_else(|| TreeError::Work(show(path)))?;
            if component == b".." {
                at = self.directory(at).map_or(NodeId::ROOT, |directory| directory.parent);
                continue;
            }
            let child = self.child(at, component);
            match child.map(|id| (id, &self.node(id).kind)) {
                Some((id, NodeKind::Directory(_))) => at = id,
                Some((_, NodeKind::Symlink(target))) => {
                    links += 1;
                    if links > MAX_SYMLINKS_FOLLOWED {
                        return match missing {
                            Missing::Replace => Err(TreeError::Symlinks(show(path))),
                            Missing::Stop | Missing::Create => Ok(None),
                        };
                    }
                    if target.starts_with(b"/") {
                        at = NodeId::ROOT;
                    }
                    let components = target.rsplit(|&byte| byte == b'/');
                    let named = components.filter(|name| !matches!(name, [] | [b'.']));
                    pushed.extend(named.map(Box::from));
                }
                found => match (found.is_some(), missing) {
                    (_, Missing::Stop) | (true, Missing::Create) => return Ok(None),
                    _ if component.len() > MAX_NAME => return Err(TreeError::Name(show(path))),
                    _ => {
                        self.unlink(at, component);
                        at = self.make_directory(at, component, path)?;
                    }
                },
            }
        }
    }
}
