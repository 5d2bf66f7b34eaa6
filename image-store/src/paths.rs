//! Where things are in a store's folder, its locks, and the folders that loads write into.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use crate::files::{create_folder, io_error, remove, sync_folder};
use crate::{Digest, RootKey, StoreError};

/// Name of the file in an ingest folder that its load holds locked.
const INGEST_LOCK: &str = "lock";

/// The folder of a store.
#[derive(Clone, Debug)]
pub(crate) struct Paths {
    root: PathBuf,
}

impl Paths {
    pub(crate) fn create(root: &Path) -> Result<Self, StoreError> {
        let paths = Self { root: root.to_owned() };
        create_folder(root)?;
        for folder in [paths.blobs(), paths.layers(), paths.roots(), paths.ingest()] {
            create_folder(&folder)?;
        }
        Ok(paths)
    }

    /// Makes all that was published durable, also by others and by what was killed since: before the
    /// catalog names it.
    pub(crate) fn sync_content(&self) -> Result<(), StoreError> {
        for folder in ["blobs/sha256", "blobs", "layers", "roots"] {
            sync_folder(&self.root.join(folder))?;
        }
        self.sync_root()
    }

    /// Makes the catalog durable that was put in place.
    pub(crate) fn sync_root(&self) -> Result<(), StoreError> {
        sync_folder(&self.root)
    }

    pub(crate) fn catalog(&self) -> PathBuf {
        self.root.join("images.json")
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.hex())
    }

    pub(crate) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(crate) fn layer(&self, diff_id: &Digest) -> PathBuf {
        self.layers().join(diff_id.hex())
    }

    pub(crate) fn roots(&self) -> PathBuf {
        self.root.join("roots")
    }

    pub(crate) fn root_folder(&self, key: &RootKey) -> PathBuf {
        self.roots().join(key.0.hex())
    }

    pub(crate) fn ingest(&self) -> PathBuf {
        self.root.join("ingest")
    }

    /// Taken by [`Lock::shared`] while content is added, exclusively while it is collected.
    pub(crate) fn content_lock(&self) -> PathBuf {
        self.root.join("content.lock")
    }

    /// Guards the catalog.
    pub(crate) fn catalog_lock(&self) -> PathBuf {
        self.root.join("images.lock")
    }

    /// Guards the making of one layer or root. Removed with the content lock held exclusively, so
    /// it is taken with that held shared.
    pub(crate) fn making_lock(&self, digest: &Digest) -> PathBuf {
        self.ingest().join(format!("{}.lock", digest.hex()))
    }
}

/// A held `flock`; ends with the value, or with the process.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    pub(crate) fn shared(path: &Path) -> Result<Self, StoreError> {
        Self::wait(path, File::lock_shared)
    }

    pub(crate) fn exclusive(path: &Path) -> Result<Self, StoreError> {
        Self::wait(path, File::lock)
    }

    fn wait(path: &Path, lock: fn(&File) -> io::Result<()>) -> Result<Self, StoreError> {
        let file = open_lock(path)?;
        loop {
            match lock(&file) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    result.map_err(io_error("lock", path))?;
                    return Ok(Self { _file: file });
                }
            }
        }
    }

    /// `None` if somebody holds it.
    pub(crate) fn try_exclusive(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = open_lock(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(io_error("lock", path)(error)),
        }
    }
}

fn open_lock(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(io_error("open", path))
}

/// The folder of one load; removed with the value, or swept after the process is gone.
#[derive(Debug)]
pub(crate) struct Ingest {
    folder: TempDir,
    /// Things moved here so far.
    taken: AtomicUsize,
    _lock: Lock,
}

impl Ingest {
    pub(crate) fn create(paths: &Paths) -> Result<Self, StoreError> {
        let parent = paths.ingest();
        // Lest the folder be swept before it is locked.
        let _creating = Lock::exclusive(&parent.join(INGEST_LOCK))?;
        let folder = TempDir::new_in(&parent).map_err(io_error("create a folder in", &parent))?;
        let lock = Lock::exclusive(&folder.path().join(INGEST_LOCK))?;
        Ok(Self { folder, taken: AtomicUsize::new(0), _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Moves something of the store here, to be deleted with the folder; whether it was there. The
    /// folder it was in has to be synced before that.
    pub(crate) fn take(&self, path: &Path) -> Result<bool, StoreError> {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        match fs::rename(path, self.path().join(format!("taken-{number}"))) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_error("move aside", path)(error)),
        }
    }

    /// Removes the folders of loads that were killed.
    pub(crate) fn sweep(paths: &Paths) -> Result<(), StoreError> {
        let parent = paths.ingest();
        let _creating = Lock::exclusive(&parent.join(INGEST_LOCK))?;
        for entry in fs::read_dir(&parent).map_err(io_error("list", &parent))? {
            let path = entry.map_err(io_error("list", &parent))?.path();
            if path.is_dir() && Lock::try_exclusive(&path.join(INGEST_LOCK))?.is_some() {
                remove(&path)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn row36_what_a_killed_load_left_is_swept_and_what_a_running_one_has_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::create(folder.path()).unwrap();
        let running = Ingest::create(&paths).unwrap();
        let killed = paths.ingest().join("killed");
        fs::create_dir(&killed).unwrap();
        fs::write(killed.join("lock"), "").unwrap();
        fs::write(killed.join("spool-0"), "half").unwrap();
        Ingest::sweep(&paths).unwrap();
        assert!(!killed.exists() && running.path().exists());
        let path = running.path().to_owned();
        drop(running);
        assert!(!path.exists());
    }
}
