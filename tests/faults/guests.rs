//! Faults that happen to commands which need a VM, or to the monitor behind it. For the test host:
//! these tests are ignored elsewhere. Each point takes seconds, so that few are tried.

use std::{
    env,
    fs::{self, File},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

use crate::{
    ERRORS, Failing, Killing, disk,
    power::{RECORDED, Session},
    record::Count,
    sample::Sample,
    scene::{Act, Scene, copy, sorted, text},
    trace::{self, Ended, Role},
};

/// How long what was left alone may take to its end.
const PATIENCE: Duration = Duration::from_secs(120);

/// What there is before each act.
const BEFORE: [&str; 3] = ["busybox:latest", "container idle", "container worn"];

const RUN: &str = "run";
const RUN_RM: &str = "run --rm";
const START: &str = "start";
const COMMIT: &str = "commit";
const COPY: &str = "cp";

/// A store with an image that runs, a container that has run, and one that has not; and what the acts
/// do to it where nothing goes wrong.
struct Guests {
    scene: Scene,
    /// What is copied into a container.
    copied: String,
    acts: Vec<Recorded>,
    /// The layers of an image of the container that has run.
    layers: String,
}

/// An act as it was recorded, the last one of a session.
struct Recorded {
    act: Act,
    session: Session,
    counts: [Count; 2],
}

impl Recorded {
    /// Whose fault comes at a point of those that the command and its monitor have, and how many of
    /// its own go ahead.
    fn at(&self, point: usize, points: impl Fn(&Count) -> usize) -> (Role, usize) {
        match point.checked_sub(points(&self.counts[0])) {
            None => (Role::Cli, point),
            Some(rest) => (Role::Monitor, rest),
        }
    }
}

fn act(name: &'static str, args: &[&str], after: &[&'static str]) -> Act {
    let args = args.iter().map(|&arg| arg.to_owned()).collect();
    Act { name, args, after: sorted(after) }
}

/// What makes the store what it is before each act.
fn ground() -> Vec<Act> {
    let images = PathBuf::from(env::var_os("IMAGES").expect("IMAGES names the images"));
    let busybox = images.join("busybox.tar");
    let worn = ["run", "--name", "worn", "busybox", "sh", "-c", "echo worn >> /worn; cat /worn"];
    vec![
        act("load", &["load", "-q", "-i", text(&busybox)], &BEFORE[..1]),
        act("run", &worn, &[BEFORE[0], BEFORE[2]]),
        act("create", &["create", "--name", "idle", "busybox", "cat", "/copied"], &BEFORE),
    ]
}

fn acts(scene: &Scene) -> Vec<Act> {
    let act =
        |name, args: &[&str], more: &[&'static str]| act(name, args, &[&BEFORE[..], more].concat());
    let script = "echo made >> /made; cat /made";
    let copied = scene.path("copied");
    vec![
        act(RUN, &["run", "--name", "made", "busybox", "sh", "-c", script], &["container made"]),
        act(RUN_RM, &["run", "--rm", "--name", "made", "busybox", "echo", "made"], &[]),
        act(START, &["start", "-a", "worn"], &[]),
        act(COMMIT, &["commit", "worn", "committed:1"], &["committed:1"]),
        act(COPY, &["cp", "-q", text(&copied), "idle:/copied"], &[]),
    ]
}

impl Guests {
    /// Those that another test has at the moment, or new ones.
    fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Guests>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let guests = Arc::new(Self::new());
            *shared = Arc::downgrade(&guests);
            guests
        })
    }

    fn new() -> Self {
        let scene = Scene::empty();
        let copied = (0..20_000).fold(String::new(), |text, line| format!("{text}line {line}\n"));
        fs::write(scene.path("copied"), &copied).unwrap();
        let mut session = Session::new(&scene);
        for act in ground() {
            session.add(&scene, act, Role::Vm, None);
        }
        let (recorded, before) = (scene.path(RECORDED), scene.path("before"));
        fs::rename(&recorded, &before).unwrap();
        let mut guests = Self { scene, copied, acts: Vec::new(), layers: String::new() };
        for act in acts(&guests.scene) {
            let mut session = session.clone();
            copy(&before, &recorded);
            let counts = session.add(&guests.scene, act.clone(), Role::Vm, None);
            if act.name == COMMIT {
                guests.layers = guests.layers(RECORDED);
            }
            guests.acts.push(Recorded { act, session, counts });
            fs::remove_dir_all(&recorded).unwrap();
        }
        guests
    }

    fn layers(&self, store: &str) -> String {
        let words = ["inspect", "--format", "{{json .RootFS.Layers}}", "committed:1"];
        self.scene.plain(store, &words).succeeds()
    }

    /// Waits until no process of the store's is left, nor a VM that has one of its disks.
    fn rest(&self, store: &str) {
        let root = format!("VMRUN_ROOT={}", text(&self.scene.path(store))).into_bytes();
        let of_store = |process: i32| {
            let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == root)
        };
        let is_used = |path: PathBuf| File::open(path).is_ok_and(|disk| disk.try_lock().is_err());
        let containers = self.scene.path(store).join("containers");
        let end = Instant::now() + PATIENCE;
        loop {
            let folders = fs::read_dir(&containers).into_iter().flatten().flatten();
            let disks = folders.map(|folder| folder.path().join("disk.ext4"));
            let left: Vec<i32> = trace::processes().filter(|process| of_store(*process)).collect();
            let used: Vec<PathBuf> = disks.filter(|disk| is_used(disk.clone())).collect();
            if left.is_empty() && used.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "processes {left:?} and VMs of {used:?} are left");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Checks that the list of containers is true after an act that came out like this.
    fn verify_list(&self, store: &str, act: &Act, ended: &Ended) {
        let words = ["ps", "-a", "--format", "{{.Names}} {{.Status}}"];
        let listed = self.scene.plain(store, &words).succeeds();
        let is_changed = |name| match act.name {
            RUN | RUN_RM => name == "made",
            START => name == "worn",
            _ => false,
        };
        for (name, status) in listed.lines().filter_map(|line| line.split_once(' ')) {
            let before = if name == "worn" { "Exited (0)" } else { "Created" };
            let told = ended.status != Some(0) || !ended.stderr.is_empty();
            match is_changed(name) {
                // Where the end could not be put on record the user was told.
                true if told && status.starts_with("Exited (") => {}
                true if !told => assert!(status.starts_with("Exited (0)"), "{listed}"),
                _ => assert!(status.starts_with(before), "{listed}"),
            }
        }
    }

    /// Lets faults happen to each act, one at a time, at some of the points that `points` counts in it:
    /// `fault` does the act with one and tells which that was, `check` looks at how it ended.
    fn try_faults(
        &self,
        (row, title): (u64, &'static str),
        points: impl Fn(&Count) -> usize,
        fault: impl Fn(&str, &Act, Role, usize) -> (String, Ended),
        check: impl Fn(Role, usize, &Ended),
    ) {
        let store = format!("store of row {row}");
        let mut sample = Sample::costly(title);
        for (number, recorded) in self.acts.iter().enumerate() {
            if !sample.has(row, number) {
                continue;
            }
            let act = &recorded.act;
            for point in sample.points(recorded.counts.iter().map(&points).sum()) {
                let (whose, point) = recorded.at(point, &points);
                self.rest(&store);
                self.scene.set(&store, act);
                let (told, ended) = fault(&store, act, whose, point);
                sample.trying(format!("{} {whose:?}: {told}: {ended:?}", act.name));
                check(whose, point, &ended);
                self.verify(&store, act, &ended);
            }
        }
    }

    /// Checks a store in which an act was to be done, which came out like this: what was left alone
    /// ends, the list is true, the store is sound, what was acknowledged is there, and the act can be
    /// done again.
    fn verify(&self, store: &str, act: &Act, ended: &Ended) {
        self.rest(store);
        self.verify_list(store, act, ended);
        let run = |args: &[&str]| self.scene.plain(store, args).succeeds();
        run(&["system", "check"]);
        let content = self.scene.content(store);
        let done = ended.status == Some(0);
        let made = content.iter().any(|name| name == "container made");
        let half = act.name == RUN_RM && made && !done;
        assert!(content == act.after || half || !done && content == BEFORE, "{content:?}");
        let again = || self.scene.plain(store, &act.args).succeeds();
        let lines = |text: String, word: &str, least: usize| {
            // ext4 gives a file its size ahead of its bytes, which until then are zeros.
            let text = if done { text } else { text.replace('\0', "") };
            assert!(text.lines().all(|line| line == word), "{text}");
            assert!(text.lines().count() >= least + usize::from(done), "{text}");
        };
        match act.name {
            RUN if made => lines(run(&["start", "-a", "made"]), "made", 1),
            START => lines(again(), "worn", 2),
            COPY => {
                if !done {
                    again();
                }
                assert!(run(&["start", "-a", "idle"]) == self.copied);
            }
            // Again it would be another image. The disk is put in order by its next VM.
            COMMIT if content == act.after => {
                assert_eq!(run(&["start", "-a", "worn"]), "worn\nworn\n");
            }
            _ => {
                if half {
                    run(&["rm", "made"]);
                }
                again();
                assert_eq!(self.scene.content(store), act.after);
            }
        }
        if act.name == COMMIT {
            assert_eq!(self.layers(store), self.layers);
        }
        self.rest(store);
        self.scene.verify_containers(store);
        assert_eq!(fs::read_dir(self.scene.path(store).join("run")).unwrap().count(), 0);
    }
}

#[test]
#[ignore = "needs KVM: scripts/test runs it in the test host"]
fn row32_a_call_that_fails_beside_a_vm_is_told_and_the_command_can_be_run_again() {
    let guests = Guests::shared();
    let error = |point: usize| ERRORS[point % ERRORS.len()];
    guests.try_faults(
        (32, "row 32, call that fails beside a VM"),
        |count| count.changes * ERRORS.len(),
        |store, act, whose, point| {
            let number = point / ERRORS.len();
            let mut watch = Failing::new(whose, &guests.scene, number, error(point));
            let ended = guests.scene.watched(store, act, &mut watch);
            (watch.told(), ended)
        },
        |_, point, Ended { status, stderr, .. }| {
            let reason = std::io::Error::from_raw_os_error(error(point)).to_string();
            let told = stderr.starts_with("vmrun: ") && stderr.contains(&reason);
            match status {
                Some(0) => assert!(told || stderr.is_empty(), "{stderr}"),
                Some(1 | 125) => assert!(told, "{stderr}"),
                other => panic!("status {other:?}"),
            }
            assert!(stderr.lines().count() <= 1, "{stderr}");
        },
    );
}

#[test]
#[ignore = "needs KVM: scripts/test runs it in the test host"]
fn row33_a_kill_beside_a_vm_leaves_a_sound_store_and_no_process() {
    let guests = Guests::shared();
    guests.try_faults(
        (33, "row 33, kill beside a VM"),
        |count| count.calls,
        |store, act, whose, point| {
            let ended = guests.scene.watched(store, act, &mut Killing::new(whose, point));
            (format!("killed ahead of call {point}"), ended)
        },
        |whose, _, ended| {
            if whose == Role::Monitor && ended.status != Some(0) {
                assert!(ended.stderr.starts_with("vmrun: "), "{}", ended.stderr);
            }
        },
    );
}

#[test]
#[ignore = "needs KVM: scripts/test runs it in the test host"]
fn row34_a_power_cut_beside_a_vm_leaves_what_was_acknowledged() {
    let guests = Guests::shared();
    let store = "store of cuts";
    let mut sample = Sample::costly("row 34, power cut beside a VM");
    let before = ground().len();
    for (number, Recorded { act, session, .. }) in guests.acts.iter().enumerate() {
        if !sample.has(34, number) {
            continue;
        }
        session.cut(before, &mut sample, |files, over| {
            guests.rest(store);
            let path = guests.scene.path(store);
            let _ = fs::remove_dir_all(&path);
            disk::write(files, &path);
            let status = over.then_some(0);
            let ended = Ended { status, stdout: String::new(), stderr: String::new() };
            guests.verify(store, act, &ended);
        });
    }
}
