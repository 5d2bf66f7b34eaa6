//! The walk over what can differ from the image.

use std::fs::Metadata;
use std::mem;
use std::path::Path;

use super::{LayerError, look, mount_points, names, xattr};

/// The three views of a container's root.
#[derive(Clone, Copy, Debug)]
pub struct Trees<'a> {
    /// The image.
    pub lower: &'a Path,
    /// The writable layer of the overlay, mounted with `index=off`.
    pub upper: &'a Path,
    /// The overlay of the two.
    pub merged: &'a Path,
}

/// What a folder of the container is to the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// The image's folder of the same path: what differs is what the upper layer has a name for.
    Same,
    /// A folder that hides the image's: anything may differ.
    Hiding,
    /// A folder where the image has none.
    New,
}

/// Something that is in the container's tree.
#[derive(Debug)]
pub(super) struct Found {
    /// Absolute; empty for the root.
    pub(super) path: Vec<u8>,
    pub(super) merged: Metadata,
    /// What the image has there.
    pub(super) lower: Option<Metadata>,
    /// Of the folder it is in.
    pub(super) scope: Scope,
    /// Of itself, if it is a folder.
    pub(super) below: Scope,
}

/// What is to become of something that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is told of.
    Differs,
    /// It is told of if something below it is.
    Same,
    /// Neither it nor anything below it.
    Passed,
}

/// Who is told. The walk asks for a verdict on everything it finds, and tells of parents ahead of
/// their children, each once.
pub(super) trait Report {
    fn judge(&mut self, found: &Found) -> Result<Verdict, LayerError>;
    fn tell(&mut self, found: &Found) -> Result<(), LayerError>;
    /// Of what the image has and the container has not; `scope` is its folder's.
    fn tell_gone(&mut self, path: &[u8], scope: Scope) -> Result<(), LayerError>;
}

/// Tells of everything but the root itself, name for name in the order of bytes.
pub(super) fn walk(trees: &Trees<'_>, report: &mut dyn Report) -> Result<(), LayerError> {
    Walk { trees, report, path: Vec::new(), untold: Vec::new() }.folder(Scope::Same)
}

struct Walk<'a> {
    trees: &'a Trees<'a>,
    report: &'a mut dyn Report,
    path: Vec<u8>,
    /// The folders that the walk is in and that were not told of, outermost first.
    untold: Vec<Found>,
}

impl Walk<'_> {
    fn folder(&mut self, scope: Scope) -> Result<(), LayerError> {
        for name in self.names(scope)? {
            let length = self.path.len();
            self.path.push(b'/');
            self.path.extend_from_slice(&name);
            self.child(scope)?;
            self.path.truncate(length);
        }
        Ok(())
    }

    fn names(&self, scope: Scope) -> Result<Vec<Vec<u8>>, LayerError> {
        if scope == Scope::Same {
            return names(self.trees.upper, &self.path);
        }
        let mut all = names(self.trees.merged, &self.path)?;
        if scope == Scope::Hiding {
            all.extend(names(self.trees.lower, &self.path)?);
            all.sort_unstable();
            all.dedup();
        }
        Ok(all)
    }

    fn child(&mut self, scope: Scope) -> Result<(), LayerError> {
        let lower = match scope {
            // What the image has instead of the folder may be a symlink to one.
            Scope::New => None,
            Scope::Same | Scope::Hiding => look(self.trees.lower, &self.path)?,
        };
        let Some(merged) = look(self.trees.merged, &self.path)? else {
            if lower.is_some() {
                self.tell_parents()?;
                self.report.tell_gone(&self.path, scope)?;
            }
            return Ok(());
        };
        if lower.is_none() && mount_points::is_one(self.trees, &self.path, &merged)? {
            return Ok(());
        }
        let is_folder = merged.is_dir();
        let below = if !lower.as_ref().is_some_and(Metadata::is_dir) {
            Scope::New
        } else if scope == Scope::Same && !xattr::hides_lower(self.trees.upper, &self.path)? {
            Scope::Same
        } else {
            Scope::Hiding
        };
        let found = Found { path: self.path.clone(), merged, lower, scope, below };
        let untold = match self.report.judge(&found)? {
            Verdict::Passed => return Ok(()),
            Verdict::Same if is_folder => Some(found),
            Verdict::Same => None,
            Verdict::Differs => {
                self.tell_parents()?;
                self.report.tell(&found)?;
                None
            }
        };
        if is_folder {
            let depth = self.untold.len();
            self.untold.extend(untold);
            self.folder(below)?;
            self.untold.truncate(depth);
        }
        Ok(())
    }

    fn tell_parents(&mut self) -> Result<(), LayerError> {
        for folder in mem::take(&mut self.untold) {
            self.report.tell(&folder)?;
        }
        Ok(())
    }
}
