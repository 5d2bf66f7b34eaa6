//! What became of a container.
//!
//! ```text
//!          start            the command runs         it ends, or the VM does
//! created ───────→ starting ────────────────→ running ───────────────────────→ exited
//!                     ↑                        start                              │
//!                     └───────────────────────────────────────────────────────────┘
//! ```
//! `state.json` says "starting" and "running" only of a run that has begun; whether it still goes on
//! is told by the lock. A run whose monitor died without a word counts as exited with 255, as Docker
//! has it after a crash.

use std::fmt;

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};

/// `state.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum State {
    Created,
    Starting,
    Running { started: Timestamp },
    Exited { started: Timestamp, finished: Timestamp, exit: Exit },
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// As the shell has it: the exit code, or 128 plus the signal.
    pub status: u8,
    /// Whether the guest's OOM killer struck.
    pub oom_killed: bool,
    /// Why, where the exit status does not say it: the guest's panic, a VMM that was killed.
    pub error: Option<String>,
}

/// A state with the question answered whether the run goes on.
#[derive(Clone, Debug)]
pub enum Status {
    Created,
    Running { started: Timestamp },
    Exited { finished: Option<Timestamp>, exit: Exit },
}

impl Status {
    pub(super) fn new(state: State, locked: bool) -> Self {
        match state {
            State::Running { started } if locked => Self::Running { started },
            // Docker has no word for it.
            State::Starting if locked => Self::Created,
            State::Starting | State::Running { .. } => Self::Exited {
                finished: None,
                exit: Exit {
                    status: 255,
                    oom_killed: false,
                    error: Some("its monitor was killed".into()),
                },
            },
            State::Exited { finished, exit, .. } => Self::Exited { finished: Some(finished), exit },
            State::Created => Self::Created,
        }
    }

    /// Docker's word for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running { .. } => "running",
            Self::Exited { .. } => "exited",
        }
    }

    /// Whether its command runs now.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }
}

/// The STATUS column of `ps`.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created => f.write_str("Created"),
            Self::Running { started } => write!(f, "Up {}", ago(*started)),
            Self::Exited { finished, exit } => {
                write!(f, "Exited ({})", exit.status)?;
                finished.map_or(Ok(()), |finished| write!(f, " {} ago", ago(finished)))
            }
        }
    }
}

/// How long ago, in one unit, in Docker's words.
pub fn ago(since: Timestamp) -> String {
    let seconds =
        Timestamp::now().since((Unit::Second, since)).map_or(0, |span| span.get_seconds());
    match seconds {
        ..1 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".into(),
        120..3600 => format!("{} minutes", seconds / 60),
        3600..5400 => "About an hour".into(),
        // To the nearest, from here on.
        5400..172_800 => format!("{} hours", (seconds + 1800) / 3600),
        172_800..1_209_600 => format!("{} days", seconds / 86_400),
        1_209_600..5_184_000 => format!("{} weeks", seconds / 604_800),
        5_184_000..63_072_000 => format!("{} months", seconds / 2_592_000),
        _ => format!("{} years", seconds / 31_536_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_in_docker() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (5, "5 seconds"),
            (61, "About a minute"),
            (300, "5 minutes"),
            (4000, "About an hour"),
            (7200, "2 hours"),
            (200_000, "2 days"),
            (1_300_000, "2 weeks"),
        ] {
            let since = Timestamp::now() - jiff::SignedDuration::from_secs(seconds);
            assert_eq!(ago(since), text);
        }
    }

    #[test]
    fn run_without_a_lock_has_exited() {
        let state = State::Running { started: Timestamp::now() };
        assert!(Status::new(state.clone(), true).is_running());
        assert!(matches!(Status::new(state, false), Status::Exited { .. }));
        assert!(matches!(Status::new(State::Starting, true), Status::Created));
        assert!(matches!(Status::new(State::Starting, false), Status::Exited { .. }));
    }
}
