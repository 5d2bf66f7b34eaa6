//! When to trim, and how much.
//!
//! ```text
//!   Idle ── free memory has shrunk by cache that is worth it ──▶ Reading ── reading stops ──┐
//!    ▲                                                                                      ▼
//!    └───────────────── all but a floor is dropped, piece by piece ─────────────────── Trimming
//! ```
//! What is read again soon after it was dropped was dropped in vain: the next trim then waits, and
//! twice as long after each such failure.

use std::time::{Duration, Instant};

/// From the start of the guest to the first look: what a start reads is not idle before.
pub(super) const FIRST_LOOK: Duration = Duration::from_secs(8);

/// Between looks at a guest that does nothing.
const IDLE: Duration = Duration::from_secs(6);

/// Between looks at a guest that reads.
const SOON: Duration = Duration::from_secs(2);

/// Between pieces of a trim.
const NEXT_PIECE: Duration = Duration::from_millis(10);

/// Cache in bytes that is worth a trim.
const WORTH: u64 = 24 << 20;

/// Cache in bytes that is left: directories, and files that are read all the time.
const FLOOR: u64 = 16 << 20;

/// A guest that reads no more than this between two looks, in bytes, has calmed down.
const CALM: u64 = 8 << 20;

/// Dropped at once, in bytes: the streams wait meanwhile.
const PIECE: u64 = 16 << 20;

/// The wait after the first trim in vain, and the longest.
const SHORTEST_WAIT: Duration = Duration::from_secs(30);
const LONGEST_WAIT: Duration = Duration::from_secs(32 * 60);

/// The guest's memory, as the policy sees it. All figures are in bytes.
pub(super) trait Memory {
    /// Memory that nobody uses; cheap to ask for.
    fn free(&self) -> u64;

    /// What is in the page cache, if that can be told.
    fn cache(&self) -> Option<Cache>;

    /// Drops this much of the cache, what was used least first; false when that much was not found.
    fn reclaim(&self, bytes: u64) -> bool;
}

/// The page cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cache {
    /// Neither dirty nor mapped.
    pub(super) idle: u64,
    /// Still to be written to the disks.
    pub(super) dirty: u64,
    /// Read from the disks so far.
    pub(super) read: u64,
    /// Of that, read again after it had been dropped.
    pub(super) refaulted: u64,
}

#[derive(Debug, Default)]
pub(super) struct Policy {
    /// How much memory would be free without cache, as far as it has been looked into.
    free: u64,
    /// What had been read at the last look.
    read: u64,
    /// Bytes to drop of the trim that is going on.
    left: u64,
    last: Option<Trimmed>,
    /// From one trim to the next.
    wait: Duration,
}

/// The last trim.
#[derive(Clone, Copy, Debug)]
struct Trimmed {
    at: Instant,
    dropped: u64,
    /// What had been read again by then.
    refaulted: u64,
    /// Whether it was in vain is in `Policy::wait` already.
    judged: bool,
}

impl Policy {
    /// Looks at the memory, trims a piece of the cache if it is time to, and says when to look
    /// again.
    pub(super) fn turn(&mut self, now: Instant, memory: &impl Memory) -> Duration {
        if self.left > 0 {
            return self.trim(memory);
        }
        let free = memory.free();
        if free.saturating_add(WORTH) > self.free {
            self.free = self.free.max(free);
            return IDLE;
        }
        let Some(cache) = memory.cache() else { return IDLE };
        let read = cache.read.saturating_sub(self.read);
        self.read = cache.read;
        let excess = cache.idle.saturating_sub(FLOOR);
        if excess < WORTH {
            // The rest went to the programs.
            self.free = free.saturating_add(cache.dirty);
            return IDLE;
        }
        if read > CALM {
            return SOON;
        }
        let early = self.too_early(now, cache.refaulted);
        if early > Duration::ZERO {
            return early;
        }
        self.left = excess;
        let trimmed =
            Trimmed { at: now, dropped: excess, refaulted: cache.refaulted, judged: false };
        self.last = Some(trimmed);
        self.trim(memory)
    }

    /// How long the last trim forbids another one.
    fn too_early(&mut self, now: Instant, refaulted: u64) -> Duration {
        let Some(last) = &mut self.last else { return Duration::ZERO };
        if !last.judged {
            last.judged = true;
            let in_vain = refaulted.saturating_sub(last.refaulted) >= last.dropped / 4;
            self.wait = match (in_vain, self.wait) {
                (true, wait) => (wait * 2).clamp(SHORTEST_WAIT, LONGEST_WAIT),
                (false, wait) if wait > SHORTEST_WAIT => wait / 2,
                (false, _) => Duration::ZERO,
            };
        }
        self.wait.saturating_sub(now.saturating_duration_since(last.at))
    }

    /// Drops the next piece.
    fn trim(&mut self, memory: &impl Memory) -> Duration {
        let piece = self.left.min(PIECE);
        let found = memory.reclaim(piece);
        let some = found || self.last.is_some_and(|last| self.left < last.dropped);
        self.left = if found { self.left - piece } else { 0 };
        if self.left > 0 {
            return NEXT_PIECE;
        }
        // What was read meanwhile is for the next trim, unless this one found nothing to drop.
        let cache = memory.cache().unwrap_or_default();
        let rest = if some { cache.idle.saturating_sub(FLOOR) } else { 0 };
        self.free = memory.free().saturating_add(cache.dirty).saturating_add(rest);
        IDLE
    }
}

#[cfg(test)]
mod tests;
