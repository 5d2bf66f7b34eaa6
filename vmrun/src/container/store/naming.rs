//! Which container has which name: a folder of links from names to ids.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{ContainerError, Containers, NAMES, io_error};
use crate::container::{ContainerId, ContainerName, Record, names};

impl Containers {
    pub(super) fn free_name(
        &self,
        wanted: Option<ContainerName>,
    ) -> Result<ContainerName, ContainerError> {
        let Some(name) = wanted else {
            let mut attempt = 0;
            loop {
                let name = names::random(attempt);
                if self.owner(&name)?.is_none() {
                    return Ok(name);
                }
                attempt += 1;
            }
        };
        match self.owner(&name)? {
            Some(by) => Err(ContainerError::NameInUse { name, by }),
            None => Ok(name),
        }
    }

    /// The container that has a name; not one that a killed command left a link to, or renamed.
    pub(super) fn owner(
        &self,
        name: &ContainerName,
    ) -> Result<Option<ContainerId>, ContainerError> {
        let link = self.name_link(name);
        let target = match fs::read_link(&link) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(io_error("read", &link))?,
        };
        let id = ContainerId::try_from(target.to_string_lossy().into_owned())?;
        match self.open(&id) {
            Ok(container) if container.record.name == *name => Ok(Some(id)),
            Ok(_) | Err(ContainerError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) fn release_name(&self, record: &Record) {
        let link = self.name_link(&record.name);
        if fs::read_link(&link).is_ok_and(|target| target == Path::new(record.id.as_str())) {
            let _ = fs::remove_file(link);
        }
    }

    pub(super) fn name_link(&self, name: &ContainerName) -> PathBuf {
        self.paths.containers().join(NAMES).join(name.as_str())
    }
}
