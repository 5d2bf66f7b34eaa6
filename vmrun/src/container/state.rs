//! What became of a container.
//!
//! ```text
//!          start            the command runs         it ends, or the VM does
//! created ───────→ starting ────────────────→ running ───────────────────────→ exited
//!                   ↑    ↑                     ↓   ↑            ↓                 │
//!                   │    │                     paused       restarting            │
//!                   │    └──────────────────────────────────────┘                 │
//!                   └────────────────────── start ────────────────────────────────┘
//! ```
//! `state.json` says "starting", "running", "paused" and "restarting" only of a run that has begun;
//! whether it still goes on is told by the lock. A run whose monitor died without a word counts as
//! exited with 255, as Docker has it after a crash.

use std::fmt;

use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};

use super::Health;

/// `state.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Condition {
    #[serde(flatten)]
    pub state: State,
    /// Starts by the restart policy since the user's own.
    #[serde(default)]
    pub restarts: u32,
    /// The user has asked for the end.
    #[serde(default)]
    pub stopped: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

impl From<State> for Condition {
    fn from(state: State) -> Self {
        Self { state, restarts: 0, stopped: false, health: None }
    }
}

/// Where in its life a container is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum State {
    Created,
    Starting,
    Running {
        started: Timestamp,
    },
    Paused {
        started: Timestamp,
    },
    /// Waits for the next try.
    Restarting {
        started: Timestamp,
        finished: Timestamp,
        exit: Exit,
    },
    Exited {
        started: Timestamp,
        finished: Timestamp,
        exit: Exit,
    },
}

impl State {
    /// Whether it is one of a run that goes on, if its monitor lives.
    pub(super) fn needs_monitor(&self) -> bool {
        !matches!(self, Self::Created | Self::Exited { .. })
    }
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
    Running { started: Timestamp, health: Option<Health> },
    Paused { started: Timestamp },
    Restarting { finished: Timestamp, exit: Exit },
    Exited { finished: Option<Timestamp>, exit: Exit },
}

impl Status {
    pub(super) fn new(condition: Condition, locked: bool) -> Self {
        match condition.state {
            State::Running { started } if locked => {
                Self::Running { started, health: condition.health }
            }
            State::Paused { started } if locked => Self::Paused { started },
            State::Restarting { finished, exit, .. } if locked => {
                Self::Restarting { finished, exit }
            }
            // Docker has no word for it.
            State::Starting if locked => Self::Created,
            State::Restarting { finished, exit, .. } => {
                Self::Exited { finished: Some(finished), exit }
            }
            State::Starting | State::Running { .. } | State::Paused { .. } => Self::Exited {
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
            Self::Paused { .. } => "paused",
            Self::Restarting { .. } => "restarting",
            Self::Exited { .. } => "exited",
        }
    }

    /// Whether a run of it goes on: as in Docker, also one that is paused or waits for its next
    /// try.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. } | Self::Paused { .. } | Self::Restarting { .. })
    }
}

/// The STATUS column of `ps`.
impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created => f.write_str("Created"),
            Self::Running { started, health: Some(health) } => {
                write!(f, "Up {} ({})", ago(*started), health.status)
            }
            Self::Running { started, health: None } => write!(f, "Up {}", ago(*started)),
            Self::Paused { started } => write!(f, "Up {} (Paused)", ago(*started)),
            Self::Restarting { finished, exit } => {
                write!(f, "Restarting ({}) {} ago", exit.status, ago(*finished))
            }
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
    fn condition_survives_its_file_and_older_files_are_read() {
        let started = Timestamp::UNIX_EPOCH;
        let condition = Condition { restarts: 2, ..State::Paused { started }.into() };
        let text = serde_json::to_string(&condition).unwrap();
        let read: Condition = serde_json::from_str(&text).unwrap();
        assert!(matches!(read, Condition { state: State::Paused { .. }, restarts: 2, .. }));
        assert!(serde_json::from_str::<Condition>(r#"{"status":"created"}"#).is_ok());
    }

    #[test]
    fn run_without_a_lock_has_exited() {
        let state = State::Running { started: Timestamp::now() };
        assert!(Status::new(state.clone().into(), true).is_running());
        assert!(matches!(Status::new(state.into(), false), Status::Exited { .. }));
        assert!(matches!(Status::new(State::Starting.into(), true), Status::Created));
        assert!(matches!(Status::new(State::Starting.into(), false), Status::Exited { .. }));
    }
}
