//! Power cuts: a session is recorded, and the store is made what it may be after a cut at any point
//! of it.

use std::{
    collections::{BTreeSet, HashSet},
    fs,
};

use crate::{
    disk::{self, Disk, Fate, Files, Operation},
    record::{Count, Recording},
    sample::Sample,
    scene::{Act, Scene, create},
    trace::Role,
};

/// A store that begins empty, as it was recorded.
#[derive(Clone)]
pub struct Session {
    log: Vec<Operation>,
    /// After how many operations each act began.
    starts: Vec<usize>,
    acts: Vec<Act>,
}

/// The store of a session that is under way.
pub const RECORDED: &str = "recorded";

impl Session {
    /// One that is about to begin.
    pub fn new(scene: &Scene) -> Self {
        let store = scene.path(RECORDED);
        let _ = fs::remove_dir_all(&store);
        fs::create_dir(&store).unwrap();
        Self { log: Vec::new(), starts: Vec::new(), acts: Vec::new() }
    }

    /// Does the next act, and writes down what the processes of it do that come no later than this;
    /// kills it at a point. Gives what the command and its monitor made.
    pub fn add(&mut self, scene: &Scene, act: Act, last: Role, kill: Option<usize>) -> [Count; 2] {
        let mut recording = Recording::new(&scene.path(RECORDED), last);
        recording.kill = kill;
        let ended = scene.watched(RECORDED, &act, &mut recording);
        if kill.is_none() {
            ended.succeeds();
            assert_eq!(scene.content(RECORDED), act.after);
        }
        self.starts.push(self.log.len());
        self.log.append(&mut recording.log);
        self.acts.push(act);
        recording.counts
    }

    /// Brings a disk, to which so many operations were done, to what it is after more of them.
    fn advance(&self, disk: &mut Disk, done: &mut usize, operations: usize) {
        self.log[*done..operations].iter().for_each(|operation| disk.apply(operation));
        *done = operations;
    }

    /// The disk after all operations.
    fn disk(&self) -> Disk {
        let mut disk = Disk::new();
        self.advance(&mut disk, &mut 0, self.log.len());
        disk
    }

    /// What the last of so many operations was, in short.
    fn last(&self, operations: usize) -> String {
        let last = operations.checked_sub(1).map(|last| &self.log[last]);
        match last {
            Some(Operation::Write(path, offset, bytes)) => {
                format!("write of {} bytes at {offset} to {}", bytes.len(), path.display())
            }
            last => format!("{last:?}"),
        }
    }

    /// After how many operations an act is over.
    fn end(&self, act: usize) -> usize {
        self.starts.get(act + 1).copied().unwrap_or(self.log.len())
    }

    /// The cuts while an act is under way or just over, in their order: after how many operations, and
    /// what becomes of those that are not safe.
    fn cuts(&self, act: usize) -> Vec<(usize, Luck)> {
        let (start, end) = (self.starts[act], self.end(act));
        let (mut disk, mut done) = (Disk::new(), 0);
        let mut cuts = Vec::new();
        for operations in start..=end {
            self.advance(&mut disk, &mut done, operations);
            let kinds = Luck::kinds(&disk.unsafe_operations(), start);
            cuts.extend(kinds.into_iter().map(|luck| (operations, luck)));
        }
        cuts
    }

    /// Cuts at some of them: `verify` gets what is left on the disk, and whether the act was over.
    pub fn cut(&self, act: usize, sample: &mut Sample, mut verify: impl FnMut(&Files, bool)) {
        let (mut disk, mut done) = (Disk::new(), 0);
        let cuts = self.cuts(act);
        for point in sample.points(cuts.len()) {
            let (operations, luck) = cuts[point];
            self.advance(&mut disk, &mut done, operations);
            let files = disk.cut(&|number| luck.fate(number));
            let (name, last) = (self.acts[act].name, self.last(operations));
            sample.trying(format!("{name}, cut after {operations}: {last}; {luck:?}"));
            verify(&files, operations == self.end(act));
        }
    }
}

/// What may become of what is not safe: all the same, all but one the same, or anything.
#[derive(Clone, Copy, Debug)]
enum Luck {
    All(Fate),
    Except(Fate, usize, Fate),
    Random(usize),
}

impl Luck {
    /// Those worth a try, where these operations are not safe, of which those from `since` on matter.
    fn kinds(later: &BTreeSet<usize>, since: usize) -> Vec<Self> {
        let mut kinds: Vec<Self> = [Fate::Lost, Fate::Half, Fate::Kept].map(Self::All).to_vec();
        for &number in later.range(since..) {
            kinds.push(Self::Except(Fate::Kept, number, Fate::Lost));
            kinds.push(Self::Except(Fate::Kept, number, Fate::Half));
            kinds.push(Self::Except(Fate::Lost, number, Fate::Kept));
        }
        kinds.extend((1..=4).map(Self::Random));
        kinds
    }

    fn fate(self, number: usize) -> Fate {
        match self {
            Self::All(fate) => fate,
            Self::Except(_, exception, fate) if exception == number => fate,
            Self::Except(fate, ..) => fate,
            Self::Random(seed) => {
                // Any mixing does that is the same each time (Knuth's multiplicative hash).
                match (seed * 31 + number).wrapping_mul(0x9e37_79b1) >> 16 & 3 {
                    0 => Fate::Lost,
                    1 => Fate::Half,
                    _ => Fate::Kept,
                }
            }
        }
    }
}

/// Checks what a cut left: images and containers are those of after the act, or if it was not over of before.
fn verify(scene: &Scene, session: &Session, act: usize, over: bool, files: &Files) {
    let store = scene.path("store");
    let _ = fs::remove_dir_all(&store);
    disk::write(files, &store);
    let content = scene.content("store");
    let before = act.checked_sub(1).map_or(&[][..], |before| &session.acts[before].after);
    let Act { name, args, after } = &session.acts[act];
    assert!(content == *after || !over && content == before, "{content:?}");
    scene.plain("store", &["system", "check"]).succeeds();
    if content != *after {
        scene.plain("store", args).succeeds();
        assert_eq!(scene.content("store"), *after, "{name} again");
    }
    scene.verify_containers("store");
    scene.plain("store", &scene.load("third")).succeeds();
    scene.plain("store", &scene.load("lost")).succeeds();
    scene.plain("store", &["system", "check"]).succeeds();
}

/// What is done with an empty store: images and containers come, are renamed and go.
fn acts(scene: &Scene) -> Vec<Act> {
    let known = scene.acts();
    let again = |name| known.iter().find(|act| act.name == name).unwrap().args.clone();
    let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    let mut content = BTreeSet::new();
    let mut act = |name, args, comes: Option<&'static str>, goes: Option<&'static str>| {
        goes.map(|name| content.remove(name));
        content.extend(comes);
        Act { name, args, after: content.iter().copied().collect() }
    };
    vec![
        act("load first", scene.load("first"), Some("first:1"), None),
        act("load lost", scene.load("lost"), Some("second:1"), None),
        act("load second", scene.load("second"), Some("<none>:<none>"), None),
        act("pull", again("pull"), Some("pulled:1"), None),
        act("tag", again("tag"), Some("other:1"), None),
        act("rmi", again("rmi"), None, Some("second:1")),
        act("prune", again("prune"), None, Some("<none>:<none>")),
        act("import", again("import"), Some("imported:1"), None),
        act("create kept", create("kept"), Some("container kept"), None),
        act("create old", create("old"), Some("container old"), None),
        act("update", again("update"), None, None),
        act("rename", again("rename"), Some("container new"), Some("container old")),
        act("container prune", again("container prune"), None, Some("container new")),
        act("rm", words(&["rm", "kept"]), None, Some("container kept")),
    ]
}

#[test]
fn row34_a_power_cut_leaves_what_was_acknowledged() {
    let scene = Scene::new();
    let mut session = Session::new(&scene);
    for act in acts(&scene) {
        session.add(&scene, act, Role::Cli, None);
    }
    let mut sample = Sample::new("row 34, power cut");
    for number in 0..session.acts.len() {
        let mut seen = HashSet::new();
        session.cut(number, &mut sample, |files, over| {
            if seen.insert(disk::fingerprint(files)) {
                verify(&scene, &session, number, over, files);
            }
        });
    }
}

/// What a killed command left without having made it durable is made so by the one that needs it.
#[test]
fn row34_a_power_cut_after_a_kill_leaves_what_was_acknowledged_then() {
    let scene = Scene::new();
    let load = |after: &[&'static str]| Act {
        name: "load",
        args: scene.load("first"),
        after: after.to_vec(),
    };
    let mut sample = Sample::new("row 34, power cut after a kill");
    Session::new(&scene);
    let mut count = Recording::new(&scene.path(RECORDED), Role::Cli);
    scene.watched(RECORDED, &load(&[]), &mut count).succeeds();
    for point in sample.points(count.seen) {
        let mut session = Session::new(&scene);
        session.add(&scene, load(&[]), Role::Cli, Some(point));
        session.add(&scene, load(&["first:1"]), Role::Cli, None);
        let disk = session.disk();
        let mut seen = HashSet::new();
        for luck in Luck::kinds(&disk.unsafe_operations(), 0) {
            let files = disk.cut(&|number| luck.fate(number));
            sample.trying(format!("killed ahead of call {point}, {luck:?}"));
            if seen.insert(disk::fingerprint(&files)) {
                verify(&scene, &session, 1, true, &files);
            }
        }
    }
}
