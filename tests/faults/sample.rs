//! Which of the points of a fault are tried, and how many there were.

use std::{
    env, thread,
    time::{SystemTime, UNIX_EPOCH},
};

/// Points of each act that a sample tries.
const POINTS: usize = 12;

/// A seeded choice of points; tells what it came to when it ends.
pub struct Sample {
    what: &'static str,
    seed: u64,
    state: u64,
    /// Points that there are, and those that were chosen.
    all: usize,
    chosen: usize,
    /// Faults at them.
    tried: usize,
    trying: String,
}

impl Sample {
    pub fn new(what: &'static str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let given = env::var("SEED").ok().map(|seed| seed.parse().expect("SEED is a number"));
        let seed = given.unwrap_or(now.as_secs());
        Self { what, seed, state: seed, all: 0, chosen: 0, tried: 0, trying: String::new() }
    }

    /// The points to be tried of as many.
    pub fn points(&mut self, count: usize) -> Vec<usize> {
        assert!(count > 0, "nothing can go wrong at all");
        self.all += count;
        let all = env::var_os("FAULTS").is_some_and(|which| which == "all");
        let stretches = if all { count } else { POINTS.min(count) };
        self.chosen += stretches;
        // One of each stretch, so that none is far from all of them.
        let bounds = |stretch: usize| stretch * count / stretches;
        (0..stretches)
            .map(|stretch| {
                let (start, end) = (bounds(stretch), bounds(stretch + 1));
                start + self.below(end - start)
            })
            .collect()
    }

    /// Tells what a failure from here on is about.
    pub fn trying(&mut self, what: String) {
        self.trying = what;
        self.tried += 1;
    }

    /// A number below that one (xorshift64*; Vigna 2014).
    pub fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let number = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % bound.max(1)
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        let Self { what, seed, all, chosen, tried, trying, .. } = self;
        if thread::panicking() {
            eprintln!("{what}: SEED={seed}: {trying}");
        } else {
            println!("{what}: survived {tried} faults at {chosen} of {all} points (SEED={seed})");
        }
    }
}
