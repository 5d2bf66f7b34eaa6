//! Docker's answers, as `scripts/record-docker` heard them, and vmrun's beside them: a function a scene
//! of `tests/golden`, so that `scripts/test golden::NAME` replays one.

use std::fs;

use crate::support::scene::{self, Judged, Stage};

/// Plays a scene with vmrun and compares it with what is recorded.
fn replay(name: &str) {
    let path = scene::path("golden", name);
    let recorded = scene::read(&fs::read_to_string(&path).unwrap());
    let played = Stage::new().play(&path);
    let wrong = scene::complaints(&recorded, &recorded, &played, Judged::Vmrun);
    assert!(wrong.is_empty(), "{}: - is recorded, + is what vmrun says\n{wrong}", path.display());
}

macro_rules! scenes {
    ($($name:ident)*) => {
        $(#[test] fn $name() { replay(stringify!($name)); })*

        #[test]
        fn every_scene_is_replayed_and_every_reason_has_its_place() {
            assert_eq!(scene::names("golden"), [$(stringify!($name)),*]);
            assert_eq!(scene::idle_reasons(&["golden", "differential"]), [""; 0]);
        }
    };
}

scenes! {
    commit cp create diff events exec inspect logs names pause ps run start_stop top usage
}
