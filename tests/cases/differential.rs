//! vmrun beside Docker (its recorded answers) and podman with crun (run here), on the same image: what a
//! command is given, and what becomes of what it does. Those run as root, vmrun as the ordinary user.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use crate::support::{
    Store, archive, binary,
    scene::{Answer, Judge, complaints, file, no_complaints, play, scenes_in},
};

#[test]
#[ignore = "for root: scripts/test runs it apart"]
fn process() {
    beside_the_others("process");
}

#[test]
#[ignore = "for root: scripts/test runs it apart"]
fn files() {
    beside_the_others("files");
}

#[test]
fn every_scene_is_played() {
    assert_eq!(scenes_in("differential"), ["files", "process"]);
}

#[track_caller]
fn beside_the_others(scene: &str) {
    let scene = file("differential", scene);
    let recorded = Answer::all_of(&fs::read_to_string(&scene).unwrap());
    let vmrun = answers_of_vmrun(&scene);
    let mut found = complaints(Judge::Docker, &recorded, &vmrun);
    found.extend(complaints(Judge::Podman, &answers_of_podman(&scene), &vmrun));
    no_complaints(&found);
}

fn answers_of_podman(scene: &Path) -> Vec<Answer> {
    let store = Store::new();
    let folder = store.path().display();
    let podman = format!(
        "podman --root {folder}/store --runroot {folder}/run --tmpdir {folder}/tmp \
         --storage-driver overlay --runtime crun --cgroup-manager cgroupfs --events-backend file"
    );
    let with = |arguments: &str| {
        let status = Command::new("sh").arg("-c").arg(format!("{podman} {arguments}")).status();
        assert!(status.unwrap().success(), "podman {arguments}");
    };
    with(&format!("load -q -i {} >/dev/null", archive("busybox.tar").display()));
    let docker = format!(
        "case $1 in run | create) verb=$1; shift; set -- \"$verb\" --network none \"$@\" ;; esac\n\
         exec {podman} \"$@\""
    );
    let answers = play(scene, &docker, |player| player);
    with("rm -fa -t 0 >/dev/null");
    with("rmi -fa >/dev/null");
    answers
}

fn answers_of_vmrun(scene: &Path) -> Vec<Answer> {
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    fs::set_permissions(store.path().parent().unwrap(), Permissions::from_mode(0o777)).unwrap();
    Command::new("chown").args(["-R", "1000:1000"]).arg(store.path()).status().unwrap();
    let vmrun = format!("exec '{}' \"$@\"", binary().display());
    let as_user = |player: &Command| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=1000", "--regid=1000", "--groups=kvm", "--no-new-privs"]);
        command.arg(player.get_program()).args(player.get_args());
        for (name, value) in player.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command.env("VMRUN_ROOT", store.path()).env("XDG_RUNTIME_DIR", "/run/user/1000");
        command.env("HOME", store.path());
        command
    };
    let answers = play(scene, &vmrun, |player| as_user(&player));
    let mut clear = Command::new("sh");
    clear.args(["-c", "for id in $(\"$0\" ps -aq); do \"$0\" rm -f $id; done"]).arg(binary());
    as_user(&clear).status().unwrap();
    answers
}
