//! What the cases share: the built `vmrun` as a user runs it, a store with the test images, and
//! containers that are gone when a case ends.
//!
//! The environment says where things are: `VMRUN` is the binary, `IMAGES` the folder that
//! `scripts/make-images` made. A case that cannot run fails.

pub mod pty;
pub mod registry;
pub mod scene;

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{BufRead, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Mutex, OnceLock},
    thread,
    time::{Duration, Instant},
};

/// Long enough for a loaded machine made of software.
pub const PATIENCE: Duration = Duration::from_secs(240);

/// The built binary.
pub fn binary() -> PathBuf {
    env::var_os("VMRUN").expect("VMRUN names the built vmrun").into()
}

/// An archive that `scripts/make-images` made.
pub fn archive(file: &str) -> PathBuf {
    let path =
        Path::new(&env::var_os("IMAGES").expect("IMAGES names the images' folder")).join(file);
    assert!(path.exists(), "{} is missing", path.display());
    path
}

/// A store of its own, for cases that look at what is in it; deleted at the end.
pub struct Store(tempfile::TempDir);

impl Store {
    pub fn new() -> Self {
        Self::on(&scratch())
    }

    /// One in a folder, for another file system than the others'.
    pub fn on(folder: &Path) -> Self {
        Self(tempfile::tempdir_in(folder).expect("a folder for a store"))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// `vmrun` with this store.
    pub fn vmrun<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Vmrun {
        Vmrun::new(self.path(), args)
    }

    pub fn load(&self, file: &str) -> Finished {
        let archive = archive(file);
        self.vmrun([OsStr::new("load"), OsStr::new("-i"), archive.as_os_str()]).run()
    }
}

/// A folder on the scratch disk: containers' disks are sparse, /tmp is memory.
pub fn scratch() -> PathBuf {
    PathBuf::from(env::var_os("HOME").expect("HOME is on the scratch disk"))
}

/// The store most cases share, with these images in it: loading is a case of its own.
fn shared_store() -> &'static Path {
    static STORE: OnceLock<PathBuf> = OnceLock::new();
    STORE.get_or_init(|| {
        let path = scratch().join(format!("store-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder on the scratch disk");
        path
    })
}

/// Loads an image into the shared store, once; gives its name.
pub fn image(name: &'static str) -> &'static str {
    static LOADED: Mutex<Vec<&str>> = Mutex::new(Vec::new());
    let mut loaded = LOADED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if !loaded.contains(&name) {
        let archive = archive(&format!("{}.tar", name.split(':').next().unwrap_or(name)));
        vmrun([OsStr::new("load"), OsStr::new("-i"), archive.as_os_str()]).run().succeeds();
        loaded.push(name);
    }
    name
}

/// `vmrun` with the shared store.
pub fn vmrun<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Vmrun {
    Vmrun::new(shared_store(), args)
}

/// `vmrun run --rm busybox sh -c SCRIPT`
pub fn sh(script: &str) -> Finished {
    vmrun(["run", "--rm", image("busybox"), "sh", "-c", script]).run()
}

/// A command line to be run.
pub struct Vmrun {
    command: Command,
    line: String,
    input: Option<Vec<u8>>,
    patience: Duration,
}

impl Vmrun {
    fn new<S: AsRef<OsStr>>(root: &Path, args: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(binary());
        command.env("VMRUN_ROOT", root).stdin(Stdio::null());
        command.args(args);
        let line = format!("{command:?}");
        Self { command, line, input: None, patience: PATIENCE }
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// What comes on stdin, and then its end.
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self.command.stdin(Stdio::piped());
        self
    }

    /// How long it may take; [`PATIENCE`] unless said.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    pub fn command(mut self) -> Command {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command
    }

    /// Starts it, with all streams piped.
    pub fn spawn(mut self) -> Child {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        self.command.spawn().expect("vmrun starts")
    }

    /// Runs it to its end, which has to come in time.
    pub fn run(mut self) -> Finished {
        let (line, input, patience) = (self.line.clone(), self.input.take(), self.patience);
        let mut child = self.spawn();
        let writer = child.stdin.take().map(|mut stdin| {
            thread::spawn(move || drop(stdin.write_all(&input.unwrap_or_default())))
        });
        let output = finish_within(patience, child, &line);
        if let Some(writer) = writer {
            writer.join().expect("the writer of stdin");
        }
        Finished { line, output }
    }
}

/// Collects a child's output; kills it and fails when it takes too long.
pub fn finish(child: Child, line: &str) -> Output {
    finish_within(PATIENCE, child, line)
}

pub fn finish_within(patience: Duration, child: Child, line: &str) -> Output {
    let id = child.id();
    let (done, waiting) = std::sync::mpsc::channel();
    let watchdog = thread::spawn(move || {
        if waiting.recv_timeout(patience).is_err() {
            let _ = Command::new("kill").args(["-KILL", &id.to_string()]).status();
            return true;
        }
        false
    });
    let output = child.wait_with_output().expect("its output");
    let _ = done.send(());
    let late = watchdog.join().expect("the watchdog");
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| end_of(bytes));
    assert!(!late, "{line} did not end; its last words: {stdout:?} {stderr:?}");
    output
}

/// The last bytes, as much as a failure's message can bear.
fn end_of(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(2000)..])
}

/// Reads lines until one has these words in it; gives all that was read.
#[track_caller]
pub fn read_until(words: &str, from: &mut impl BufRead) -> String {
    let mut seen = String::new();
    while !seen.lines().last().is_some_and(|line| line.contains(words)) {
        assert!(from.read_line(&mut seen).unwrap() > 0, "no {words:?} in:\n{seen}");
    }
    seen
}

/// How a command line came out.
pub struct Finished {
    line: String,
    pub output: Output,
}

impl Finished {
    pub fn status(&self) -> i32 {
        self.output.status.code().unwrap_or(-1)
    }

    pub fn stdout(&self) -> String {
        String::from_utf8_lossy(&self.output.stdout).into_owned()
    }

    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.output.stderr).into_owned()
    }

    /// Its output, after a check that it succeeded.
    #[track_caller]
    pub fn succeeds(self) -> String {
        self.exits(0).stdout()
    }

    #[track_caller]
    pub fn exits(self, status: i32) -> Self {
        assert_eq!(
            self.status(),
            status,
            "{}\nstdout: {}\nstderr: {}",
            self.line,
            self.stdout(),
            self.stderr()
        );
        self
    }

    /// Checks that it failed with this status and one line on stderr that has the words in it.
    #[track_caller]
    pub fn fails(self, status: i32, words: &[&str]) {
        let this = self.exits(status);
        let stderr = this.stderr();
        assert_eq!(stderr.lines().count(), 1, "{}: not one line:\n{stderr}", this.line);
        for word in words {
            assert!(stderr.contains(word), "{}: no {word:?} in:\n{stderr}", this.line);
        }
    }
}

/// A container with a name of its own in the shared store, removed when the case ends.
pub struct Named(pub String);

impl Named {
    pub fn new(prefix: &str) -> Self {
        Self(format!("{prefix}-{}", std::process::id()))
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = vmrun(["rm", "-f", &self.0]).run();
    }
}

/// Waits until something is so.
#[track_caller]
pub fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The VM process of a container that runs, by the container's whole id.
pub fn vm_process(id: &str) -> i32 {
    let vms = children_of(&processes(&["vmrun monitor", id]));
    *vms.first().expect("a container that runs has a VM process")
}

/// The VM processes of these monitors.
pub fn children_of(monitors: &[i32]) -> Vec<i32> {
    let mut found = processes(&["vmm"]);
    found.retain(|pid| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        parent.and_then(|parent| parent.parse().ok()).is_some_and(|pid| monitors.contains(&pid))
    });
    found
}

/// The processes of this user whose command line has all of these words.
pub fn processes(words: &[&str]) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").expect("/proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if words.iter().all(|word| line.contains(word)) {
            found.push(pid);
        }
    }
    found
}
