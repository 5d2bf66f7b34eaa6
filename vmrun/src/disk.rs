//! A container's writable disk: a sparse ext4 file made from a template that `build.rs` embeds.
//!
//! The host writes the few blocks of an empty file system and never looks at the file again: what a
//! guest wrote is for guests to read. There are two templates, because Linux refuses to grow a file
//! system with `sparse_super2`, the feature that makes the default size cheap: a disk of another
//! size starts as the small growable one, and the agent grows it at the first boot.

use std::{
    fmt,
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use crate::size::{ByteSize, SizeError};

/// What stands where Docker names its storage driver: the file system of the root disk under the
/// writable one.
pub const DRIVER: &str = "erofs";

const BLOCK: u64 = 4096;
static DEFAULT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/disk-10g.template"));
static GROWABLE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/disk-growable.template"));

/// The size of a writable disk in bytes: a multiple of 4 KiB from 256 MiB to 16 TiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiskSize(u64);

impl DiskSize {
    const LEAST: u64 = 256 << 20;
    const MOST: u64 = 16 << 40;

    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// Whether the agent has to grow the file system at the first boot.
    pub fn grows(self) -> bool {
        self != Self::default()
    }
}

impl Default for DiskSize {
    fn default() -> Self {
        Self(10 << 30)
    }
}

impl FromStr for DiskSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let ByteSize(bytes) = text.parse()?;
        if (Self::LEAST..=Self::MOST).contains(&bytes) {
            Ok(Self(bytes.next_multiple_of(BLOCK)))
        } else {
            Err(SizeError::Range { text: text.into(), least: "256m", most: "16t" })
        }
    }
}

impl fmt::Display for DiskSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ByteSize(self.0).fmt(f)
    }
}

/// Whether what is written has to survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    Synced,
    Unsynced,
}

/// A writable disk could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the writable disk {path}")]
pub struct DiskError {
    path: PathBuf,
    source: io::Error,
}

/// Makes an empty disk; on failure no file is left.
pub fn create(path: &Path, size: DiskSize, durability: Durability) -> Result<(), DiskError> {
    write(path, size, durability).map_err(|source| {
        let _ = fs::remove_file(path);
        DiskError { path: path.into(), source }
    })
}

fn write(path: &Path, size: DiskSize, durability: Durability) -> io::Result<()> {
    let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.set_len(size.bytes())?;
    for (number, block) in blocks(if size.grows() { GROWABLE } else { DEFAULT }) {
        file.write_all_at(block, u64::from(number) * BLOCK)?;
    }
    if durability == Durability::Synced {
        file.sync_all()?;
    }
    Ok(())
}

/// Bytes that an empty disk takes on the host at most: its blocks, and one for the host's own list of
/// where they are.
pub fn empty_usage(size: DiskSize) -> u64 {
    let template = if size.grows() { GROWABLE } else { DEFAULT };
    (blocks(template).count() as u64 + 1) * BLOCK
}

/// The blocks of a template; its first 8 bytes are the size of its file system.
fn blocks(template: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    template[8..].chunks_exact(4 + 4096).map(|entry| {
        let (number, block) = entry.split_at(4);
        (u32::from_le_bytes([number[0], number[1], number[2], number[3]]), block)
    })
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::MetadataExt, process::Command};

    use super::*;

    fn accepted_by_e2fsck(size: DiskSize) -> u64 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk.ext4");
        create(&path, size, Durability::Synced).unwrap();
        let output = Command::new("/sbin/e2fsck").arg("-fn").arg(&path).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(path.metadata().unwrap().len(), size.bytes());
        path.metadata().unwrap().blocks() * 512
    }

    #[test]
    fn default_disk_is_a_clean_ext4_of_at_most_128_kib() {
        let allocated = accepted_by_e2fsck(DiskSize::default());
        assert!(allocated <= 128 << 10, "{allocated} bytes allocated");
        assert!(allocated <= empty_usage(DiskSize::default()), "{allocated} bytes allocated");
    }

    #[test]
    fn disk_of_another_size_is_a_clean_ext4() {
        accepted_by_e2fsck("1g".parse().unwrap());
    }

    #[test]
    fn existing_file_is_not_overwritten() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "kept").unwrap();
        assert!(create(file.path(), DiskSize::default(), Durability::Unsynced).is_err());
    }

    #[test]
    fn sizes_out_of_range_are_refused() {
        for text in ["0", "255m", "17t", "x", "", "-1g"] {
            assert!(text.parse::<DiskSize>().is_err(), "{text}");
        }
    }
}
