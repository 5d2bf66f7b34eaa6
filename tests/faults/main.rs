//! Faults of the host that happen to commands on images and containers (docs/threat-model.md, "The host"): calls that
//! fail (row 32), a kill (row 33), a power cut (row 34). For each of them a command is run under
//! `ptrace` again and again, the fault at another point each time; whatever happens, the store opens
//! and is sound, what was acknowledged is there, and the command can be run again.
//!
//! No VM is needed. `VMRUN` names the binary. A sample of points is tried, by a seed that is printed
//! and that `SEED` sets; `FAULTS=all` tries every one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(missing_debug_implementations, unreachable_pub, reason = "nothing outside sees them")]

mod bytes;
mod calls;
mod disk;
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
    trace::{Call, Verdict, Watch},
};

/// Makes one of the calls fail that change files in a folder.
struct Failing {
    folder: PathBuf,
    /// How many go ahead of it.
    left: usize,
    error: c_int,
    /// What failed.
    failed: Option<String>,
    seen: usize,
}

impl Failing {
    fn new(scene: &Scene, left: usize, error: c_int) -> Self {
        Self { folder: scene.path(""), left, error, failed: None, seen: 0 }
    }
}

impl Watch for Failing {
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

/// Kills the command ahead of one of its calls.
struct Killing {
    left: usize,
    seen: usize,
}

impl Watch for Killing {
    fn enter(&mut self, _call: &Call) -> Verdict {
        self.seen += 1;
        if self.seen == self.left + 1 { Verdict::Kill } else { Verdict::Go }
    }
}

/// Beyond every command's last call.
const NEVER: usize = usize::MAX - 1;

#[test]
fn row32_a_call_that_fails_is_told_and_the_command_can_be_run_again() {
    let scene = Scene::new();
    let mut sample = Sample::new("row 32, call that fails");
    for act in scene.acts() {
        scene.set("store", &act);
        let mut count = Failing::new(&scene, NEVER, 0);
        scene.watched("store", &act, &mut count).succeeds();
        let errors = [libc::ENOSPC, libc::EDQUOT, libc::EIO];
        for point in sample.points(count.seen * errors.len()) {
            let error = errors[point % errors.len()];
            scene.set("store", &act);
            let mut watch = Failing::new(&scene, point / errors.len(), error);
            let ended = scene.watched("store", &act, &mut watch);
            let failed = watch.failed.unwrap_or_else(|| "nothing".to_owned());
            let reason = std::io::Error::from_raw_os_error(error).to_string();
            sample.trying(format!("{} {failed}: {reason}: {ended:?}", act.name));
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
        let mut count = Killing { left: NEVER, seen: 0 };
        scene.watched("store", &act, &mut count).succeeds();
        for point in sample.points(count.seen) {
            scene.set("store", &act);
            let ended = scene.watched("store", &act, &mut Killing { left: point, seen: 0 });
            sample.trying(format!("{} ahead of call {point}: {ended:?}", act.name));
            scene.verify("store", &act);
        }
    }
}
