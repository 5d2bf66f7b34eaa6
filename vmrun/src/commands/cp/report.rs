//! How far a copy has come, on stderr, in Docker's words; the size is that of the archive between
//! both sides.

use std::{
    cell::Cell,
    io::{self, IsTerminal, Read},
    time::{Duration, Instant},
};

use crate::size::ByteSize;

/// Least time between two words on the terminal.
const PAUSE: Duration = Duration::from_millis(75);

/// What is shown of one copy.
pub struct Report {
    heading: &'static str,
    quiet: bool,
    live: bool,
    copied: Cell<u64>,
    shown: Cell<Option<Instant>>,
}

impl Report {
    /// Nothing at all if `quiet`; while it goes on, only on a terminal.
    pub fn new(heading: &'static str, quiet: bool) -> Self {
        let live = !quiet && io::stderr().is_terminal();
        Self { heading, quiet, live, copied: Cell::new(0), shown: Cell::new(None) }
    }

    /// Passes an archive on, and counts it.
    pub fn watch<R: Read>(&self, archive: R) -> Watched<'_, R> {
        Watched { archive, report: self }
    }

    fn add(&self, count: usize) {
        self.copied.set(self.copied.get().saturating_add(count as u64));
        if self.live && self.shown.get().is_none_or(|shown| shown.elapsed() >= PAUSE) {
            self.shown.set(Some(Instant::now()));
            eprint!("\r\x1b[K{}{}", self.heading, ByteSize(self.copied.get()));
        }
    }

    /// Says that it is done.
    pub fn finish(self, place: &str) {
        let copied = ByteSize(self.copied.get());
        let quiet = self.quiet;
        drop(self);
        if !quiet {
            eprintln!("Successfully copied {copied} to {place}");
        }
    }
}

/// The line that was being written goes away, whatever came of the copy.
impl Drop for Report {
    fn drop(&mut self) {
        if self.shown.get().is_some() {
            eprint!("\r\x1b[K");
        }
    }
}

/// An archive that is counted.
pub struct Watched<'a, R> {
    archive: R,
    report: &'a Report,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.archive.read(into)?;
        self.report.add(count);
        Ok(count)
    }
}
