//! The containers of this user: made, found, listed and removed.

mod naming;
mod removal;

use std::{
    cmp::Reverse,
    collections::HashSet,
    fs::{self, DirBuilder, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, symlink},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use super::{
    Condition, ContainerId, ContainerName, NameError, Record, State, Status,
    files::{read_of, replace, sync_folder, write_new},
};
use crate::{
    disk::{self, DiskError, Durability},
    paths::{PathError, Paths, make_private},
};

/// Something is wrong with a container or the folder of it.
#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    #[error("No such container: {0}")]
    NotFound(String),
    #[error("the id prefix '{0}' fits more than one container; give more of it")]
    Ambiguous(String),
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{by}\". \
         You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameInUse { name: ContainerName, by: ContainerId },
    #[error("container {0} is running")]
    Running(ContainerId),
    #[error(
        "container {0} is in use: another command reads its files or the rest of its output; \
         try again when that has ended"
    )]
    InUse(ContainerId),
    #[error(transparent)]
    Disk(#[from] DiskError),
    #[error(transparent)]
    Path(#[from] PathError),
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("{path} is damaged; 'vmrun rm {id}' removes the container")]
    Damaged { id: ContainerId, path: PathBuf, source: serde_json::Error },
    #[error("cannot {doing} {path}")]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
}

pub(super) fn io_error(
    doing: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> ContainerError {
    move |source| ContainerError::Io { doing, path: path.into(), source }
}

/// How long somebody may hold a container that does not run before others are refused.
const HOLD_PATIENCE: Duration = Duration::from_secs(30);
const HOLD_PAUSE: Duration = Duration::from_millis(10);

/// The folder of links from names to ids, in the folder of containers.
const NAMES: &str = "names";

/// The bit in the mode of a container's folder (`S_ISVTX`, which says nothing of a folder that is one
/// user's) that marks one to be removed after its run: a power cut may leave it without a record.
const PASSING: u32 = 0o1000;

/// All containers of this user.
#[derive(Debug)]
pub struct Containers {
    paths: Paths,
}

/// One container, as found on disk.
#[derive(Clone, Debug)]
pub struct Container {
    pub record: Record,
    folder: PathBuf,
}

/// Held by the monitor while the container runs. Dropping it ends the run.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl Containers {
    /// The containers under these paths.
    pub fn new(paths: Paths) -> Self {
        Self { paths }
    }

    /// Makes a container with an empty disk. `record` is given the name (a free one is chosen where
    /// there is none) and must settle the rest. What is to be removed after its run is not synced.
    pub fn create(
        &self,
        name: Option<ContainerName>,
        record: impl FnOnce(ContainerName) -> Record,
    ) -> Result<Container, ContainerError> {
        let _lock = self.lock()?;
        let record = record(self.free_name(name)?);
        // Built aside and renamed, so that no other command ever sees half a container.
        let aside = self.paths.containers().join(format!(".new-{}", record.id));
        let made = self.create_aside(&aside, &record);
        if made.is_err() {
            let _ = fs::remove_dir_all(&aside);
            self.release_name(&record);
        }
        made.map(|()| Container { folder: self.folder(&record.id), record })
    }

    fn create_aside(&self, aside: &Path, record: &Record) -> Result<(), ContainerError> {
        let durability = record.durability();
        let mode = if durability == Durability::Synced { 0o700 } else { 0o700 | PASSING };
        DirBuilder::new().mode(mode).create(aside).map_err(io_error("make the folder", aside))?;
        disk::create(&aside.join("disk.ext4"), record.resources.disk, durability)?;
        File::create(aside.join("lock")).map_err(io_error("make the lock in", aside))?;
        write_new(&aside.join("config.json"), record, durability)?;
        write_new(&aside.join("state.json"), &Condition::from(State::Created), durability)?;
        if durability == Durability::Synced {
            sync_folder(aside)?;
        }
        let name = self.name_link(&record.name);
        make_private(&self.paths.containers().join(NAMES))?;
        // A link without a container, left by a killed command, stands in the way: `free_name` has
        // made sure that no container has the name.
        let _ = fs::remove_file(&name);
        symlink(record.id.as_str(), &name).map_err(io_error("make", &name))?;
        let folder = self.folder(&record.id);
        fs::rename(aside, &folder).map_err(io_error("make", &folder))?;
        if durability == Durability::Synced {
            sync_folder(&self.paths.containers().join(NAMES))?;
            sync_folder(&self.paths.containers())?;
        }
        Ok(())
    }

    /// Every container, newest first; [`Self::damaged`] has those that cannot be read.
    pub fn list(&self) -> Result<Vec<Container>, ContainerError> {
        let mut found = Vec::new();
        for id in self.ids()? {
            match self.open(&id) {
                Ok(container) => found.push(container),
                // Removed since the folder was listed.
                Err(ContainerError::NotFound(_) | ContainerError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        found.sort_by_key(|container| Reverse(container.record.created));
        Ok(found)
    }

    /// Every container and its status, as [`Self::list`] has them; none that is removed meanwhile.
    pub fn list_with_status(&self) -> Result<Vec<(Container, Status)>, ContainerError> {
        self.with_status(self.list()?)
    }

    /// What is wrong with each container that is not among those `known`.
    pub fn damaged(
        &self,
        known: &[(Container, Status)],
    ) -> Result<Vec<ContainerError>, ContainerError> {
        let known: HashSet<_> = known.iter().map(|(known, _)| &known.record.id).collect();
        let mut ids = self.ids()?;
        ids.retain(|id| !known.contains(id));
        let read = |id| self.open(id).and_then(|container| container.condition());
        let errors = ids.iter().filter_map(|id| read(id).err());
        Ok(errors.filter(|error| matches!(error, ContainerError::Damaged { .. })).collect())
    }

    /// Containers and their status; none that is removed meanwhile, or damaged.
    pub fn with_status(
        &self,
        containers: Vec<Container>,
    ) -> Result<Vec<(Container, Status)>, ContainerError> {
        let mut found = Vec::new();
        for container in containers {
            match self.status(&container) {
                Ok(status) => found.push((container, status)),
                Err(ContainerError::NotFound(_) | ContainerError::Damaged { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Opens a container by its whole id.
    pub fn open(&self, id: &ContainerId) -> Result<Container, ContainerError> {
        let folder = self.folder(id);
        let record = read_of(id, &folder.join("config.json"))?;
        Ok(Container { record, folder })
    }

    /// Finds a container by name, id, or a prefix of its id that fits no other.
    pub fn find(&self, wanted: &str) -> Result<Container, ContainerError> {
        if let Ok(name) = wanted.parse()
            && let Some(id) = self.owner(&name)?
        {
            return self.open(&id);
        }
        let mut fitting = self.ids()?;
        fitting.retain(|id| !wanted.is_empty() && id.as_str().starts_with(wanted));
        match fitting.as_slice() {
            [id] => self.open(id),
            [] => Err(ContainerError::NotFound(wanted.into())),
            [..] => Err(ContainerError::Ambiguous(wanted.into())),
        }
    }

    /// The state, with a running container told from one whose monitor died.
    pub fn status(&self, container: &Container) -> Result<Status, ContainerError> {
        let condition = container.condition()?;
        if !condition.state.needs_monitor() {
            return Ok(Status::new(condition, false));
        }
        // No run begins while this is held, so trying its lock stands in nobody's way.
        let file = self.lock_file()?;
        file.lock_shared().map_err(io_error("lock", &self.paths.containers()))?;
        let locked = matches!(container.lock(), Err(ContainerError::Running(_)));
        // The run may have ended, and said so, between the two looks.
        Ok(Status::new(if locked { condition } else { container.condition()? }, locked))
    }

    /// Whether a monitor looks after a container. It still does when the end is on record, as long
    /// as output is on its way to the log.
    pub fn is_attended(&self, container: &Container) -> Result<bool, ContainerError> {
        // As in [`Self::status`].
        let file = self.lock_file()?;
        file.lock_shared().map_err(io_error("lock", &self.paths.containers()))?;
        match container.lock() {
            Ok(_) | Err(ContainerError::NotFound(_)) => Ok(false),
            Err(ContainerError::Running(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Takes the run lock for the monitor; [`ContainerError::Running`] if it runs already, and
    /// unless it is to `wait`, also if its files are held for a moment.
    pub fn begin_run(&self, container: &Container, wait: bool) -> Result<RunLock, ContainerError> {
        if wait {
            return self.lock_at_rest(container).map(|(_, run)| run);
        }
        let _lock = self.lock()?;
        container.lock()
    }

    /// Takes the lock of all containers and that of a container which does not run. One whose files
    /// are held for a moment, by a copy out of it, is waited for.
    fn lock_at_rest(&self, container: &Container) -> Result<(File, RunLock), ContainerError> {
        let deadline = Instant::now() + HOLD_PATIENCE;
        loop {
            let lock = self.lock()?;
            match container.lock() {
                Err(ContainerError::Running(id))
                    if !container.condition()?.state.needs_monitor() =>
                {
                    if Instant::now() >= deadline {
                        return Err(ContainerError::InUse(id));
                    }
                }
                run => return run.map(|run| (lock, run)),
            }
            drop(lock);
            thread::sleep(HOLD_PAUSE);
        }
    }

    /// Gives a container another name.
    pub fn rename(
        &self,
        container: &Container,
        name: ContainerName,
    ) -> Result<Container, ContainerError> {
        let _lock = self.lock()?;
        let mut renamed = self.open(&container.record.id)?;
        let name = self.free_name(Some(name))?;
        let link = self.name_link(&name);
        let _ = fs::remove_file(&link);
        symlink(renamed.record.id.as_str(), &link).map_err(io_error("make", &link))?;
        let old = renamed.record.clone();
        renamed.record.name = name;
        // Where this fails the new link is to no container of that name, and stands in nobody's way.
        renamed.write_record()?;
        self.release_name(&old);
        sync_folder(&self.paths.containers().join(NAMES))?;
        Ok(renamed)
    }

    /// Changes a container's record.
    pub fn update(
        &self,
        id: &ContainerId,
        change: impl FnOnce(&mut Record),
    ) -> Result<Container, ContainerError> {
        let _lock = self.lock()?;
        let mut container = self.open(id)?;
        change(&mut container.record);
        container.write_record()?;
        Ok(container)
    }

    fn ids(&self) -> Result<Vec<ContainerId>, ContainerError> {
        let folder = self.paths.containers();
        let mut ids = Vec::new();
        for entry in fs::read_dir(&folder).map_err(io_error("read", &folder))? {
            let name = entry.map_err(io_error("read", &folder))?.file_name();
            ids.extend(name.into_string().ok().and_then(|name| ContainerId::try_from(name).ok()));
        }
        Ok(ids)
    }

    fn lock(&self) -> Result<File, ContainerError> {
        let file = self.lock_file()?;
        file.lock().map_err(io_error("lock", &self.paths.containers()))?;
        Ok(file)
    }

    fn lock_file(&self) -> Result<File, ContainerError> {
        let path = self.paths.containers().join("lock");
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io_error("open", &path))
    }

    fn folder(&self, id: &ContainerId) -> PathBuf {
        self.paths.containers().join(id.as_str())
    }
}

impl Container {
    /// The writable disk.
    pub fn disk(&self) -> PathBuf {
        self.folder.join("disk.ext4")
    }

    /// Bytes that the host has allocated for the writable disk.
    pub fn disk_usage(&self) -> Result<u64, ContainerError> {
        let path = self.disk();
        match fs::metadata(&path) {
            Ok(metadata) => Ok(metadata.blocks().saturating_mul(512)),
            // Removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// Bytes that the guest's writes take on the host.
    pub fn written(&self) -> Result<u64, ContainerError> {
        let empty = disk::empty_usage(self.record.resources.disk);
        self.disk_usage().map(|usage| usage.saturating_sub(empty))
    }

    /// The folder of its files.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What `state.json` says; see [`Containers::status`] for whether that still holds.
    pub fn condition(&self) -> Result<Condition, ContainerError> {
        read_of(&self.record.id, &self.folder.join("state.json"))
    }

    /// Records a new condition, durably.
    pub fn set_condition(
        &self,
        condition: &Condition,
        _run: &RunLock,
    ) -> Result<(), ContainerError> {
        replace(&self.folder.join("state.json"), condition, self.record.durability())
    }

    fn write_record(&self) -> Result<(), ContainerError> {
        replace(&self.folder.join("config.json"), &self.record, self.record.durability())
    }

    fn lock(&self) -> Result<RunLock, ContainerError> {
        lock(&self.record.id, &self.folder)
    }
}

fn lock(id: &ContainerId, folder: &Path) -> Result<RunLock, ContainerError> {
    let path = folder.join("lock");
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(ContainerError::NotFound(id.to_string()));
        }
        other => other.map_err(io_error("open", &path))?,
    };
    match file.try_lock() {
        Ok(()) => Ok(RunLock { _file: file }),
        Err(TryLockError::WouldBlock) => Err(ContainerError::Running(id.clone())),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &path)(error)),
    }
}

#[cfg(test)]
mod tests;
