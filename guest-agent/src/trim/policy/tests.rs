//! The policy against a guest that is played.

use std::cell::RefCell;

use super::*;

const MIB: u64 = 1 << 20;

/// A guest of 2 GiB. Its programs' memory is in `used`.
#[derive(Debug)]
struct Played {
    used: u64,
    cache: Cache,
    /// How often the dear figures were asked for, and the pieces that were dropped.
    asked: u32,
    dropped: Vec<u64>,
}

struct Guest(RefCell<Played>);

impl Memory for Guest {
    fn free(&self) -> u64 {
        let guest = self.0.borrow();
        2048 * MIB - guest.used - guest.cache.idle - guest.cache.dirty
    }

    fn cache(&self) -> Option<Cache> {
        let mut guest = self.0.borrow_mut();
        guest.asked += 1;
        Some(guest.cache)
    }

    fn reclaim(&self, bytes: u64) -> bool {
        let mut guest = self.0.borrow_mut();
        let found = bytes.min(guest.cache.idle);
        guest.cache.idle -= found;
        guest.dropped.push(found);
        found == bytes
    }
}

/// The policy with its guest, at a time.
struct Run {
    guest: Guest,
    policy: Policy,
    now: Instant,
}

impl Run {
    fn new() -> Self {
        let cache = Cache { idle: 10 * MIB, read: 10 * MIB, ..Cache::default() };
        let played = Played { used: 100 * MIB, cache, asked: 0, dropped: Vec::new() };
        let guest = Guest(RefCell::new(played));
        let mut run = Self { guest, policy: Policy::default(), now: Instant::now() };
        run.for_seconds(60);
        run
    }

    fn for_seconds(&mut self, seconds: u64) {
        let end = self.now + Duration::from_secs(seconds);
        while self.now < end {
            self.now += self.policy.turn(self.now, &self.guest);
        }
    }

    fn reads(&mut self, bytes: u64) {
        let cache = &mut self.guest.0.get_mut().cache;
        cache.idle += bytes;
        cache.read += bytes;
    }

    fn reads_again(&mut self, bytes: u64) {
        self.reads(bytes);
        self.guest.0.get_mut().cache.refaulted += bytes;
    }

    fn cached(&self) -> u64 {
        self.guest.0.borrow().cache.idle
    }

    fn dropped(&mut self) -> u64 {
        std::mem::take(&mut self.guest.0.get_mut().dropped).iter().sum()
    }
}

#[test]
fn what_was_read_is_dropped_soon_after() {
    let mut run = Run::new();
    run.reads(1024 * MIB);
    run.for_seconds(11);
    assert_eq!(run.cached(), FLOOR);
    let pieces = &run.guest.0.borrow().dropped;
    assert!(pieces.iter().all(|piece| *piece <= PIECE), "streams wait for no more than a piece");
}

#[test]
fn what_is_read_during_a_trim_is_dropped_after_it() {
    let mut run = Run::new();
    run.reads(300 * MIB);
    while run.guest.0.borrow().dropped.is_empty() {
        run.now += run.policy.turn(run.now, &run.guest);
    }
    run.reads(700 * MIB);
    run.for_seconds(20);
    assert_eq!(run.cached(), FLOOR);
}

#[test]
fn a_guest_that_does_nothing_is_only_asked_for_its_free_memory() {
    let mut run = Run::new();
    let before = run.guest.0.borrow().asked;
    run.for_seconds(3600);
    assert_eq!(run.guest.0.borrow().asked, before);
    run.reads(1024 * MIB);
    run.for_seconds(60);
    let after_a_trim = run.guest.0.borrow().asked;
    run.for_seconds(3600);
    assert_eq!(run.guest.0.borrow().asked, after_a_trim);
}

#[test]
fn nothing_is_dropped_while_the_guest_reads() {
    let mut run = Run::new();
    for _ in 0..30 {
        run.reads(20 * MIB);
        run.for_seconds(1);
    }
    assert_eq!(run.dropped(), 0);
    run.for_seconds(10);
    assert!(run.dropped() > 500 * MIB);
}

#[test]
fn a_little_cache_is_left_alone() {
    let mut run = Run::new();
    run.reads(20 * MIB);
    run.for_seconds(600);
    assert_eq!(run.dropped(), 0);
}

#[test]
fn little_by_little_is_noticed_too() {
    let mut run = Run::new();
    for _ in 0..100 {
        run.reads(4 * MIB);
        run.for_seconds(10);
    }
    assert!(run.cached() < FLOOR + WORTH + 16 * MIB, "{} MiB", run.cached() / MIB);
}

#[test]
fn what_was_written_is_dropped_once_it_is_on_the_disk() {
    let mut run = Run::new();
    let cache = &mut run.guest.0.get_mut().cache;
    (cache.idle, cache.dirty) = (cache.idle + 300 * MIB, 300 * MIB);
    run.for_seconds(20);
    assert_eq!(run.cached(), FLOOR);
    let cache = &mut run.guest.0.get_mut().cache;
    (cache.idle, cache.dirty) = (cache.idle + 300 * MIB, 0);
    run.for_seconds(20);
    assert_eq!(run.cached(), FLOOR);
}

#[test]
fn memory_of_programs_is_no_reason_to_trim() {
    let mut run = Run::new();
    run.guest.0.get_mut().used += 500 * MIB;
    run.for_seconds(600);
    assert_eq!(run.dropped(), 0);
    assert!(run.guest.0.borrow().asked < 3);
}

#[test]
fn cache_beside_growing_programs_is_dropped() {
    let mut run = Run::new();
    run.guest.0.get_mut().used += 500 * MIB;
    run.reads(100 * MIB);
    run.for_seconds(20);
    assert_eq!(run.cached(), FLOOR);
}

/// Seconds until the cache is dropped after it was filled again.
fn until_dropped(run: &mut Run) -> u64 {
    let start = run.now;
    while run.dropped() == 0 {
        run.for_seconds(1);
    }
    (run.now - start).as_secs()
}

#[test]
fn what_is_read_again_at_once_is_dropped_less_and_less_often() {
    let mut run = Run::new();
    run.reads(300 * MIB);
    until_dropped(&mut run);
    let mut waits = Vec::new();
    for _ in 0..9 {
        run.for_seconds(1);
        let missing = 300 * MIB - run.cached();
        run.reads_again(missing);
        waits.push(until_dropped(&mut run));
    }
    assert!(waits[0] >= 20 && waits[0] <= 40, "{waits:?}");
    assert!(waits.windows(2).take(6).all(|pair| pair[1] > pair[0] * 3 / 2), "{waits:?}");
    assert!(waits.iter().all(|wait| *wait <= LONGEST_WAIT.as_secs() + 10), "{waits:?}");
}

#[test]
fn patience_comes_back_when_other_things_are_read() {
    let mut run = Run::new();
    run.reads(300 * MIB);
    until_dropped(&mut run);
    for _ in 0..4 {
        run.reads_again(284 * MIB);
        until_dropped(&mut run);
    }
    for _ in 0..5 {
        run.for_seconds(600);
        run.reads(300 * MIB);
        until_dropped(&mut run);
    }
    run.reads(300 * MIB);
    assert!(until_dropped(&mut run) < 15);
}

#[test]
fn a_kernel_that_finds_nothing_is_not_pressed() {
    let mut run = Run::new();
    run.reads(1024 * MIB);
    run.guest.0.get_mut().cache.idle = 1024 * MIB;
    struct Stuck(Guest);
    impl Memory for Stuck {
        fn free(&self) -> u64 {
            self.0.free()
        }
        fn cache(&self) -> Option<Cache> {
            self.0.cache()
        }
        fn reclaim(&self, bytes: u64) -> bool {
            self.0.0.borrow_mut().dropped.push(bytes);
            false
        }
    }
    let Run { guest, mut policy, mut now } = run;
    let stuck = Stuck(guest);
    for _ in 0..100 {
        now += policy.turn(now, &stuck);
    }
    assert_eq!(stuck.0.0.borrow().dropped.len(), 1);
}
