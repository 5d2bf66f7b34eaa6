//! The files of a journal, by age.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Where a journal is, and how many files it may have.
#[derive(Clone, Debug)]
pub struct Journal {
    folder: PathBuf,
    name: &'static str,
    files: u32,
}

/// A file, whatever its name becomes. No other has the same as long as it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }
}

impl Journal {
    /// A journal of `files` files, at least one.
    pub fn new(folder: PathBuf, name: &'static str, files: u32) -> Self {
        Self { folder, name, files: files.max(1) }
    }

    /// The folder it is in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The file that is written now.
    pub fn newest(&self) -> PathBuf {
        self.folder.join(self.name)
    }

    /// Makes every file one older and deletes the oldest; the newest is then to be made anew.
    pub fn rotate(&self) -> io::Result<()> {
        let oldest = self.files - 1;
        if oldest == 0 {
            return gone_is_fine(fs::remove_file(self.newest()));
        }
        for age in (0..oldest).rev() {
            gone_is_fine(fs::rename(self.path(age), self.path(age + 1)))?;
        }
        Ok(())
    }

    /// Opens the file of an age, if there is one.
    pub(super) fn open(&self, age: u32) -> io::Result<Option<File>> {
        match File::open(self.path(age)) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How old a file is by now; `None` if it was deleted.
    pub(super) fn age(&self, file: Identity) -> Option<u32> {
        // Files only grow older: upwards, none is missed.
        self.ages().find(|age| self.identity(*age) == Some(file))
    }

    /// The file that was written before another, if there still is one; `None` if that other one
    /// was deleted.
    pub(super) fn before(&self, file: Identity) -> Option<Option<Identity>> {
        let age = self.age(file)?;
        Some((age..self.files).filter_map(|age| self.identity(age)).find(|older| *older != file))
    }

    /// The ages that files may have, newest first.
    pub(super) fn ages(&self) -> std::ops::Range<u32> {
        0..self.files
    }

    fn identity(&self, age: u32) -> Option<Identity> {
        fs::metadata(self.path(age)).ok().map(|found| Identity::of(&found))
    }

    fn path(&self, age: u32) -> PathBuf {
        match age {
            0 => self.newest(),
            age => self.folder.join(format!("{}.{age}", self.name)),
        }
    }
}

fn gone_is_fine(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_grow_older_and_the_oldest_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path().into(), "j", 3);
        for text in ["1", "2", "3", "4"] {
            journal.rotate().unwrap();
            fs::write(journal.newest(), text).unwrap();
        }
        let read = |name| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!([read("j"), read("j.1"), read("j.2")], ["4", "3", "2"]);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3);
    }

    #[test]
    fn journal_of_one_file_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path().into(), "j", 1);
        fs::write(journal.newest(), "1").unwrap();
        journal.rotate().unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
