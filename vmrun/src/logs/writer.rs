//! What a container prints, on its way to disk: the monitor's side.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use agent_protocol::Stream;
use jiff::Timestamp;
use memchr::memchr;

use super::{
    LogConfig, LogDriver, MAX_LINE, journal, line,
    rotation::{Rotating, length},
};

/// Bytes that are written at once.
const BATCH: usize = 64 << 10;

/// A log could not be written.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("the container's output is not kept any more: cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
}

/// Keeps the output of one container. The threads of its streams share it: each stream has a line
/// of its own that it is at, and only whole lines are written.
///
/// What was written is in the file when [`Self::write`] comes back, apart from a last line without
/// an end. Until something is written there is no file, nor a buffer.
#[derive(Debug)]
pub struct LogWriter(Option<Mutex<Keeper>>);

#[derive(Debug)]
struct Keeper {
    files: Rotating,
    /// Lines on their way to the file.
    batch: Vec<u8>,
    stdout: Unfinished,
    stderr: Unfinished,
    /// What went wrong just now.
    fault: Option<io::Error>,
    /// That something went wrong has been told.
    told: bool,
}

/// The line that a stream is at.
#[derive(Debug, Default)]
struct Unfinished {
    bytes: Vec<u8>,
    /// When its first piece was written, where it is too long for one.
    time: Option<String>,
}

impl LogWriter {
    /// The log of the container in this folder.
    pub fn open(container: &Path, config: &LogConfig) -> Self {
        let keeper = || Keeper {
            files: Rotating::new(journal(container, config), config.max_size),
            batch: Vec::new(),
            stdout: Unfinished::default(),
            stderr: Unfinished::default(),
            fault: None,
            told: false,
        };
        Self((config.driver == LogDriver::JsonFile).then(|| Mutex::new(keeper())))
    }

    /// Takes what a stream brought. Lines that cannot be written are lost, so that a full disk
    /// stops no container; that is told once.
    pub fn write(&self, stream: Stream, bytes: &[u8]) -> Result<(), LogError> {
        self.keep(|keeper, now| keeper.take(stream, bytes, now))
    }

    /// A stream is at its end: a line that it has not finished is written as it is.
    pub fn end(&self, stream: Stream) -> Result<(), LogError> {
        self.keep(|keeper, now| keeper.finish(stream, now))
    }

    fn keep(&self, act: impl FnOnce(&mut Keeper, &str)) -> Result<(), LogError> {
        let Some(keeper) = &self.0 else { return Ok(()) };
        let mut keeper = keeper.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut keeper, &Timestamp::now().to_string());
        keeper.flush();
        match keeper.fault.take() {
            Some(source) if !keeper.told => {
                keeper.told = true;
                Err(LogError::Write { path: keeper.files.path(), source })
            }
            _ => Ok(()),
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        let _ = self.end(Stream::Stdout);
        let _ = self.end(Stream::Stderr);
    }
}

impl Keeper {
    /// Cuts what came into lines and pieces of lines.
    fn take(&mut self, stream: Stream, mut bytes: &[u8], now: &str) {
        let mut line = std::mem::take(self.unfinished(stream));
        while !bytes.is_empty() {
            let room = MAX_LINE.saturating_sub(line.bytes.len());
            let window = &bytes[..bytes.len().min(room)];
            let newline = memchr(b'\n', window);
            let piece = match newline {
                Some(at) => &window[..=at],
                None => window,
            };
            bytes = &bytes[piece.len()..];
            if newline.is_none() && piece.len() < room {
                line.bytes.extend_from_slice(piece);
                break;
            }
            let time = line.time.take();
            let time = time.as_deref().unwrap_or(now);
            if line.bytes.is_empty() {
                self.emit(stream, time, piece);
            } else {
                line.bytes.extend_from_slice(piece);
                self.emit(stream, time, &line.bytes);
                line.bytes.clear();
            }
            line.time = newline.is_none().then(|| time.to_owned());
        }
        *self.unfinished(stream) = line;
    }

    fn finish(&mut self, stream: Stream, now: &str) {
        let line = std::mem::take(self.unfinished(stream));
        if !line.bytes.is_empty() {
            self.emit(stream, line.time.as_deref().unwrap_or(now), &line.bytes);
        }
    }

    fn unfinished(&mut self, stream: Stream) -> &mut Unfinished {
        if stream == Stream::Stderr { &mut self.stderr } else { &mut self.stdout }
    }

    /// Puts a line into the batch, and the batch into the file when one of them is full.
    fn emit(&mut self, stream: Stream, time: &str, bytes: &[u8]) {
        let before = self.batch.len();
        line::encode(stream, time, bytes, &mut self.batch);
        let fits = self
            .files
            .room()
            .map(|(room, is_empty)| length(&self.batch) <= room || (is_empty && before == 0));
        let written = match fits {
            Ok(true) if self.batch.len() < BATCH => return,
            Ok(true) => Ok(()),
            Ok(false) => self.rotate(before),
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => self.flush(),
            Err(error) => self.lose(error),
        }
    }

    /// Writes the batch up to here and begins a new file for the rest.
    fn rotate(&mut self, upto: usize) -> io::Result<()> {
        let rest = self.batch.split_off(upto);
        self.flush();
        self.batch = rest;
        self.files.rotate()
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        match self.files.append(&self.batch) {
            Ok(()) => self.batch.clear(),
            Err(error) => self.lose(error),
        }
    }

    fn lose(&mut self, error: io::Error) {
        self.batch.clear();
        self.fault = Some(error);
    }
}

#[cfg(test)]
mod tests;
