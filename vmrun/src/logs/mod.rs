//! What containers print, kept on disk.
//!
//! ```text
//! containers/<id>/log/
//!   json.log        what is written now
//!   json.log.1 …    what was written before
//! ```
//! A line of the container is a line of the file, as Docker's driver `json-file` writes it:
//!
//! ```json
//! {"log":"hello\n","stream":"stdout","time":"2026-01-01T00:00:00.000000001Z"}
//! ```
//!
//! - A line longer than 16 KiB is split into pieces; all but the last have no newline. A line that
//!   the container did not finish has none either.
//! - Bytes that are not UTF-8 survive: each is written as the escape of a lone low surrogate, `0xff`
//!   as `\udcff`, which no UTF-8 text can hold. That is still JSON; readers that know nothing of it
//!   see U+FFFD there, which is what Docker writes in the first place.
//! - Nothing is synced: what a power cut takes of a log was never promised.
//!
//! [`LogWriter`] is the monitor's, [`LogReader`] everybody's; they share only the files.

mod config;
mod escape;
mod follow;
mod line;
mod reader;
mod rotation;
mod writer;

pub use config::{LogConfig, LogDriver};
pub use follow::follow;
pub use line::LogLine;
pub use reader::{LogReader, Selection};
pub use writer::{LogError, LogWriter};

use std::path::{Path, PathBuf};

use crate::journal::Journal;

/// Longest piece of a line, in bytes, as Docker has it.
const MAX_LINE: usize = 16 << 10;

/// The file that the output of the container in this folder goes to.
pub fn newest(container: &Path) -> PathBuf {
    journal(container, &LogConfig::default()).newest()
}

/// The log of the container in this folder.
fn journal(container: &Path, config: &LogConfig) -> Journal {
    Journal::new(container.join("log"), "json.log", config.max_file)
}
