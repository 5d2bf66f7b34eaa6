//! The files of a log as they are written: opened at the first byte, rotated before they are over
//! their size.

use std::{
    fs::{DirBuilder, File},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
};

use crate::journal::Journal;

/// Appends to the newest file of a journal.
#[derive(Debug)]
pub(super) struct Rotating {
    journal: Journal,
    max_size: u64,
    current: Option<Current>,
}

/// The newest file.
#[derive(Debug)]
struct Current {
    file: File,
    size: u64,
}

impl Rotating {
    pub(super) fn new(journal: Journal, max_size: u64) -> Self {
        Self { journal, max_size, current: None }
    }

    /// The file that is written.
    pub(super) fn path(&self) -> PathBuf {
        self.journal.newest()
    }

    /// How many bytes the file still takes, and whether it is empty: then it takes a line of any
    /// length.
    pub(super) fn room(&mut self) -> io::Result<(u64, bool)> {
        let most = self.max_size;
        let size = self.current()?.size;
        Ok((most.saturating_sub(size), size == 0))
    }

    /// Begins a new file.
    pub(super) fn rotate(&mut self) -> io::Result<()> {
        self.current = None;
        self.journal.rotate()
    }

    /// Appends whole lines, all or none of them.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        let Current { file, size } = self.current()?;
        let written = file.write_all(lines);
        match written {
            Ok(()) => *size = size.saturating_add(length(lines)),
            Err(_) => drop(file.set_len(*size)),
        }
        written
    }

    fn current(&mut self) -> io::Result<&mut Current> {
        let current = match self.current.take() {
            Some(current) => current,
            None => self.open()?,
        };
        Ok(self.current.insert(current))
    }

    fn open(&self) -> io::Result<Current> {
        match DirBuilder::new().mode(0o700).create(self.journal.folder()) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let mut options = File::options();
        let mut file =
            options.read(true).append(true).create(true).mode(0o600).open(self.path())?;
        let mut size = file.metadata()?.len();
        // A monitor that was killed may have left half a line.
        if size > 0 && last_byte(&mut file)? != b'\n' {
            file.write_all(b"\n")?;
            size += 1;
        }
        Ok(Current { file, size })
    }
}

/// As a size of files.
pub(super) fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn last_byte(file: &mut File) -> io::Result<u8> {
    let mut byte = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut byte)?;
    Ok(byte[0])
}
