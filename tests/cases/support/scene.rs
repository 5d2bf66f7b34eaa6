//! Scenes: command lines, and below each what Docker answered (`scripts/record-docker`).
//!
//! ```text
//! $ COMMAND LINE
//! > its stdout
//! ! its stderr
//! = its exit status, where that is not 0
//! ~ REASON         vmrun's answer is another one, which follows in the same way
//! % REASON         so is podman's
//! ```
//!
//! A reason is one of those in `docs/docker-differences.md`. A mark on a command whose answer is no
//! other one is wrong, and so is one without a known reason: marks do not outlive what they excuse.

use std::{
    fmt::Write,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::{Store, binary, finish_within, scratch};

/// How long a whole scene may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// The document of reasons.
const REASONS: &str = include_str!("../../../docs/docker-differences.md");

/// A command line of a scene.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    line: String,
    answer: Vec<String>,
    vmrun: Option<Mark>,
    podman: Option<Mark>,
}

/// An answer that is another one than Docker's, and why.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    reason: String,
    answer: Vec<String>,
}

/// Who is compared.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    Vmrun,
    Podman,
}

/// The path of a scene of `golden` or `differential`.
pub fn path(folder: &str, name: &str) -> PathBuf {
    tests().join(folder).join(format!("{name}.txt"))
}

fn tests() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Reads a scene.
pub fn read(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("$ ") {
            let line = line.to_owned();
            steps.push(Step { line, answer: Vec::new(), vmrun: None, podman: None });
            continue;
        }
        let Some(step) = steps.last_mut() else { continue };
        match line.split_at_checked(2) {
            Some(("~ ", reason)) => step.vmrun = Some(Mark::new(reason)),
            Some(("% ", reason)) => step.podman = Some(Mark::new(reason)),
            Some(("> " | "! " | "= ", _)) => {
                let marks = step.podman.as_mut().or(step.vmrun.as_mut());
                marks.map_or(&mut step.answer, |mark| &mut mark.answer).push(line.to_owned());
            }
            _ => {}
        }
    }
    steps
}

/// A store with busybox in it, where scenes are played with vmrun.
pub struct Stage {
    store: Store,
    programs: tempfile::TempDir,
}

impl Stage {
    pub fn new() -> Self {
        let store = Store::new();
        store.load("busybox.tar").succeeds();
        let programs = tempfile::tempdir_in(scratch()).unwrap();
        symlink(binary(), programs.path().join("docker")).unwrap();
        Self { store, programs }
    }

    /// The scene with vmrun's answers.
    pub fn play(&self, scene: &Path) -> Vec<Step> {
        play(scene, self.programs.path(), Some(self.store.path()))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let listed = self.store.vmrun(["ps", "-aq"]).run().stdout();
        for id in listed.lines() {
            let _ = self.store.vmrun(["rm", "-f", id]).run();
        }
    }
}

/// The scene with the answers of the `docker` in this folder.
pub fn play(scene: &Path, programs: &Path, root: Option<&Path>) -> Vec<Step> {
    let mut command = Command::new(tests().join("golden/play"));
    let search = std::env::var("PATH").unwrap_or_default();
    command.arg(scene).env("PATH", format!("{}:{search}", programs.display()));
    if let Some(root) = root {
        command.env("VMRUN_ROOT", root);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let line = format!("{command:?}");
    let output = finish_within(PATIENCE, command.spawn().expect(&line), &line);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{line}: {complaints}");
    read(&String::from_utf8_lossy(&output.stdout))
}

/// What is wrong with the answers of a scene that was played, line by line; empty where nothing is.
/// They are to be `expected`'s, or those that a mark of the scene has.
pub fn complaints(scene: &[Step], expected: &[Step], played: &[Step], judged: Judged) -> String {
    let mut text = String::new();
    assert_eq!(scene.len(), played.len(), "the scene was not played to its end");
    for ((step, expected), played) in scene.iter().zip(expected).zip(played) {
        assert_eq!(step.line, played.line);
        let (mark, essence) = match judged {
            Judged::Vmrun => (&step.vmrun, words as fn(&[String]) -> Vec<String>),
            Judged::Podman => (&step.podman, outcome as _),
        };
        let [wanted, got] = [&expected.answer, &played.answer].map(|answer| essence(answer));
        let complaint = match mark {
            Some(mark) if !is_reason(&mark.reason) => {
                format!("'{}' is no reason of docs/docker-differences.md\n", mark.reason)
            }
            Some(_) if got == wanted => "is marked and answered alike\n".to_owned(),
            Some(mark) => difference(&essence(&mark.answer), &got),
            None => difference(&wanted, &got),
        };
        if !complaint.is_empty() {
            let _ = writeln!(text, "$ {}\n{complaint}", step.line);
        }
    }
    text
}

/// Lines that only one of two answers has, `-` wanted and `+` given, with those of both.
fn difference(wanted: &[String], got: &[String]) -> String {
    if wanted == got {
        return String::new();
    }
    let same = wanted.iter().zip(got).take_while(|(wanted, got)| wanted == got).count();
    let rest = |sign: char, lines: &[String]| -> String {
        lines[same..].iter().map(|line| format!("{sign} {line}\n")).collect()
    };
    let both: String = wanted[..same].iter().map(|line| format!("  {line}\n")).collect();
    both + &rest('-', wanted) + &rest('+', got)
}

/// An answer as vmrun has to give it: docs/docker-differences.md, "In every command".
fn words(answer: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    for line in answer {
        let Some(words) = line.strip_prefix("! ") else {
            kept.push(line.clone());
            continue;
        };
        if words.is_empty() || words.starts_with("See '") {
            continue;
        }
        let mut words = words;
        for speaker in ["vmrun: ", "docker: ", "Error response from daemon: ", "Error: "] {
            words = words.strip_prefix(speaker).unwrap_or(words);
        }
        let below = words.rsplit_once("unable to start container process: ");
        let words = below.map_or(words, |(_, what)| what);
        let words = words.strip_suffix('.').unwrap_or(words);
        let words = words.strip_suffix(": unknown").unwrap_or(words);
        kept.push(format!("! {}", words.replace("vmrun", "docker")));
    }
    kept
}

/// What podman and vmrun have to agree on, whose messages are their own: stdout, the exit status,
/// and whether something was said on stderr.
fn outcome(answer: &[String]) -> Vec<String> {
    let mut kept = answer.to_vec();
    kept.retain(|line| !line.starts_with("! "));
    if kept.len() < answer.len() {
        kept.push("! something".to_owned());
    }
    kept
}

/// Whether the document's table of reasons has this one.
fn is_reason(reason: &str) -> bool {
    REASONS.lines().any(|line| line.starts_with(&format!("| `{reason}` |")))
}

/// The reasons of the document that no scene of these folders names.
pub fn idle_reasons(folders: &[&str]) -> Vec<&'static str> {
    let mut scenes = String::new();
    for folder in folders {
        for name in names(folder) {
            scenes += &fs::read_to_string(path(folder, &name)).unwrap();
        }
    }
    let reasons = REASONS.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let idle = reasons.filter(|reason| {
        !scenes.lines().any(|line| line == format!("~ {reason}") || line == format!("% {reason}"))
    });
    idle.collect()
}

/// The scenes of a folder.
pub fn names(folder: &str) -> Vec<String> {
    let entries = fs::read_dir(tests().join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> =
        names.filter_map(|name| name.strip_suffix(".txt").map(str::to_owned)).collect();
    names.sort();
    names
}

impl Mark {
    fn new(reason: &str) -> Self {
        Self { reason: reason.to_owned(), answer: Vec::new() }
    }
}
