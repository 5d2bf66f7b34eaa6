//! How far layers have come, on a terminal and elsewhere.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Mutex,
};

use image_store::{Digest, Progress};
use indicatif::{MultiProgress, ProgressBar, ProgressFinish, ProgressStyle};

/// The first digits of a digest, which stand for it.
pub fn short(digest: &Digest) -> String {
    digest.hex().chars().take(12).collect()
}

/// One bar a layer, on a terminal.
pub struct Bars {
    all: MultiProgress,
    layers: Mutex<BTreeMap<Digest, ProgressBar>>,
    done: &'static str,
}

impl Bars {
    /// Bars that say `done` when a layer is.
    pub fn new(done: &'static str) -> Self {
        Self { all: MultiProgress::default(), layers: Mutex::default(), done }
    }

    /// Moves a layer's bar; a full one is finished with a word.
    pub fn set(&self, layer: &Digest, done: u64, total: u64, word: &'static str) {
        let Ok(mut layers) = self.layers.lock() else { return };
        let bar = layers.entry(*layer).or_insert_with(|| {
            let bar = self.all.add(ProgressBar::new(total).with_style(style()));
            bar.set_prefix(short(layer));
            bar
        });
        bar.set_length(total);
        bar.set_position(done);
        if done == total && !bar.is_finished() {
            bar.finish_with_message(word);
        }
    }
}

fn style() -> ProgressStyle {
    let template = "{prefix} [{bar:40}] {decimal_bytes:>9}/{decimal_total_bytes:<9} {msg}";
    let style = ProgressStyle::with_template(template);
    style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> ")
}

/// A bar for one stream, whose length may not be known; on a terminal only, until it is dropped.
pub fn bar(length: Option<u64>) -> ProgressBar {
    let bar = length.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.with_style(style()).with_finish(ProgressFinish::AndClear)
}

impl Progress for Bars {
    fn layer(&self, layer: &Digest, done: u64, total: u64) {
        self.set(layer, done, total, self.done);
    }
}

/// A line when a layer begins, and one when it is done: for what is not a terminal.
pub struct Lines {
    print: fn(&str),
    begun: Mutex<HashSet<Digest>>,
}

impl Lines {
    pub fn new(print: fn(&str)) -> Self {
        Self { print, begun: Mutex::default() }
    }
}

impl Progress for Lines {
    fn layer(&self, layer: &Digest, done: u64, total: u64) {
        let Ok(mut begun) = self.begun.lock() else { return };
        let word = match (begun.insert(*layer), done == total) {
            (true, true) => "Already exists",
            (true, false) => "Pulling fs layer",
            (false, true) => "Pull complete",
            (false, false) => return,
        };
        (self.print)(&format!("{}: {word}\n", short(layer)));
    }
}
