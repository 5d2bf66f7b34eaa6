//! What a container has printed, read back.

use std::{io, path::Path};

use jiff::Timestamp;

use super::{LogConfig, LogLine, journal, line::Encoded};
use crate::journal::Lines;

/// Which lines are wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Selection {
    /// Only the last ones, as many as this; of these, the ones that fit the rest.
    pub tail: Option<u64>,
    /// None written before.
    pub since: Option<Timestamp>,
    /// None written after.
    pub until: Option<Timestamp>,
}

/// Reads a log while it is written.
#[derive(Debug)]
pub struct LogReader {
    lines: Lines,
    selection: Selection,
    decoded: Vec<u8>,
    over: bool,
}

impl LogReader {
    /// The log of the container in this folder, which need not have been begun.
    pub fn open(container: &Path, config: &LogConfig, selection: Selection) -> io::Result<Self> {
        let journal = journal(container, config);
        let lines = match selection.tail {
            Some(count) => Lines::last(journal, count)?,
            None => Lines::all(journal),
        };
        Ok(Self { lines, selection, decoded: Vec::new(), over: false })
    }

    /// The next line; `None` when there is none yet, or none any more.
    pub fn next(&mut self) -> io::Result<Option<LogLine<'_>>> {
        while !self.over {
            let Some(line) = self.lines.next()? else { return Ok(None) };
            let Some(line) = Encoded::parse(line) else { continue };
            let (stream, time) = (line.stream, line.time);
            if self.selection.until.is_some_and(|until| time > until) {
                self.over = true;
            } else if self.selection.since.is_none_or(|since| time >= since)
                && line.decode(&mut self.decoded).is_some()
            {
                return Ok(Some(LogLine { stream, time, bytes: &self.decoded }));
            }
        }
        Ok(None)
    }

    /// Whether no line that comes can be wanted.
    pub fn is_over(&self) -> bool {
        self.over || self.selection.until.is_some_and(|until| Timestamp::now() > until)
    }
}
