//! The list of changes: what Docker compares, and no more. Docker looks at kind, mode, owner, device
//! number and capabilities of everything, at size and time of all but folders, and at no data.

use std::io::Write;
use std::os::unix::fs::MetadataExt;

use agent_protocol::{Change, ChangeKind, FrameError, encode};

use super::walk::{Found, Report, Scope, Trees, Verdict};
use super::{LayerError, xattr};

/// Writes a frame a change.
pub(super) struct List<'a> {
    trees: &'a Trees<'a>,
    out: &'a mut dyn Write,
}

impl<'a> List<'a> {
    pub(super) fn new(trees: &'a Trees<'a>, out: &'a mut dyn Write) -> Self {
        Self { trees, out }
    }

    fn write(&mut self, kind: ChangeKind, path: &[u8]) -> Result<(), LayerError> {
        let frame = encode(&Change { kind, path: path.to_vec() }).map_err(|error| match error {
            FrameError::Io(error) => LayerError::Write(error),
            other => LayerError::Write(std::io::Error::other(other)),
        })?;
        self.out.write_all(&frame).map_err(LayerError::Write)
    }

    fn have_same_capabilities(&self, found: &Found) -> Result<bool, LayerError> {
        let of = |root| xattr::one(root, &found.path, c"security.capability");
        Ok(!found.merged.is_file() || of(self.trees.merged)? == of(self.trees.lower)?)
    }
}

impl Report for List<'_> {
    fn judge(&mut self, found: &Found) -> Result<Verdict, LayerError> {
        let Found { merged, lower: Some(lower), .. } = found else { return Ok(Verdict::Differs) };
        let numbers = |of: &std::fs::Metadata| (of.mode(), of.uid(), of.gid(), of.rdev());
        let content = |of: &std::fs::Metadata| (of.len(), of.mtime(), of.mtime_nsec());
        let same = numbers(merged) == numbers(lower)
            && (merged.is_dir() || content(merged) == content(lower))
            && self.have_same_capabilities(found)?;
        Ok(if same { Verdict::Same } else { Verdict::Differs })
    }

    fn tell(&mut self, found: &Found) -> Result<(), LayerError> {
        let kind = if found.lower.is_some() { ChangeKind::Changed } else { ChangeKind::Added };
        self.write(kind, &found.path)
    }

    fn tell_gone(&mut self, path: &[u8], _: Scope) -> Result<(), LayerError> {
        self.write(ChangeKind::Deleted, path)
    }
}
