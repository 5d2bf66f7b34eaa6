//! The files of a container, read and written whole.

use std::{
    fs::{self, File},
    io::{self, Write},
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

/// Writes aside, syncs and renames: the file is the old or the new one, whole.
pub fn write_json(
    path: &Path,
    value: &impl Serialize,
    durability: Durability,
) -> Result<(), ContainerError> {
    let folder = path.parent().unwrap_or(path);
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&serde_json::to_vec_pretty(value)?)?;
        if durability == Durability::Synced {
            file.as_file().sync_all()?;
        }
        file.persist(path)?;
        io::Result::Ok(())
    };
    write().map_err(io_error("write", path))?;
    if durability == Durability::Synced {
        sync_folder(folder)?;
    }
    Ok(())
}

pub fn sync_folder(folder: &Path) -> Result<(), ContainerError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("sync", folder))
}
