//! The accounts of a VM that may use only so much CPU time: when its vCPUs must stand, and for how
//! long. Who stops them is [`crate::brake`].
//!
//! Credit comes in with the time that passes, at the rate of the quota and up to a period's worth;
//! what the vCPUs use goes out. Without credit all of them stand until there is some again, so a
//! debt of a moment is paid and not forgiven.

use std::time::{Duration, Instant};

use crate::config::CpuQuota;

/// Credit is kept for this long: a guest that did nothing may make up for a moment of it.
const PERIOD: Duration = Duration::from_millis(100);

/// The vCPUs stand for this much longer than their debt takes, and so can go on for a while.
const SLICE: Duration = Duration::from_millis(20);

/// Bounds of the CPU time after which a vCPU is charged.
const SHORTEST_TICK: Duration = Duration::from_millis(2);
const LONGEST_TICK: Duration = Duration::from_millis(10);

/// One for all vCPUs of a VM.
#[derive(Debug)]
pub(crate) struct Throttle {
    quota: CpuQuota,
    /// CPU time, in nanoseconds.
    credit: i64,
    /// Up to when credit has come in.
    credited: Option<Instant>,
}

impl Throttle {
    pub(crate) fn new(quota: CpuQuota) -> Self {
        Self { quota, credit: nanoseconds(quota.share_of(PERIOD)), credited: None }
    }

    /// CPU time of a vCPU from one charge to the next.
    pub(crate) fn tick(&self) -> Duration {
        self.quota.share_of(SLICE).clamp(SHORTEST_TICK, LONGEST_TICK)
    }

    /// A vCPU has used this much CPU time. Says until when all vCPUs must stand, if they must.
    pub(crate) fn charge(&mut self, now: Instant, used: Duration) -> Option<Instant> {
        let passed = now.saturating_duration_since(self.credited.unwrap_or(now));
        self.credited = Some(now);
        let most = nanoseconds(self.quota.share_of(PERIOD));
        let credit = self.credit.saturating_add(nanoseconds(self.quota.share_of(passed)));
        self.credit = credit.min(most).saturating_sub(nanoseconds(used));
        if self.credit > 0 {
            return None;
        }
        let debt = Duration::from_nanos(self.credit.unsigned_abs());
        now.checked_add(self.quota.time_for(debt).saturating_add(SLICE))
    }
}

fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn throttle(billionths: u64) -> Throttle {
        Throttle::new(CpuQuota::try_from(billionths).unwrap())
    }

    /// Lets vCPUs burn for some time of a wall clock, each charged at every tick; gives the CPU
    /// time they got.
    fn burn(throttle: &mut Throttle, vcpus: u32, start: Instant, wall: Duration) -> Duration {
        let tick = throttle.tick();
        let (mut now, mut used) = (start, Duration::ZERO);
        while now < start + wall {
            now += tick;
            for _ in 0..vcpus {
                used += tick;
                now = now.max(throttle.charge(now, tick).unwrap_or(now));
            }
        }
        used
    }

    #[track_caller]
    fn assert_about(got: Duration, wanted: Duration) {
        assert!(got < wanted * 102 / 100 && got > wanted * 95 / 100, "{got:?}, not {wanted:?}");
    }

    #[test]
    fn vcpus_that_burn_get_their_share() {
        for (billionths, vcpus) in [
            (10_000_000, 1),
            (100_000_000, 1),
            (500_000_000, 1),
            (900_000_000, 1),
            (1_500_000_000, 2),
            (3_100_000_000, 4),
        ] {
            let got = burn(&mut throttle(billionths), vcpus, Instant::now(), 20 * SECOND);
            assert_about(got, 20 * Duration::from_nanos(billionths));
        }
    }

    #[test]
    fn a_vcpu_that_uses_less_never_stands() {
        let mut throttle = throttle(500_000_000);
        let mut now = Instant::now();
        for _ in 0..1000 {
            now += Duration::from_millis(25);
            assert_eq!(throttle.charge(now, Duration::from_millis(10)), None);
        }
    }

    #[test]
    fn credit_of_a_long_sleep_is_that_of_a_period() {
        let mut throttle = throttle(500_000_000);
        let start = Instant::now();
        throttle.charge(start, Duration::from_millis(1));
        let after = start + 3600 * SECOND;
        let got = burn(&mut throttle, 1, after, SECOND);
        assert_about(got, SECOND / 2 + Duration::from_millis(50));
    }

    #[test]
    fn a_debt_is_paid() {
        let mut throttle = throttle(500_000_000);
        let now = Instant::now();
        let until = throttle.charge(now, SECOND).unwrap();
        // 50 ms of credit, 950 of debt at half a CPU.
        assert_eq!(until - now, Duration::from_millis(1900) + SLICE);
        assert_eq!(throttle.charge(until, Duration::from_millis(9)), None);
    }
}
