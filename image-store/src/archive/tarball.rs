//! Tar archives: found in place, or spooled.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::{ArchiveError, Content, Member, Members, Spooled};
use crate::files::{create_new, io_error};
use crate::layer::{normalise, show, split_last};
use crate::tar::{self, DataSink, Input, MemberKind, SeekInput, TarReader};
use crate::{Digest, StoreError};

/// Finds the files of an archive that stays where it is; `file` is the same file as `input`.
pub(super) fn scan(input: SeekInput, file: File) -> Result<Members, ArchiveError> {
    let file = Arc::new(file);
    let mut reader = TarReader::new(input);
    let mut members = Members::default();
    while let Some(member) = reader.next_member()? {
        let Some(path) = member_path(&member.path) else { continue };
        if member.kind == MemberKind::Regular {
            if !reader.is_plain() {
                return Err(ArchiveError::Sparse(show(&member.path)));
            }
            let content = Content::part(Arc::clone(&file), reader.position(), member.size);
            members.add(path, Member::File(content))?;
        } else {
            add_link(&mut members, path, &member)?;
        }
    }
    Ok(members)
}

/// Writes the files of an archive into `folder`.
pub(super) fn spool<R: Input>(input: R, folder: &Path) -> Result<Members, ArchiveError> {
    let mut reader = TarReader::new(input);
    let mut members = Members::default();
    let mut count = 0u64;
    while let Some(member) = reader.next_member()? {
        let Some(path) = member_path(&member.path) else { continue };
        if member.kind != MemberKind::Regular {
            add_link(&mut members, path, &member)?;
            continue;
        }
        if !reader.is_plain() {
            return Err(ArchiveError::Sparse(show(&member.path)));
        }
        let spool = folder.join(format!("spool-{count}"));
        count += 1;
        let mut sink = Spool { file: create_new(&spool)?, path: spool, hasher: Sha256::new() };
        reader.read_data(&mut sink)?;
        let digest = Digest::from(<[u8; 32]>::from(sink.hasher.finalize()));
        let spooled = Spooled { path: sink.path, digest };
        members.add(path, Member::File(Content::spooled(sink.file, member.size, spooled)))?;
    }
    Ok(members)
}

/// Names that cannot be asked for are passed over.
fn member_path(path: &[u8]) -> Option<Vec<u8>> {
    normalise(path).ok().filter(|path| !path.is_empty())
}

fn add_link(
    members: &mut Members,
    path: Vec<u8>,
    member: &tar::Member,
) -> Result<(), ArchiveError> {
    let target = match member.kind {
        MemberKind::HardLink => normalise(&member.link).ok(),
        MemberKind::Symlink => relative_to(split_last(&path).0, &member.link),
        _ => return Ok(()),
    };
    match target {
        Some(target) => members.add(path, Member::Link(target)),
        None => Ok(()),
    }
}

/// Where a symlink in `folder` leads, taking `..` for the folder above; `None` if out of the
/// archive.
fn relative_to(folder: &[u8], target: &[u8]) -> Option<Vec<u8>> {
    let mut parts: Vec<&[u8]> = Vec::new();
    let folder = if target.starts_with(b"/") { b"" } else { folder };
    for part in folder.split(|&byte| byte == b'/').chain(target.split(|&byte| byte == b'/')) {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join(&b'/'))
}

struct Spool {
    file: File,
    path: PathBuf,
    hasher: Sha256,
}

impl DataSink for Spool {
    type Error = ArchiveError;

    fn data(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        self.hasher.update(bytes);
        self.file.write_all(bytes).map_err(io_error("write", &self.path)).map_err(StoreError::into)
    }

    fn hole(&mut self, _length: u64) -> Result<(), ArchiveError> {
        Err(ArchiveError::Sparse(self.path.display().to_string()))
    }
}
