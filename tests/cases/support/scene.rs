//! Scenes: command lines that are put to vmrun and to another, and what came of each.
//!
//! A scene is a text of `$ ` commands, run by `tests/golden/play` with the `docker` that PATH has.
//! Below a command `~ REASON` says that vmrun's words are others than Docker's, for the reason of that
//! name in `docs/docker-differences.md`, and `~ REASON = STATUS` that its exit status is too; `%` says
//! that of podman. A difference that is gone fails as one that is new does.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use super::finish_within;

/// For all the commands of a scene, on a loaded machine made of software.
const PATIENCE: Duration = Duration::from_secs(900);

/// A scene's file in `tests`.
pub fn file(folder: &str, scene: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(scene).with_extension("txt")
}

/// The names of all the scenes in a folder of `tests`.
pub fn scenes_in(folder: &str) -> Vec<String> {
    let files = fs::read_dir(file(folder, "").with_extension("")).unwrap();
    let files = files.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut found: Vec<_> =
        files.filter_map(|file| file.strip_suffix(".txt").map(str::to_owned)).collect();
    found.sort_unstable();
    found
}

/// What runc says before it says what is wrong.
const RUNTIME: &str = "unable to start container process: ";

/// Plays a scene; `docker` is a shell script that gets the arguments. `settle` may change the command
/// that does it.
pub fn play(scene: &Path, docker: &str, settle: impl FnOnce(Command) -> Command) -> Vec<Answer> {
    let bin = tempfile::tempdir().unwrap();
    let all = fs::Permissions::from_mode(0o755);
    let script = bin.path().join("docker");
    fs::write(&script, format!("#!/bin/sh\n{docker}\n")).unwrap();
    fs::set_permissions(&script, all.clone()).unwrap();
    fs::set_permissions(bin.path(), all).unwrap();
    let path = format!("{}:{}", bin.path().display(), env::var("PATH").unwrap());
    let mut player = Command::new(file("golden", "play").with_extension(""));
    player.arg(scene).env("PATH", path);
    let mut player = settle(player);
    player.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let output = finish_within(PATIENCE, player.spawn().unwrap(), &scene.display().to_string());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Answer::all_of(&String::from_utf8_lossy(&output.stdout))
}

/// Who is asked beside vmrun, by the mark of their differences.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Judge {
    Docker,
    Podman,
}

/// How vmrun's answers are not the judge's, but for the differences that the scene tells of.
#[track_caller]
pub fn complaints(judge: Judge, answers: &[Answer], vmrun: &[Answer]) -> Vec<String> {
    assert_eq!(answers.len(), vmrun.len());
    let pairs = answers.iter().zip(vmrun);
    pairs.filter_map(|(theirs, own)| own.complaint(judge, theirs)).collect()
}

#[track_caller]
pub fn no_complaints(complaints: &[String]) {
    let count = complaints.len();
    assert!(complaints.is_empty(), "{count} answers:\n\n{}", complaints.join("\n"));
}

/// A command of a scene and what came of it.
#[derive(Default)]
pub struct Answer {
    command: String,
    stdout: Vec<String>,
    stderr: Vec<String>,
    status: i32,
    differences: Vec<Difference>,
}

struct Difference {
    judge: Judge,
    reason: String,
    status: Option<i32>,
}

impl Difference {
    fn parse(judge: Judge, text: &str) -> Self {
        let (reason, status) = text.split_once(" = ").unzip();
        Self {
            judge,
            reason: reason.unwrap_or(text).to_owned(),
            status: status.map(|status| status.parse().unwrap()),
        }
    }
}

impl Answer {
    pub fn all_of(scene: &str) -> Vec<Self> {
        let mut answers: Vec<Self> = Vec::new();
        for line in scene.lines() {
            let (kind, rest) = line.split_at_checked(2).unwrap_or((line, ""));
            if kind == "$ " {
                answers.push(Self { command: rest.to_owned(), ..Self::default() });
            }
            let Some(answer) = answers.last_mut() else { continue };
            match kind.trim_end() {
                ">" => answer.stdout.push(rest.to_owned()),
                "!" => answer.stderr.push(rest.to_owned()),
                "=" => answer.status = rest.parse().unwrap(),
                "~" => answer.differences.push(Difference::parse(Judge::Docker, rest)),
                "%" => answer.differences.push(Difference::parse(Judge::Podman, rest)),
                _ => {}
            }
        }
        answers
    }

    /// How this is not what it has to be, by the judge's answer and what the scene says.
    fn complaint(&self, judge: Judge, theirs: &Self) -> Option<String> {
        let same_words = theirs.in_common_words() == self.in_common_words();
        let difference = theirs.differences.iter().find(|difference| difference.judge == judge);
        let expected = difference.and_then(|difference| difference.status).unwrap_or(theirs.status);
        let complaint = match difference {
            _ if self.status != expected => format!("exits {}, not {expected}", self.status),
            None if !same_words => "says something else".into(),
            Some(Difference { reason, .. }) if same_words && theirs.status == self.status => {
                format!("does not differ any more: {reason}")
            }
            _ => return None,
        };
        let (command, judge) =
            (&self.command, if judge == Judge::Docker { "Docker" } else { "podman" });
        let (theirs, own) = (theirs.text(), self.text());
        Some(format!("$ {command}\nvmrun {complaint}\n--- {judge}\n{theirs}--- vmrun\n{own}"))
    }

    /// What was said, without what `docs/docker-differences.md` lets every command say otherwise:
    /// who speaks, the hint at the help, a full stop at the end, and the runtime below Docker.
    fn in_common_words(&self) -> (&[String], Vec<String>) {
        let stderr = self.stderr.iter().map(|line| line.replace("vmrun", "docker"));
        let stderr = stderr.filter_map(|line| {
            let mut line = line.as_str();
            for speaker in ["docker: ", "Error response from daemon: ", "Error: "] {
                line = line.strip_prefix(speaker).unwrap_or(line);
            }
            let line = line.strip_suffix('.').unwrap_or(line);
            let (_, line) = line.split_once(RUNTIME).unwrap_or(("", line));
            let line = line.strip_suffix(": unknown").unwrap_or(line);
            let left_out = line.is_empty() || line.starts_with("See 'docker ");
            (!left_out).then(|| line.to_owned())
        });
        (&self.stdout, stderr.collect())
    }

    fn text(&self) -> String {
        let marked = |mark: &str, lines: &[String]| {
            lines.iter().map(|line| format!("{mark} {line}\n")).collect::<String>()
        };
        let status = format!("= {}\n", self.status);
        marked(">", &self.stdout) + &marked("!", &self.stderr) + &status
    }
}
