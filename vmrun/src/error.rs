//! From an error to what the user sees: one line, and an exit status.

use std::fmt;

/// vmrun itself failed to run a container, as Docker's exit statuses have it.
pub const RUN_FAILED: u8 = 125;

/// An error that decides the exit status.
#[derive(Debug)]
struct Failure {
    status: u8,
    message: String,
}

/// An error with this status and message, ready to be returned.
pub fn failure(status: u8, message: impl Into<String>) -> anyhow::Error {
    Failure { status, message: message.into() }.into()
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Prints an error's chain as one line and gives the exit status: the failure's own, else
/// `otherwise`.
pub fn report(error: &anyhow::Error, otherwise: u8) -> u8 {
    eprintln!("vmrun: {error:#}");
    error.downcast_ref::<Failure>().map_or(otherwise, |failure| failure.status)
}
