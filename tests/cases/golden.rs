//! Docker's own answers: the command lines of `tests/golden`, which Docker 20.10 has answered
//! (`scripts/record-docker`), put to vmrun.

use std::fs;

use crate::support::{
    Store, binary,
    scene::{Answer, Judge, complaints, file, no_complaints, play, scenes_in},
};

macro_rules! scenes {
    ($($scene:ident)+) => {
        $(
            #[test]
            fn $scene() {
                replay(stringify!($scene));
            }
        )+

        #[test]
        fn every_scene_is_played() {
            assert_eq!(scenes_in("golden"), [$(stringify!($scene)),+]);
        }
    };
}

scenes! {
    commit cp create diff events exec inspect logs names pause ps run start_stop top usage
}

/// In a store of its own, as a scene begins with no containers.
#[track_caller]
fn replay(scene: &str) {
    let scene = file("golden", scene);
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    let vmrun = format!("exec '{}' \"$@\"", binary().display());
    let answers = play(&scene, &vmrun, |mut player| {
        player.env("VMRUN_ROOT", store.path());
        player
    });
    for id in store.vmrun(["ps", "-aq"]).run().succeeds().lines() {
        store.vmrun(["rm", "-f", id]).run();
    }
    let recorded = Answer::all_of(&fs::read_to_string(scene).unwrap());
    no_complaints(&complaints(Judge::Docker, &recorded, &answers));
}
