//! Faults of the host that happen to commands on images and containers (docs/threat-model.md, "The host"): calls that
//! fail (row 32), a kill (row 33), a power cut (row 34). For each of them a command is run under
//! `ptrace` again and again, the fault at another point each time; whatever happens, the store opens
//! and is sound, what was acknowledged is there, and the command can be run again.
//!
//! No VM is needed, but for the commands in [`guests`]. `VMRUN` names the binary. A sample of points is
//! tried, by a seed that is printed and that `SEED` sets; `FAULTS=all` tries every one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(missing_debug_implementations, unreachable_pub, reason = "nothing outside sees them")]

mod bytes;
mod calls;
mod disk;
mod guests;
mod images;
mod power;
#[path = "../random.rs"]
mod random;
mod record;
mod sample;
mod scene;
mod trace;

use std::path::PathBuf;

use libc::c_int;

use crate::{
    sample::Sample,
    scene::Scene,
    trace::{Call, Role, Verdict, Watch},
};

/// Makes one of the calls fail that change files in a folder.
struct Failing {
    whose: Role,
    folder: PathBuf,
    /// How many go ahead of it.
    left: usize,
    error: c_int,
    /// What failed.
    failed: Option<String>,
    seen: usize,
}

impl Failing {
    fn new(whose: Role, scene: &Scene, left: usize, error: c_int) -> Self {
        Self { whose, folder: scene.path(""), left, error, failed: None, seen: 0 }
    }

    /// What was made to fail, as far as it came to that.
    fn told(&self) -> String {
        let reason = std::io::Error::from_raw_os_error(self.error);
        format!("{}: {reason}", self.failed.as_deref().unwrap_or("nothing"))
    }
}

impl Watch for Failing {
    fn wants(&self, role: Role) -> bool {
        role == self.whose
    }

    fn enter(&mut self, call: &Call) -> Verdict {
        let changed = calls::changed(call).filter(|path| path.starts_with(&self.folder));
        let Some(path) = changed else { return Verdict::Go };
        self.seen += 1;
        if self.seen != self.left + 1 {
            return Verdict::Go;
        }
        self.failed = Some(format!("{} of {}", calls::name(call.number), path.display()));
        Verdict::Fail(self.error)
    }
}

/// Kills a process ahead of one of its calls.
struct Killing {
    whose: Role,
    left: usize,
    seen: usize,
}

impl Killing {
    fn new(whose: Role, left: usize) -> Self {
        Self { whose, left, seen: 0 }
    }
}

impl Watch for Killing {
    fn wants(&self, role: Role) -> bool {
        role == self.whose
    }

    fn enter(&mut self, _call: &Call) -> Verdict {
        self.seen += 1;
        if self.seen == self.left + 1 { Verdict::Kill } else { Verdict::Go }
    }
}

/// How a call can fail that changes files.
const ERRORS: [c_int; 3] = [libc::ENOSPC, libc::EDQUOT, libc::EIO];

/// Beyond every command's last call.
const NEVER: usize = usize::MAX - 1;

#[test]
fn row32_a_call_that_fails_is_told_and_the_command_can_be_run_again() {
    let scene = Scene::new();
    let mut sample = Sample::new("row 32, call that fails");
    for act in scene.acts() {
        scene.set("store", &act);
        let mut count = Failing::new(Role::Cli, &scene, NEVER, 0);
        scene.watched("store", &act, &mut count).succeeds();
        for point in sample.points(count.seen * ERRORS.len()) {
            let error = ERRORS[point % ERRORS.len()];
            scene.set("store", &act);
            let mut watch = Failing::new(Role::Cli, &scene, point / ERRORS.len(), error);
            let ended = scene.watched("store", &act, &mut watch);
            sample.trying(format!("{} {}: {ended:?}", act.name, watch.told()));
            let reason = std::io::Error::from_raw_os_error(error).to_string();
            match ended.status {
                Some(0) => assert_eq!(scene.content("store"), act.after),
                Some(1 | 125) => {
                    let stderr = &ended.stderr;
                    assert!(stderr.starts_with("vmrun: ") && stderr.contains(&reason), "{stderr}");
                    // A failed rename is summed up, as in Docker.
                    let most = if act.name == "rename" { 2 } else { 1 };
                    assert!(stderr.lines().count() <= most, "{stderr}");
                }
                other => panic!("status {other:?}"),
            }
            scene.verify("store", &act);
        }
    }
}

#[test]
fn row33_a_command_that_is_killed_leaves_a_sound_store_and_can_be_run_again() {
    let scene = Scene::new();
    let mut sample = Sample::new("row 33, kill");
    for act in scene.acts() {
        scene.set("store", &act);
        let mut count = Killing::new(Role::Cli, NEVER);
        scene.watched("store", &act, &mut count).succeeds();
        for point in sample.points(count.seen) {
            scene.set("store", &act);
            let ended = scene.watched("store", &act, &mut Killing::new(Role::Cli, point));
            sample.trying(format!("{} ahead of call {point}: {ended:?}", act.name));
            scene.verify("store", &act);
        }
    }
}
