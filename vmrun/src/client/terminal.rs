//! The user's terminal: raw while the container has it, and as it was afterwards.

use std::{
    io::{self, IsTerminal},
    os::fd::{AsFd, OwnedFd},
};

use agent_protocol::WindowSize;
use anyhow::{Context, Result};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// A terminal in raw mode; dropping it restores what was set before.
#[derive(Debug)]
pub struct RawTerminal {
    terminal: OwnedFd,
    before: Termios,
}

impl RawTerminal {
    /// Puts stdin's terminal into raw mode; `None` if it is not a terminal.
    pub fn enter() -> Result<Option<Self>> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(None);
        }
        let terminal = stdin.as_fd().try_clone_to_owned().context("cannot keep the terminal")?;
        let before = tcgetattr(&terminal).context("cannot read the terminal's settings")?;
        let mut raw = before.clone();
        raw.make_raw();
        let entered = Self { terminal, before };
        tcsetattr(&entered.terminal, OptionalActions::Drain, &raw)
            .context("cannot set the terminal to raw mode")?;
        Ok(Some(entered))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Drain, &self.before);
    }
}

/// Size of the terminal that the user sees, by stdout or stdin.
pub fn size() -> Option<WindowSize> {
    let size = tcgetwinsize(io::stdout()).or_else(|_| tcgetwinsize(io::stdin())).ok()?;
    Some(WindowSize { rows: size.ws_row, columns: size.ws_col })
}
