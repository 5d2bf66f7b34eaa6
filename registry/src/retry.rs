//! What is tried again, and when: passing faults of registries and of the way to them.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use ureq::http::{HeaderMap, StatusCode, header::RETRY_AFTER};
use ureq::{Error, Timeout};

use crate::http::HttpError;

/// How long a registry is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Tries of one request, and of one blob between two that brought something.
    pub(crate) attempts: u32,
    /// Before the second try; doubled before each later one.
    pub(crate) first_delay: Duration,
    /// Longest wait, also where the registry asks for more: then it is given up.
    pub(crate) longest_delay: Duration,
    /// Without a byte for so long, a connection is dead.
    pub(crate) stall: Duration,
    /// Bytes that a blob must bring in each such time: less is a stall too.
    pub(crate) least: u64,
}

impl Patience {
    pub(crate) const DEFAULT: Self = Self {
        attempts: 5,
        first_delay: Duration::from_millis(500),
        longest_delay: Duration::from_secs(60),
        stall: Duration::from_secs(30),
        least: 32 << 10,
    };

    /// How long to wait after the `failures`-th failure in a row; `None` to give up. What the
    /// registry asked for is honoured.
    pub(crate) fn delay(&self, failures: u32, asked: Option<Duration>) -> Option<Duration> {
        if failures >= self.attempts {
            return None;
        }
        let doubled = self.first_delay.saturating_mul(1 << failures.saturating_sub(1).min(10));
        // Clients that failed together do not come back together.
        let spread = doubled.mul_f64(0.75 + 0.5 * fraction());
        let delay = asked.map_or(spread, |asked| asked.max(spread.min(self.first_delay)));
        (delay <= self.longest_delay).then_some(delay)
    }
}

/// Something between 0 and 1 that differs between processes and calls.
fn fraction() -> f64 {
    let nanos = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.subsec_nanos());
    f64::from(nanos % 1000) / 1000.0
}

/// Whether a response is of a passing fault, and how long it asks to wait.
pub(crate) fn passing_status(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 429 | 500 | 502 | 503 | 504)
}

/// How long a response asks to wait: seconds, or a date (RFC 9110 §10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default())
}

/// Whether an error may pass: a connection that broke or stalled, not one that was refused.
pub(crate) fn passing_error(error: &HttpError) -> bool {
    match error {
        HttpError::Transport { source, .. } => passing_transport(source.error()),
        _ => false,
    }
}

fn passing_transport(error: &Error) -> bool {
    match error {
        Error::Timeout(timeout) => !matches!(timeout, Timeout::Connect | Timeout::Resolve),
        Error::Io(error) => passing_io(error),
        _ => false,
    }
}

/// The same for a body that is being read.
pub(crate) fn passing_io(error: &std::io::Error) -> bool {
    use std::io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::UnexpectedEof
            | Kind::TimedOut
            | Kind::WouldBlock
    ) || error.get_ref().and_then(|inner| inner.downcast_ref()).is_some_and(passing_transport)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience::DEFAULT;

    #[test]
    fn delays_double_and_end() {
        let delays: Vec<_> = (1..=5).map(|failures| PATIENCE.delay(failures, None)).collect();
        for (number, delay) in delays.iter().take(4).enumerate() {
            let middle = PATIENCE.first_delay.as_secs_f64() * f64::from(1 << number);
            let delay = delay.unwrap().as_secs_f64();
            assert!((0.75..=1.25).contains(&(delay / middle)), "{delay}");
        }
        assert_eq!(delays[4], None);
    }

    #[test]
    fn row18_what_the_registry_asks_for_is_honoured_up_to_a_limit() {
        assert_eq!(PATIENCE.delay(1, Some(Duration::from_secs(7))), Some(Duration::from_secs(7)));
        assert_eq!(PATIENCE.delay(1, Some(Duration::from_secs(61))), None);
        let mut headers = HeaderMap::new();
        let mut asked = |value: &str| {
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers)
        };
        assert_eq!(asked("12"), Some(Duration::from_secs(12)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
        assert!(asked("Thu, 06 Nov 2098 08:49:37 GMT").unwrap() > Duration::from_secs(1000));
        assert_eq!(asked("-1"), None);
        assert_eq!(asked("soon"), None);
    }
}
