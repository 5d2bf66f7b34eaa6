//! Names for containers that were given none: two words from our own list, a quality and a bird.

use super::ContainerName;

const QUALITIES: [&str; 48] = [
    "agile", "amber", "arctic", "autumn", "bold", "brisk", "bronze", "calm", "clever", "coastal",
    "copper", "cosy", "daring", "deft", "distant", "early", "eager", "gentle", "golden", "hardy",
    "hasty", "hidden", "humble", "keen", "lively", "lunar", "mellow", "merry", "misty", "nimble",
    "noble", "patient", "plucky", "polar", "proud", "quick", "quiet", "rapid", "rustic", "silent",
    "silver", "steady", "sunny", "swift", "tidy", "vivid", "wary", "witty",
];

const BIRDS: [&str; 48] = [
    "avocet",
    "bittern",
    "bunting",
    "buzzard",
    "condor",
    "cormorant",
    "crane",
    "curlew",
    "dipper",
    "dunlin",
    "egret",
    "eider",
    "falcon",
    "finch",
    "fulmar",
    "gannet",
    "godwit",
    "goshawk",
    "grebe",
    "harrier",
    "heron",
    "hobby",
    "hoopoe",
    "ibis",
    "jackdaw",
    "kestrel",
    "kite",
    "knot",
    "lapwing",
    "linnet",
    "magpie",
    "martin",
    "merlin",
    "nightjar",
    "oriole",
    "osprey",
    "petrel",
    "pipit",
    "plover",
    "puffin",
    "quail",
    "raven",
    "shrike",
    "siskin",
    "snipe",
    "starling",
    "teal",
    "wren",
];

/// A random name; after a few collisions `attempt` adds a number.
pub(super) fn random(attempt: usize) -> ContainerName {
    let quality = QUALITIES[crate::random::below(QUALITIES.len())];
    let bird = BIRDS[crate::random::below(BIRDS.len())];
    let number = match attempt {
        0..3 => String::new(),
        _ => crate::random::below(
            10_usize.saturating_pow(2 + u32::try_from(attempt / 8).unwrap_or(7)),
        )
        .to_string(),
    };
    format!("{quality}_{bird}{number}").parse().unwrap_or_else(|_| unreachable!("two plain words"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_attempt_gives_a_valid_name() {
        for attempt in 0..100 {
            super::random(attempt);
        }
    }
}
