//! The lines of a journal, oldest first, across its files, while others write and rotate it.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Seek, SeekFrom},
    os::unix::fs::FileExt,
};

use super::{Journal, files::Identity};

/// Bytes read at a time.
const BLOCK: u64 = 64 << 10;

/// Reads a journal from some place on. At the end it says so, and goes on from there when it is
/// asked again.
#[derive(Debug)]
pub struct Lines {
    journal: Journal,
    current: Option<Current>,
    /// The line that was read last, or as much of it as there is.
    line: Vec<u8>,
    whole: bool,
}

/// The file that is read.
#[derive(Debug)]
struct Current {
    file: BufReader<File>,
    identity: Identity,
    /// Nothing is written to it any more, as was found out after its end was seen: what was written
    /// in between is still to be read.
    complete: bool,
}

impl Current {
    fn new(file: File) -> io::Result<Self> {
        let identity = Identity::of(&file.metadata()?);
        let file = BufReader::with_capacity(usize::try_from(BLOCK).unwrap_or(1 << 16), file);
        Ok(Self { file, identity, complete: false })
    }
}

impl Lines {
    /// All lines.
    pub fn all(journal: Journal) -> Self {
        Self { journal, current: None, line: Vec::new(), whole: false }
    }

    /// The last `count` lines that there are, and all that come.
    pub fn last(journal: Journal, count: u64) -> io::Result<Self> {
        let mut lines = Self::all(journal);
        let mut wanted = count;
        for age in lines.journal.ages() {
            let Some(file) = lines.journal.open(age)? else { continue };
            let mut current = Current::new(file)?;
            if lines.current.as_ref().is_some_and(|newer| newer.identity == current.identity) {
                // Rotated meanwhile: it was met under its old name.
                continue;
            }
            let found = find_last(current.file.get_ref(), wanted)?;
            current.file.seek(SeekFrom::Start(found.start))?;
            lines.current = Some(current);
            wanted = wanted.saturating_sub(found.lines);
            if found.start > 0 || wanted == 0 {
                break;
            }
        }
        Ok(lines)
    }

    /// The next line, without its newline; `None` when there is none yet.
    pub fn next(&mut self) -> io::Result<Option<&[u8]>> {
        if self.whole {
            self.line.clear();
            self.whole = false;
        }
        loop {
            let Some(current) = &mut self.current else {
                if self.next_file()? {
                    continue;
                }
                return Ok(None);
            };
            current.file.read_until(b'\n', &mut self.line)?;
            if self.line.last() == Some(&b'\n') {
                self.line.pop();
                self.whole = true;
                return Ok(Some(&self.line));
            }
            if !current.complete {
                if self.journal.age(current.identity) == Some(0) {
                    return Ok(None);
                }
                current.complete = true;
            } else if !self.next_file()? {
                return Ok(None);
            }
        }
    }

    /// Opens the file that was begun after the current one, the oldest if there is none; whether
    /// there is one yet. Half a line at the end of a file was never finished.
    fn next_file(&mut self) -> io::Result<bool> {
        let held = self.current.as_ref().map(|current| current.identity);
        loop {
            let age = held.and_then(|held| self.journal.age(held));
            let newer = (0..age.unwrap_or_else(|| self.journal.ages().end)).rev();
            let Some(next) = newer.map(|age| self.journal.open(age)).find_map(Result::transpose)
            else {
                return Ok(false);
            };
            let next = Current::new(next?)?;
            // Files may have been renamed since, one after the other; the current one deleted.
            let before = self.journal.before(next.identity);
            if before.is_some_and(|before| before.is_none() || before == held) {
                self.current = Some(next);
                self.line.clear();
                return Ok(true);
            }
        }
    }
}

/// The last lines of a file.
struct Found {
    start: u64,
    lines: u64,
}

/// Finds where the last `wanted` whole lines of a file begin; all of it if there are not as many.
fn find_last(file: &File, wanted: u64) -> io::Result<Found> {
    let mut end = file.metadata()?.len();
    let mut block = Vec::new();
    let mut lines = 0;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        block.resize(usize::try_from(end - start).unwrap_or_default(), 0);
        file.read_exact_at(&mut block, start)?;
        for at in memchr::memrchr_iter(b'\n', &block) {
            if lines == wanted {
                let at = u64::try_from(at).unwrap_or_default();
                return Ok(Found { start: start + at + 1, lines });
            }
            lines += 1;
        }
        end = start;
    }
    Ok(Found { start: 0, lines })
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write};

    use super::*;

    fn journal(files: &[&str]) -> (tempfile::TempDir, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path().into(), "j", 3);
        for text in files {
            journal.rotate().unwrap();
            fs::write(journal.newest(), text).unwrap();
        }
        (folder, journal)
    }

    fn rest(lines: &mut Lines) -> Vec<String> {
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push(String::from_utf8_lossy(line).into_owned());
        }
        found
    }

    fn append(journal: &Journal, text: &str) {
        let mut file = File::options().append(true).create(true).open(journal.newest()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn lines_come_oldest_first_across_files() {
        let (_folder, journal) = journal(&["lost\n", "1\n2\n", "3\n", "4\n5\n"]);
        assert_eq!(rest(&mut Lines::all(journal)), ["1", "2", "3", "4", "5"]);
    }

    #[test]
    fn last_lines_are_found_from_the_end() {
        let (_folder, journal) = journal(&["1\n2\n", "3\n", "4\n5\nhalf"]);
        for (count, expected) in [
            (0, &[][..]),
            (1, &["5"]),
            (2, &["4", "5"]),
            (3, &["3", "4", "5"]),
            (4, &["2", "3", "4", "5"]),
            (5, &["1", "2", "3", "4", "5"]),
            (100, &["1", "2", "3", "4", "5"]),
        ] {
            assert_eq!(
                rest(&mut Lines::last(journal.clone(), count).unwrap()),
                expected,
                "{count}"
            );
        }
    }

    #[test]
    fn last_lines_are_found_across_blocks() {
        let lines: Vec<String> = (0..50_000).map(|number| format!("line {number}")).collect();
        let (_folder, journal) = journal(&[&(lines.join("\n") + "\n")]);
        for count in [1, 5_000, 20_000, 49_999, 50_000] {
            let found = rest(&mut Lines::last(journal.clone(), count as u64).unwrap());
            assert_eq!(found, lines[lines.len() - count..]);
        }
    }

    #[test]
    fn what_comes_later_is_read_later() {
        let (_folder, journal) = journal(&[]);
        let mut lines = Lines::last(journal.clone(), 0).unwrap();
        assert!(rest(&mut lines).is_empty());
        append(&journal, "1\nha");
        assert_eq!(rest(&mut lines), ["1"]);
        append(&journal, "lf\n");
        assert_eq!(rest(&mut lines), ["half"]);
    }

    #[test]
    fn rotation_loses_nothing_that_was_not_deleted() {
        let (_folder, journal) = journal(&["1\n"]);
        let mut lines = Lines::all(journal.clone());
        assert_eq!(rest(&mut lines), ["1"]);
        append(&journal, "2\n");
        journal.rotate().unwrap();
        assert_eq!(rest(&mut lines), ["2"]);
        append(&journal, "3\n");
        journal.rotate().unwrap();
        append(&journal, "4\n");
        assert_eq!(rest(&mut lines), ["3", "4"]);
        // Now its file is deleted, too.
        append(&journal, "5\n");
        for number in 6..=9 {
            journal.rotate().unwrap();
            append(&journal, &format!("{number}\n"));
        }
        assert_eq!(rest(&mut lines), ["5", "7", "8", "9"]);
    }

    #[test]
    fn half_a_line_ends_with_its_file() {
        let (_folder, journal) = journal(&["1\nnever finis"]);
        let mut lines = Lines::all(journal.clone());
        assert_eq!(rest(&mut lines), ["1"]);
        journal.rotate().unwrap();
        append(&journal, "2\n");
        assert_eq!(rest(&mut lines), ["2"]);
    }

    #[test]
    fn reader_keeps_up_with_a_writer_that_rotates() {
        let folder = tempfile::tempdir().unwrap();
        let journal = Journal::new(folder.path().into(), "j", 50);
        let mut lines = Lines::all(journal.clone());
        let writer = std::thread::spawn(move || {
            for number in 0..2_000 {
                if number % 50 == 0 {
                    journal.rotate().unwrap();
                }
                append(&journal, &format!("{number}\n"));
            }
        });
        let mut found = Vec::new();
        while !writer.is_finished() {
            found.extend(rest(&mut lines));
        }
        writer.join().unwrap();
        found.extend(rest(&mut lines));
        let all: Vec<_> = (0..2_000).map(|number| number.to_string()).collect();
        assert!(found == all, "{} lines", found.len());
    }
}
