//! The files of a container, read and written whole.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use super::{
    ContainerId,
    store::{ContainerError, io_error},
};
use crate::disk::Durability;

/// Reads a file of a container. One that is missing was removed, at once with the container; in a
/// folder that is still there it is as good as an empty one.
pub fn read_of<T: DeserializeOwned>(id: &ContainerId, path: &Path) -> Result<T, ContainerError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !path.parent().is_some_and(Path::is_dir) {
                return Err(ContainerError::NotFound(id.to_string()));
            }
            Vec::new()
        }
        other => other.map_err(io_error("read", path))?,
    };
    serde_json::from_slice(&bytes).map_err(|source| ContainerError::Damaged {
        id: id.clone(),
        path: path.into(),
        source,
    })
}

/// Writes a file into a folder that nobody sees yet, and that the caller syncs.
pub fn write_new(
    path: &Path,
    value: &impl Serialize,
    durability: Durability,
) -> Result<(), ContainerError> {
    let write = || {
        let file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        fill(&file, value, durability)
    };
    write().map_err(io_error("write", path))
}

/// Writes aside, syncs and renames: the file is the old or the new one, whole.
pub fn replace(
    path: &Path,
    value: &impl Serialize,
    durability: Durability,
) -> Result<(), ContainerError> {
    let folder = path.parent().unwrap_or(path);
    let write = || {
        let file = tempfile::NamedTempFile::new_in(folder)?;
        fill(file.as_file(), value, durability)?;
        file.persist(path)?;
        io::Result::Ok(())
    };
    write().map_err(io_error("write", path))?;
    if durability == Durability::Synced {
        sync_folder(folder)?;
    }
    Ok(())
}

fn fill(mut file: &File, value: &impl Serialize, durability: Durability) -> io::Result<()> {
    file.write_all(&serde_json::to_vec_pretty(value)?)?;
    match durability {
        Durability::Synced => file.sync_all(),
        Durability::Unsynced => Ok(()),
    }
}

pub fn sync_folder(folder: &Path) -> Result<(), ContainerError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("sync", folder))
}
