//! The guest's clock, set when the host says that it may have stood still.

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

/// Differences below this in nanoseconds are left alone: they may be the message's own way.
const TOLERANCE: i128 = 200_000_000;

const SECOND: i128 = 1_000_000_000;

/// Sets the clock to `nanoseconds` since 1970, if it is off by more than a moment.
pub(crate) fn set(nanoseconds: u64) {
    let now = clock_gettime(ClockId::Realtime);
    let now = i128::from(now.tv_sec) * SECOND + i128::from(now.tv_nsec);
    let wanted = i128::from(nanoseconds);
    if (now - wanted).abs() < TOLERANCE {
        return;
    }
    let (Ok(tv_sec), Ok(tv_nsec)) =
        (i64::try_from(wanted / SECOND), i64::try_from(wanted % SECOND))
    else {
        return;
    };
    // Nobody can be told that it did not work; the clock stays as it was.
    let _ = clock_settime(ClockId::Realtime, Timespec { tv_sec, tv_nsec });
}
