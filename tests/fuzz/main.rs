//! Parsers of bytes that others wrote: each is given the inputs of its folder in `corpus` and the seeds
//! beside it, and changes of all these for a second. None may panic, hang, or believe what it must not.
//!
//! `FUZZ_SECONDS` is how long each is tried, `SEED` repeats a run. What makes one fail is printed and
//! belongs into the corpus then, where names that end in `.hex` stand for bytes in hexadecimal.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(missing_debug_implementations, unreachable_pub, reason = "nothing outside sees them")]

mod devices;
mod documents;
mod layers;
#[path = "../random.rs"]
mod random;
mod wire;

use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    time::{Duration, Instant},
};

use random::Random;

/// Longer than any input may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longest input that changes make.
const LONGEST: usize = 64 << 10;

/// Feeds a parser.
fn fuzz(target: &str, seeds: Vec<Vec<u8>>, parse: impl FnMut(&[u8])) {
    fuzz_mended(target, seeds, |_| {}, parse);
}

/// The same; what was changed is mended before the parser gets it, so that it gets further.
fn fuzz_mended(
    target: &str,
    mut seeds: Vec<Vec<u8>>,
    mend: impl Fn(&mut Vec<u8>),
    mut parse: impl FnMut(&[u8]),
) {
    seeds.extend(corpus(target));
    assert!(!seeds.is_empty(), "nothing to begin with");
    let mut random = Random::new();
    let seed = random.seed;
    let mut feed = |input: &[u8]| {
        let start = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| parse(input)));
        if result.is_err() || start.elapsed() > PATIENCE {
            panic!("{target} fails for (SEED={seed}):\n{}", hex(input));
        }
    };
    seeds.iter().for_each(|input| feed(input));
    let seconds = env::var("FUZZ_SECONDS").map_or(1, |seconds| seconds.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut changes = 0;
    while Instant::now() < end {
        let mut input = seeds[random.below(seeds.len())].clone();
        let other = &seeds[random.below(seeds.len())];
        for _ in 0..=random.below(4) {
            change(&mut input, other, &mut random);
        }
        input.truncate(LONGEST);
        mend(&mut input);
        feed(&input);
        changes += 1;
    }
    println!("{target}: {} inputs, {changes} changes of them (SEED={seed})", seeds.len());
}

/// Makes one change.
fn change(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    const ODD: [u8; 12] = [0, 1, 9, b'\n', b'"', b'/', b'.', b'0', b'7', b'9', 0x7f, 0xff];
    let (from, at) = (random.below(input.len() + 1), random.below(input.len() + 1));
    let (start, end) = (from.min(at), from.max(at));
    match random.below(8) {
        0 => input.truncate(at),
        1 => drop(input.drain(start..end.min(start + 64))),
        2 => {
            let piece = input[start..end.min(start + 600)].to_vec();
            drop(input.splice(at..at, piece));
        }
        3 => {
            let start = random.below(other.len() + 1);
            let piece = other[start..].iter().take(600).copied();
            drop(input.splice(at..end.min(at + 64).max(at), piece.collect::<Vec<_>>()));
        }
        4 => input.insert(at, ODD[random.below(ODD.len())]),
        5 if !input.is_empty() => {
            let at = random.below(input.len());
            input[at] ^= 1 << random.below(8);
        }
        6 if !input.is_empty() => {
            // A number at its largest.
            let at = random.below(input.len());
            let end = input.len().min(at + [1, 2, 4, 8][random.below(4)]);
            input[at..end].fill(0xff);
        }
        _ if !input.is_empty() => {
            let at = random.below(input.len());
            input[at] = ODD[random.below(ODD.len())];
        }
        _ => {}
    }
}

/// The inputs in a target's folder, if it has one.
pub fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let bytes = fs::read(path).unwrap();
        if path.extension().is_some_and(|end| end == "hex") { unhex(&bytes) } else { bytes }
    };
    paths.iter().map(read).collect()
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| {
        let mut text: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push('\n');
        text
    };
    bytes.chunks(48).map(line).collect()
}

fn unhex(text: &[u8]) -> Vec<u8> {
    let digit = |byte: &u8| u8::try_from(char::from(*byte).to_digit(16)?).ok();
    let digits: Vec<u8> = text.iter().filter_map(digit).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn what_failed_is_printed_as_the_corpus_has_it() {
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(unhex(hex(&bytes).as_bytes()), bytes);
}
