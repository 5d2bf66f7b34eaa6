//! Numbers that look random and are the same for the same seed.

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

/// A stream of numbers (xorshift64*; Vigna 2014).
pub struct Random {
    /// What it began with.
    pub seed: u64,
    state: u64,
}

impl Random {
    /// From `SEED`, or else from the time.
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let seed = env::var("SEED").map_or(now, |seed| seed.parse().expect("SEED is a number"));
        // Zero would stay zero.
        Self { seed, state: seed.max(1) }
    }

    /// A number below that one, or 0.
    pub fn below(&mut self, bound: usize) -> usize {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        let number = self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % bound.max(1)
    }
}
