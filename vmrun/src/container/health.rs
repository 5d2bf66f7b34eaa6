//! Whether the container does its work: what is asked (`--health-*`, the image's `HEALTHCHECK`), and
//! what the answers come to.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Results kept.
const KEPT: usize = 5;

/// Docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;

/// The shortest time between two checks, and for one, as in Docker.
pub const SHORTEST: Duration = Duration::from_millis(1);

/// What is said of a container's health, in Docker's own form: times in nanoseconds, 0 where nothing
/// is said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthConfig {
    /// `CMD` and words, `CMD-SHELL` and a line, or `NONE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: u32,
}

fn is_zero(number: &(impl PartialEq + Default)) -> bool {
    *number == Default::default()
}

/// How a container is asked for its health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Command and arguments.
    pub command: Vec<String>,
    pub interval: Duration,
    pub timeout: Duration,
    /// Failures in this time after the start do not count.
    pub start_period: Duration,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    Starting,
    Healthy,
    Unhealthy,
}

/// What is known of a container's health.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub status: HealthStatus,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last answers, oldest first.
    pub log: Vec<HealthResult>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthResult {
    pub start: Timestamp,
    pub end: Timestamp,
    pub exit_code: i32,
    pub output: String,
}

impl HealthConfig {
    /// How the container is asked, if it is.
    pub fn check(&self) -> Option<HealthCheck> {
        let command = match self.test.as_slice() {
            [kind, line] if kind == "CMD-SHELL" => {
                ["/bin/sh", "-c", line].map(str::to_owned).to_vec()
            }
            [kind, words @ ..] if kind == "CMD" && !words.is_empty() => words.to_vec(),
            _ => return None,
        };
        // An image may say less than Docker lets a user say: that would be a check without end.
        let time = |said: u64, otherwise| match said {
            0 => otherwise,
            said => Duration::from_nanos(said).max(SHORTEST),
        };
        Some(HealthCheck {
            command,
            interval: time(self.interval, INTERVAL),
            timeout: time(self.timeout, TIMEOUT),
            start_period: time(self.start_period, Duration::ZERO),
            retries: if self.retries == 0 { RETRIES } else { self.retries },
        })
    }
}

impl Default for Health {
    fn default() -> Self {
        Self { status: HealthStatus::Starting, failing_streak: 0, log: Vec::new() }
    }
}

impl Health {
    /// Takes in an answer; `in_start_period` at its time. Whether the status is another one now.
    pub fn take(
        &mut self,
        check: &HealthCheck,
        result: HealthResult,
        in_start_period: bool,
    ) -> bool {
        let before = self.status;
        if result.exit_code == 0 {
            self.failing_streak = 0;
            self.status = HealthStatus::Healthy;
        } else if !(in_start_period && self.status == HealthStatus::Starting) {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= check.retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.log.push(result);
        self.log.drain(..self.log.len().saturating_sub(KEPT));
        self.status != before
    }
}

/// As `ps` puts it after the time.
impl fmt::Display for HealthStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Starting => "health: starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        })
    }
}

impl HealthStatus {
    /// Docker's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(answers: &[(i32, bool)]) -> Health {
        let check = HealthCheck {
            command: vec!["true".into()],
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            start_period: Duration::ZERO,
            retries: 3,
        };
        let now = Timestamp::UNIX_EPOCH;
        let mut health = Health::default();
        for (exit_code, in_start_period) in answers {
            let output = String::new();
            let result = HealthResult { start: now, end: now, exit_code: *exit_code, output };
            health.take(&check, result, *in_start_period);
        }
        health
    }

    #[test]
    fn failures_in_a_row_make_it_unhealthy_and_one_success_healthy() {
        assert_eq!(taken(&[]).status, HealthStatus::Starting);
        assert_eq!(taken(&[(0, false)]).status, HealthStatus::Healthy);
        assert_eq!(taken(&[(0, false), (1, false), (1, false)]).status, HealthStatus::Healthy);
        assert_eq!(taken(&[(1, false); 3]).status, HealthStatus::Unhealthy);
        assert_eq!(taken(&[(1, false), (1, false), (1, false), (0, false)]).failing_streak, 0);
    }

    #[test]
    fn failures_at_the_start_do_not_count() {
        assert_eq!(taken(&[(1, true); 9]).status, HealthStatus::Starting);
        assert_eq!(taken(&[(0, true), (1, true), (1, true), (1, true)]).failing_streak, 3);
    }

    #[test]
    fn what_is_not_said_is_docker_s() {
        let said = |test: &[&str]| {
            let test = test.iter().map(|&word| word.to_owned()).collect();
            HealthConfig { test, interval: 5_000_000_000, ..HealthConfig::default() }.check()
        };
        let check = said(&["CMD-SHELL", "ok"]).unwrap();
        assert_eq!(check.command, ["/bin/sh", "-c", "ok"]);
        assert_eq!((check.interval, check.timeout), (Duration::from_secs(5), TIMEOUT));
        assert_eq!((check.start_period, check.retries), (Duration::ZERO, RETRIES));
        assert_eq!(said(&["CMD", "a", "b"]).unwrap().command, ["a", "b"]);
        let hasty = HealthConfig {
            test: vec!["CMD".into(), "a".into()],
            interval: 1,
            ..HealthConfig::default()
        };
        assert_eq!(hasty.check().unwrap().interval, SHORTEST);
        for none in [&["NONE"][..], &["CMD"], &[]] {
            assert_eq!(said(none), None);
        }
    }

    #[test]
    fn the_last_answers_are_kept() {
        assert_eq!(taken(&[(0, false); 9]).log.len(), KEPT);
    }
}
