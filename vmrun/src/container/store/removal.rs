//! How containers go: by command, after their run, and what was left of them by killed commands and
//! power cuts.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Container, ContainerError, Containers, PASSING, RunLock, io_error, lock};
use crate::{
    container::{Condition, ContainerId, State, files::sync_folder},
    disk::Durability,
};

impl Containers {
    /// Deletes a container that is not running, with its disk.
    pub fn remove(&self, container: &Container) -> Result<(), ContainerError> {
        let (_lock, _run) = self.lock_at_rest(container)?;
        self.delete(container)
    }

    /// Deletes the container whose run lock the caller holds.
    pub fn remove_locked(
        &self,
        container: &Container,
        _run: &RunLock,
    ) -> Result<(), ContainerError> {
        let _lock = self.lock()?;
        self.delete(container)
    }

    /// Removes what killed commands and power cuts left: half-made containers, runtime folders without
    /// a container, and `--rm` containers whose monitor died or whose record was lost. Leaves alone
    /// whatever it cannot lock or delete. Gives what it kept, as [`Self::list`] does.
    pub fn sweep(&self) -> Result<Vec<Container>, ContainerError> {
        let _lock = self.lock()?;
        let folder = self.paths.containers();
        for entry in fs::read_dir(&folder).map_err(io_error("read", &folder))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with('.') {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let lasting = self.paths.lasting_runtime().and_then(|runtime| fs::read_dir(runtime).ok());
        for entry in lasting.into_iter().flatten().flatten() {
            let id = entry.file_name().into_string().ok();
            let id = id.and_then(|id| ContainerId::try_from(id).ok());
            if id.is_some_and(|id| !self.folder(&id).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        for id in self.ids()? {
            let folder = fs::metadata(self.folder(&id));
            let is_passing = folder.is_ok_and(|folder| folder.mode() & PASSING != 0);
            if is_passing && matches!(self.open(&id), Err(ContainerError::Damaged { .. })) {
                let _ = self.delete_damaged(&id, Durability::Unsynced);
            }
        }
        let mut kept = self.list()?;
        kept.retain(|container| {
            let is_over =
                || !matches!(container.condition(), Ok(Condition { state: State::Created, .. }));
            match container.record.remove_on_exit && is_over() {
                true => match container.lock() {
                    Ok(_) | Err(ContainerError::NotFound(_)) => self.delete(container).is_err(),
                    Err(_) => true,
                },
                false => true,
            }
        });
        Ok(kept)
    }

    /// Deletes a container that cannot be read, unless it runs all the same.
    pub fn remove_damaged(&self, id: &ContainerId) -> Result<(), ContainerError> {
        let _lock = self.lock()?;
        self.delete_damaged(id, Durability::Synced)
    }

    fn delete_damaged(
        &self,
        id: &ContainerId,
        durability: Durability,
    ) -> Result<(), ContainerError> {
        let _run = match lock(id, &self.folder(id)) {
            // It has none any more.
            Err(ContainerError::NotFound(_)) => None,
            run => Some(run?),
        };
        let _ = fs::remove_dir_all(self.paths.runtime_of(id.as_str()));
        remove_folder(&self.set_aside(id, durability)?)
    }

    fn delete(&self, container: &Container) -> Result<(), ContainerError> {
        let id = &container.record.id;
        let aside = self.set_aside(id, container.record.durability())?;
        self.release_name(&container.record);
        let _ = fs::remove_dir_all(self.paths.runtime_of(id.as_str()));
        remove_folder(&aside)
    }

    /// Renames the folder of a container that is to be deleted, so that a deletion that is cut short
    /// leaves nothing that looks like a container; gives the new path.
    fn set_aside(
        &self,
        id: &ContainerId,
        durability: Durability,
    ) -> Result<PathBuf, ContainerError> {
        let (folder, aside) = (self.folder(id), self.paths.containers().join(format!(".old-{id}")));
        fs::rename(&folder, &aside).map_err(io_error("remove", &folder))?;
        if durability == Durability::Synced {
            sync_folder(&self.paths.containers())?;
        }
        Ok(aside)
    }
}

fn remove_folder(folder: &Path) -> Result<(), ContainerError> {
    fs::remove_dir_all(folder).map_err(io_error("remove", folder))
}
