//! Whether the container does its work: what is asked (`--health-*`, the image's `HEALTHCHECK`), and
//! what the answers come to.

use std::{fmt, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Results kept.
const KEPT: usize = 5;

/// How a container is asked for its health; durations in nanoseconds, as in Docker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

impl HealthCheck {
    /// As an image's config has it.
    pub fn to_config(&self) -> Value {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let test = match self.command.as_slice() {
            [shell, option, line] if shell == "/bin/sh" && option == "-c" => {
                vec!["CMD-SHELL".to_owned(), line.clone()]
            }
            words => [&["CMD".to_owned()], words].concat(),
        };
        json!({
            "Test": test,
            "Interval": nanoseconds(self.interval),
            "Timeout": nanoseconds(self.timeout),
            "StartPeriod": nanoseconds(self.start_period),
            "Retries": self.retries,
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
    fn the_last_answers_are_kept() {
        assert_eq!(taken(&[(0, false); 9]).log.len(), KEPT);
    }
}
