//! When a container that ended is started again.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// The wait before the first try; each one after it doubles the wait.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_mins(1);
/// A run of this length ends the doubling.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// `--restart`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum RestartPolicy {
    #[default]
    No,
    /// At most as often as this; without end where it is 0.
    OnFailure(u32),
    Always,
    UnlessStopped,
}

/// Not a policy.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error("invalid restart policy '{0}'")]
    Unknown(String),
    #[error("maximum retry count must be an integer")]
    Count,
    #[error("maximum retry count cannot be negative")]
    CountNegative,
    #[error("maximum retry count cannot be used with restart policy '{0}'")]
    CountUnused(String),
}

impl FromStr for RestartPolicy {
    type Err = PolicyError;

    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let (name, count) = match text.split_once(':') {
            Some((name, count)) => (name, Some(count)),
            None => (text, None),
        };
        let policy = match name {
            "no" | "" => Self::No,
            "always" => Self::Always,
            "unless-stopped" => Self::UnlessStopped,
            "on-failure" => {
                let count: i32 = count.unwrap_or("0").parse().map_err(|_| PolicyError::Count)?;
                let count = u32::try_from(count).map_err(|_| PolicyError::CountNegative)?;
                return Ok(Self::OnFailure(count));
            }
            _ => return Err(PolicyError::Unknown(name.into())),
        };
        match count {
            Some(_) => Err(PolicyError::CountUnused(name.into())),
            None => Ok(policy),
        }
    }
}

impl RestartPolicy {
    /// Docker's word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "no",
            Self::OnFailure(_) => "on-failure",
            Self::Always => "always",
            Self::UnlessStopped => "unless-stopped",
        }
    }

    /// Whether a container that ended with `status` by itself starts again, after `restarts`.
    pub fn wants(self, status: u8, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure(most) => status != 0 && (most == 0 || restarts < most),
            Self::Always | Self::UnlessStopped => true,
        }
    }

    /// Whether a container starts when the user's session does; `stopped`: the user has stopped it.
    pub fn wants_at_login(self, stopped: bool) -> bool {
        match self {
            Self::Always => true,
            Self::UnlessStopped => !stopped,
            Self::No | Self::OnFailure(_) => false,
        }
    }
}

impl fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnFailure(count @ 1..) => write!(f, "on-failure:{count}"),
            policy => f.write_str(policy.name()),
        }
    }
}

impl TryFrom<String> for RestartPolicy {
    type Error = PolicyError;

    fn try_from(text: String) -> Result<Self, PolicyError> {
        text.parse()
    }
}

impl From<RestartPolicy> for String {
    fn from(policy: RestartPolicy) -> Self {
        policy.to_string()
    }
}

/// How long to wait before the next try.
#[derive(Debug)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST_WAIT)
    }
}

impl Backoff {
    /// The wait after a run of this length.
    pub fn after(&mut self, run: Duration) -> Duration {
        if run >= GOOD_RUN {
            self.0 = FIRST_WAIT;
        }
        let wait = self.0;
        self.0 = (wait * 2).min(LONGEST_WAIT);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_as_docker_reads_them() {
        let parse = str::parse::<RestartPolicy>;
        assert_eq!(parse("no"), Ok(RestartPolicy::No));
        assert_eq!(parse("on-failure"), Ok(RestartPolicy::OnFailure(0)));
        assert_eq!(parse("on-failure:3"), Ok(RestartPolicy::OnFailure(3)));
        assert_eq!(parse("always").unwrap().to_string(), "always");
        assert_eq!(parse("unless-stopped").unwrap().to_string(), "unless-stopped");
        assert!(parse("sometimes").is_err() && parse("always:3").is_err());
        assert_eq!(parse("on-failure:x"), Err(PolicyError::Count));
        assert_eq!(parse("on-failure:-1"), Err(PolicyError::CountNegative));
    }

    #[test]
    fn failures_are_counted() {
        let three = RestartPolicy::OnFailure(3);
        assert!(three.wants(1, 2) && !three.wants(1, 3) && !three.wants(0, 0));
        assert!(RestartPolicy::OnFailure(0).wants(1, 1000));
        assert!(RestartPolicy::Always.wants(0, 1000) && !RestartPolicy::No.wants(1, 0));
    }

    #[test]
    fn what_the_user_stopped_stays_so_unless_it_is_always_wanted() {
        assert!(RestartPolicy::Always.wants_at_login(true));
        assert!(!RestartPolicy::UnlessStopped.wants_at_login(true));
        assert!(RestartPolicy::UnlessStopped.wants_at_login(false));
        assert!(!RestartPolicy::OnFailure(0).wants_at_login(false));
    }

    #[test]
    fn waits_double_until_a_run_was_good() {
        let mut backoff = Backoff::default();
        let short = Duration::ZERO;
        let waits: Vec<_> = (0..3).map(|_| backoff.after(short).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400]);
        assert_eq!(backoff.after(GOOD_RUN), FIRST_WAIT);
        for _ in 0..20 {
            backoff.after(short);
        }
        assert_eq!(backoff.after(short), LONGEST_WAIT);
    }
}
