use std::{
    fs::{self, File},
    io::Write,
    sync::Arc,
    thread,
};

use super::*;
use crate::logs::{LogReader, Selection};

const SMALL: LogConfig = LogConfig { driver: LogDriver::JsonFile, max_size: 2_000, max_file: 3 };

/// All that is in a log, by stream.
fn kept(folder: &Path, config: &LogConfig) -> [Vec<u8>; 2] {
    let mut reader = LogReader::open(folder, config, Selection::default()).unwrap();
    let mut kept = [Vec::new(), Vec::new()];
    while let Some(line) = reader.next().unwrap() {
        kept[usize::from(line.stream == Stream::Stderr)].extend_from_slice(line.bytes);
    }
    kept
}

/// The texts of the lines in the newest file, by others' reading of JSON.
fn texts(folder: &Path) -> Vec<String> {
    let file = fs::read_to_string(folder.join("log/json.log")).unwrap();
    let text = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["log"].as_str().unwrap().to_owned()
    };
    file.lines().map(text).collect()
}

fn size(folder: &Path) -> u64 {
    let files = fs::read_dir(folder.join("log")).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

fn log() -> (tempfile::TempDir, LogWriter) {
    let folder = tempfile::tempdir().unwrap();
    let writer = LogWriter::open(folder.path(), &LogConfig::default());
    (folder, writer)
}

#[test]
fn nothing_is_made_before_there_is_something_to_keep() {
    let (folder, writer) = log();
    writer.end(Stream::Stdout).unwrap();
    drop(writer);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn driver_none_keeps_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig { driver: LogDriver::None, ..LogConfig::default() };
    LogWriter::open(folder.path(), &config).write(Stream::Stdout, b"lost\n").unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn whole_lines_are_written_at_once_and_an_unfinished_one_at_the_end() {
    let (folder, writer) = log();
    writer.write(Stream::Stdout, b"one\ntw").unwrap();
    assert_eq!(texts(folder.path()), ["one\n"]);
    writer.write(Stream::Stderr, b"err\n").unwrap();
    writer.write(Stream::Stdout, b"o\n\nprompt> ").unwrap();
    assert_eq!(texts(folder.path()), ["one\n", "err\n", "two\n", "\n"]);
    drop(writer);
    assert_eq!(texts(folder.path()).last().unwrap(), "prompt> ");
}

#[test]
fn long_lines_are_split_as_docker_splits_them() {
    for (length, pieces) in [
        (MAX_LINE - 1, &[MAX_LINE][..]),
        (MAX_LINE, &[MAX_LINE, 1]),
        (MAX_LINE + 1, &[MAX_LINE, 2]),
        (3 * MAX_LINE + 7, &[MAX_LINE, MAX_LINE, MAX_LINE, 8]),
    ] {
        let line = "x".repeat(length) + "\n";
        for chunk in [1000, line.len()] {
            let (folder, writer) = log();
            for bytes in line.as_bytes().chunks(chunk) {
                writer.write(Stream::Stdout, bytes).unwrap();
            }
            let found: Vec<_> = texts(folder.path()).iter().map(String::len).collect();
            assert_eq!(found, pieces, "{length} in chunks of {chunk}");
        }
    }
}

#[test]
fn pieces_of_a_line_have_one_time() {
    let (folder, writer) = log();
    for _ in 0..3 {
        writer.write(Stream::Stdout, &[b'x'; MAX_LINE]).unwrap();
    }
    writer.write(Stream::Stdout, b"\nnext\n").unwrap();
    let mut reader =
        LogReader::open(folder.path(), &LogConfig::default(), Selection::default()).unwrap();
    let mut times = Vec::new();
    while let Some(line) = reader.next().unwrap() {
        times.push(line.time);
    }
    assert_eq!(times.len(), 5);
    assert!(times[..4].iter().all(|time| *time == times[0]) && times[4] > times[0]);
}

#[test]
fn bytes_that_are_no_text_survive() {
    let (folder, writer) = log();
    let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
    for chunk in bytes.chunks(777) {
        writer.write(Stream::Stdout, chunk).unwrap();
    }
    drop(writer);
    assert!(kept(folder.path(), &LogConfig::default())[0] == bytes);
}

/// `threats.md` row 41.
#[test]
fn row41_log_is_bounded_and_has_the_last_lines() {
    let folder = tempfile::tempdir().unwrap();
    let writer = LogWriter::open(folder.path(), &SMALL);
    let line = |number: usize| format!("line {number:05}\n");
    for number in 0..1_000 {
        writer.write(Stream::Stdout, line(number).as_bytes()).unwrap();
        assert!(size(folder.path()) <= SMALL.max_size * 3, "at {number}");
    }
    // A flood in one go.
    let flood: String = (1_000..50_000).map(line).collect();
    writer.write(Stream::Stdout, flood.as_bytes()).unwrap();
    assert!(size(folder.path()) <= SMALL.max_size * 3);
    assert_eq!(fs::read_dir(folder.path().join("log")).unwrap().count(), 3);
    let [found, _] = kept(folder.path(), &SMALL);
    assert!(found.len() > 500 && flood.as_bytes().ends_with(&found));
}

#[test]
fn line_longer_than_a_file_is_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let config = LogConfig { max_size: 10, ..SMALL };
    let writer = LogWriter::open(folder.path(), &config);
    writer.write(Stream::Stdout, b"1\n2\n3\n4\n").unwrap();
    assert_eq!(kept(folder.path(), &config)[0], b"2\n3\n4\n");
}

#[test]
fn two_streams_are_written_at_once_and_kept_apart() {
    let (folder, writer) = log();
    let writer = Arc::new(writer);
    let text = |name: &str| -> String { (0..5_000).map(|n| format!("{name} {n}\n")).collect() };
    let threads = [(Stream::Stdout, text("out")), (Stream::Stderr, text("err"))];
    let threads = threads.map(|(stream, text)| {
        let writer = Arc::clone(&writer);
        thread::spawn(move || {
            for chunk in text.as_bytes().chunks(97) {
                writer.write(stream, chunk).unwrap();
            }
        })
    });
    for thread in threads {
        thread.join().unwrap();
    }
    let [out, err] = kept(folder.path(), &LogConfig::default());
    assert!(out == text("out").as_bytes() && err == text("err").as_bytes());
}

#[test]
fn next_run_goes_on_after_half_a_line_of_a_killed_one() {
    let (folder, writer) = log();
    writer.write(Stream::Stdout, b"one\n").unwrap();
    drop(writer);
    let path = folder.path().join("log/json.log");
    File::options().append(true).open(&path).unwrap().write_all(b"{\"log\":\"ha").unwrap();
    let config = LogConfig::default();
    LogWriter::open(folder.path(), &config).write(Stream::Stdout, b"two\n").unwrap();
    assert_eq!(kept(folder.path(), &config)[0], b"one\ntwo\n");
}

#[test]
fn log_that_cannot_be_written_is_told_of_once_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let container = folder.path().join("gone");
    let writer = LogWriter::open(&container, &LogConfig::default());
    let error = writer.write(Stream::Stdout, b"lost\n").unwrap_err().to_string();
    assert!(error.contains("not kept any more") && error.contains("json.log"), "{error}");
    writer.write(Stream::Stderr, b"lost too\n").unwrap();
    fs::create_dir(&container).unwrap();
    writer.write(Stream::Stdout, b"kept\n").unwrap();
    assert_eq!(kept(&container, &LogConfig::default())[0], b"kept\n");
}
