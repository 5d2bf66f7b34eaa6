//! Which of the points of a fault are tried, and how many there were.

use std::{env, thread};

use crate::random::Random;

/// Points of each act that a sample tries.
const POINTS: usize = 12;

/// As many of one whose points take seconds each: in a sample, and where all are to be tried.
const COSTLY: [usize; 2] = [1, 15];

/// Whether all points are to be tried, and not a sample.
fn all() -> bool {
    env::var_os("FAULTS").is_some_and(|which| which == "all")
}

/// A seeded choice of points; tells what it came to when it ends.
pub struct Sample {
    what: &'static str,
    /// Points to be tried at most, in a sample and otherwise.
    most: [usize; 2],
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
        Self::of(what, [POINTS, usize::MAX])
    }

    /// One of few points.
    pub fn costly(what: &'static str) -> Self {
        Self::of(what, COSTLY)
    }

    fn of(what: &'static str, most: [usize; 2]) -> Self {
        let random = Random::new();
        Self { what, most, random, all: 0, chosen: 0, tried: 0, trying: String::new() }
    }

    /// Whether the act of that number is tried in this row of the threat model: a sample of few points
    /// leaves one out of three, in each row another one.
    pub fn has(&self, row: u64, act: usize) -> bool {
        all() || !(row + act as u64 + self.random.seed).is_multiple_of(3)
    }

    /// The points to be tried of as many.
    pub fn points(&mut self, count: usize) -> Vec<usize> {
        assert!(count > 0, "nothing can go wrong at all");
        self.all += count;
        let stretches = self.most[usize::from(all())].min(count);
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
        let Self { what, all, chosen, tried, trying, random, .. } = self;
        let seed = random.seed;
        if thread::panicking() {
            eprintln!("{what}: SEED={seed}: {trying}");
        } else {
            println!("{what}: survived {tried} faults at {chosen} of {all} points (SEED={seed})");
        }
    }
}
