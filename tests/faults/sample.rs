//! Which of the points of a fault are tried, and how many there were.

use std::{env, thread};

use crate::random::Random;

/// Points of each act that a sample tries.
const POINTS: usize = 12;

/// A seeded choice of points; tells what it came to when it ends.
pub struct Sample {
    what: &'static str,
    random: Random,
    /// Points that there are, and those that were chosen.
    all: usize,
    chosen: usize,
    /// Faults at them.
    tried: usize,
    trying: String,
}

impl Sample {
    pub fn new(what: &'static str) -> Self {
        let random = Random::new();
        Self { what, random, all: 0, chosen: 0, tried: 0, trying: String::new() }
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
                start + self.random.below(end - start)
            })
            .collect()
    }

    /// Tells what a failure from here on is about.
    pub fn trying(&mut self, what: String) {
        self.trying = what;
        self.tried += 1;
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        let Self { what, all, chosen, tried, trying, random } = self;
        let seed = random.seed;
        if thread::panicking() {
            eprintln!("{what}: SEED={seed}: {trying}");
        } else {
            println!("{what}: survived {tried} faults at {chosen} of {all} points (SEED={seed})");
        }
    }
}
