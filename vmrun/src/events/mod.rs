//! What has happened to containers and images, for `vmrun events`.
//!
//! ```text
//! <data>/events/
//!   events.json      an event a line, in JSON
//!   events.json.1    those before
//!   probes.json      the commands of health checks, likewise
//!   probes.json.1
//!   lock             held by the one who rotates them
//! ```
//! Health checks come again and again, each with three events: in the files of the others they would
//! leave no room for anything else, so they have their own, and readers merge them by time.
//!
//! There is no daemon to tell: whoever does something appends a line, with one write to a file open
//! for appending, so that lines of many writers never mix and nobody waits. Nothing is synced.
//! A line that a full disk has cut off is lost with the one after it.

mod filter;
mod show;

use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::PathBuf,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use filter::EventFilter;
pub use show::EventFormat;

use crate::{
    container::Record,
    journal::{Journal, Lines},
    paths::Paths,
};

/// Bytes of a file before it is rotated; there are two of each kind.
const MAX_SIZE: u64 = 4 << 20;

/// Longest line; an event that does not fit is recorded with [`BRIEF`] alone.
const MAX_LINE: usize = 64 << 10;

/// Attributes that are short.
const BRIEF: &[&str] = &["exitCode", "image", "name", "signal"];

/// What something happened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Container,
    Image,
}

impl Kind {
    /// Docker's word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Docker's word for it: `start`, `die`, `pull` …
    pub action: String,
    /// The whole id of the container or image.
    pub actor: String,
    pub attributes: BTreeMap<String, String>,
    pub time: Timestamp,
}

impl Event {
    /// Something that happens to a container now.
    pub fn of_container(container: &Record, action: &str) -> Self {
        let mut event = Self::new(Kind::Container, action, container.id.as_str());
        event.attributes.clone_from(&container.labels);
        event.with("image", &container.image.reference).with("name", container.name.as_str())
    }

    /// Something that happens to an image now, under this name.
    pub fn of_image(id: &str, name: &str, action: &str) -> Self {
        Self::new(Kind::Image, action, id).with("name", name)
    }

    fn new(kind: Kind, action: &str, actor: &str) -> Self {
        Self {
            kind,
            action: action.into(),
            actor: actor.into(),
            attributes: BTreeMap::new(),
            time: Timestamp::now(),
        }
    }

    /// One attribute more.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.attributes.insert(name.into(), value.to_string());
        self
    }
}

/// Records an event. What is done is done: that it cannot be recorded fails nothing.
pub fn record(paths: &Paths, event: Event) {
    let _ = try_record(&journals(paths)[0], event);
}

/// Records an event of a health check's command.
pub fn record_probe(paths: &Paths, event: Event) {
    let _ = try_record(&journals(paths)[1], event);
}

/// Past events, oldest first, and those that come.
pub fn past(paths: &Paths) -> EventReader {
    EventReader(journals(paths).map(|journal| (Lines::all(journal), None)))
}

/// Events that come from now on.
pub fn coming(paths: &Paths) -> io::Result<EventReader> {
    let [events, probes] = journals(paths).map(|journal| Lines::last(journal, 0));
    Ok(EventReader([(events?, None), (probes?, None)]))
}

/// The folder where something changes with each event.
pub fn folder(paths: &Paths) -> PathBuf {
    paths.data().join("events")
}

/// Reads events, of each journal the next one ahead.
#[derive(Debug)]
pub struct EventReader([(Lines, Option<Event>); 2]);

impl EventReader {
    /// The next event; `None` when there is none yet.
    pub fn next(&mut self) -> io::Result<Option<Event>> {
        for (lines, ahead) in &mut self.0 {
            if ahead.is_none() {
                *ahead = next_of(lines)?;
            }
        }
        let ahead = self.0.iter_mut().map(|(_, ahead)| ahead).filter(|ahead| ahead.is_some());
        let earliest = ahead.min_by_key(|ahead| ahead.as_ref().map(|event| event.time));
        Ok(earliest.and_then(Option::take))
    }
}

fn next_of(lines: &mut Lines) -> io::Result<Option<Event>> {
    while let Some(line) = lines.next()? {
        if let Ok(event) = serde_json::from_slice(line) {
            return Ok(Some(event));
        }
    }
    Ok(None)
}

/// That of events, and that of health checks.
fn journals(paths: &Paths) -> [Journal; 2] {
    ["events.json", "probes.json"].map(|name| Journal::new(folder(paths), name, 2))
}

fn try_record(journal: &Journal, event: Event) -> io::Result<()> {
    let line = encode(event)?;
    let mut file = match open(journal) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().mode(0o700).recursive(true).create(journal.folder())?;
            open(journal)?
        }
        opened => opened?,
    };
    // One call: what it does not take is not to come after somebody else's line.
    let _ = file.write(&line)?;
    if file.metadata()?.len() > MAX_SIZE {
        rotate(journal)?;
    }
    Ok(())
}

fn encode(mut event: Event) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&event)?;
    if line.len() > MAX_LINE {
        event.attributes.retain(|name, _| BRIEF.contains(&name.as_str()));
        line = serde_json::to_vec(&event)?;
    }
    line.push(b'\n');
    Ok(line)
}

fn open(journal: &Journal) -> io::Result<File> {
    File::options().append(true).create(true).mode(0o600).open(journal.newest())
}

/// Rotates, unless somebody else does or has done so.
fn rotate(journal: &Journal) -> io::Result<()> {
    let mut options = File::options();
    let lock = journal.folder().join("lock");
    let lock = options.write(true).create(true).truncate(false).mode(0o600).open(lock)?;
    if lock.try_lock().is_ok() && journal.newest().metadata()?.len() > MAX_SIZE {
        journal.rotate()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, thread, time::Instant};

    use super::*;

    fn paths() -> (tempfile::TempDir, Paths) {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::below(folder.path()).unwrap();
        (folder, paths)
    }

    fn all(reader: &mut EventReader) -> Vec<Event> {
        std::iter::from_fn(|| reader.next().unwrap()).collect()
    }

    #[test]
    fn events_are_read_as_they_were_recorded() {
        let (_folder, paths) = paths();
        let event = Event::of_image("sha256:1", "debian:12", "pull").with("odd", "\"\n\u{1b}");
        record(&paths, event.clone());
        let mut later = coming(&paths).unwrap();
        assert_eq!(all(&mut past(&paths)), [event]);
        let event = Event::of_image("sha256:1", "debian:12", "delete");
        record(&paths, event.clone());
        assert_eq!(all(&mut later), [event]);
    }

    #[test]
    fn many_writers_at_once_lose_nothing() {
        let (_folder, paths) = paths();
        thread::scope(|scope| {
            for writer in 0..8 {
                let paths = &paths;
                scope.spawn(move || {
                    for number in 0..200 {
                        record(paths, Event::of_image(&format!("{writer} {number}"), "x", "tag"));
                    }
                });
            }
        });
        let mut found: Vec<_> =
            all(&mut past(&paths)).into_iter().map(|event| event.actor).collect();
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len(), 1600);
    }

    #[test]
    fn events_are_bounded_and_followed_across_rotations() {
        let (_folder, paths) = paths();
        let long = "x".repeat(60_000);
        let mut reader = coming(&paths).unwrap();
        for number in 0..200 {
            record(&paths, Event::of_image(&number.to_string(), &long, "tag"));
            assert_eq!(all(&mut reader)[0].actor, number.to_string());
        }
        let files = fs::read_dir(folder(&paths)).unwrap();
        let size: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(size <= 2 * MAX_SIZE + 2 * 64_000, "{size}");
    }

    #[test]
    fn health_checks_are_bounded_and_leave_room_for_all_else() {
        let (_folder, paths) = paths();
        record(&paths, Event::of_image("first", "a", "tag"));
        let mut reader = coming(&paths).unwrap();
        let long = "x".repeat(60_000);
        for number in 0..200 {
            record_probe(&paths, Event::of_image(&number.to_string(), &long, "exec_die"));
            assert_eq!(all(&mut reader)[0].actor, number.to_string());
        }
        record(&paths, Event::of_image("last", "a", "tag"));
        assert_eq!(all(&mut reader)[0].actor, "last");
        let found = all(&mut past(&paths));
        assert!(found.is_sorted_by_key(|event| event.time));
        let ends = [found.first(), found.last()].map(|event| event.unwrap().actor.as_str());
        assert_eq!(ends, ["first", "last"]);
        let files = fs::read_dir(folder(&paths)).unwrap();
        let size: u64 = files.map(|file| file.unwrap().metadata().unwrap().len()).sum();
        assert!(size <= 2 * MAX_SIZE + 2 * 64_000, "{size}");
    }

    #[test]
    fn event_that_is_too_long_is_cut_short() {
        let (_folder, paths) = paths();
        let event = Event::of_image("1", "a", "tag").with("label", "x".repeat(MAX_LINE));
        record(&paths, event);
        let found = all(&mut past(&paths)).remove(0).attributes;
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("name".to_owned(), "a".to_owned())]);
    }

    #[test]
    fn event_that_cannot_be_recorded_fails_nothing() {
        let (_folder, paths) = paths();
        fs::write(folder(&paths), "a file in the way").unwrap();
        record(&paths, Event::of_image("1", "a", "tag"));
        assert!(past(&paths).next().is_err());
        assert_eq!(fs::read_to_string(folder(&paths)).unwrap(), "a file in the way");
    }

    #[test]
    fn recording_takes_less_than_a_tenth_of_a_millisecond() {
        let (_folder, paths) = paths();
        let quickest = (0..200).map(|_| {
            let event = Event::of_image("sha256:1", "debian:12", "pull");
            let begun = Instant::now();
            record(&paths, event);
            begun.elapsed()
        });
        let quickest = quickest.min().unwrap();
        assert!(quickest.as_micros() < 100, "{quickest:?}");
    }
}
