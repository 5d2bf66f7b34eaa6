//! A log shown to its end, as it grows.

use std::{path::Path, time::Duration};

use anyhow::Result;

use super::{LogLine, LogReader};
use crate::journal::Watch;

/// How long the end of a run that nobody told of can go unnoticed.
const LOOK: Duration = Duration::from_millis(500);

/// Shows the lines of a log until the run is over and all has been shown. `goes_on` tells whether
/// output may still come; `show` is called with no line before it is waited for.
pub fn follow(
    container: &Path,
    mut reader: LogReader,
    mut goes_on: impl FnMut() -> Result<bool>,
    mut show: impl FnMut(Option<LogLine<'_>>) -> Result<()>,
) -> Result<()> {
    let mut watch = Watch::new([container.to_owned(), container.join("log")]);
    loop {
        // Asked first: what was written before the end is then read after it.
        let last = !goes_on()?;
        while let Some(line) = reader.next()? {
            show(Some(line))?;
        }
        show(None)?;
        if last || reader.is_over() {
            return Ok(());
        }
        watch.wait(LOOK)?;
    }
}
