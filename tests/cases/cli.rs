//! The command line itself: words, help, faults.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
};

use crate::support::{Store, binary, scratch, vmrun};

#[test]
fn mistyped_command_is_not_looked_for_as_an_image() {
    vmrun(["stpo", "web"])
        .run()
        .fails(125, &["'stpo' is not a vmrun command", "did you mean 'stop'"]);
    vmrun(["build", "."]).run().fails(125, &["'build'", "yet"]);
}

#[test]
fn version_and_help_are_there() {
    assert!(vmrun(["version"]).run().succeeds().starts_with("vmrun 0."));
    assert!(vmrun(["--help"]).run().succeeds().contains("Examples"));
    for command in ["run", "load", "ps", "start", "rm", "rmi", "images", "doctor", "stop", "kill"] {
        assert!(vmrun([command, "--help"]).run().succeeds().contains("Example"), "{command}");
    }
    assert!(vmrun(["completion", "bash"]).run().succeeds().contains("complete"));
}

#[test]
fn doctor_finds_the_test_host_fit() {
    let out = vmrun(["doctor"]).run().succeeds();
    assert!(out.contains("This host can run microVMs."), "{out}");
}

#[test]
fn missing_guest_files_are_named() {
    let empty = tempfile::tempdir_in(scratch()).unwrap();
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    store
        .vmrun(["run", "--rm", "busybox", "true"])
        .env("VMRUN_GUEST", empty.path())
        .run()
        .fails(125, &["vmlinux", "initramfs", "VMRUN_GUEST"]);
}

#[test]
fn wrong_options_are_refused_with_125() {
    for args in [["run", "--nosuch"], ["run", "--memory=x"], ["run", "--cpus=0"]] {
        vmrun(args.into_iter().chain(["busybox"])).run().exits(125);
    }
}

#[test]
fn unknown_containers_are_named() {
    vmrun(["rm", "nosuch"]).run().fails(1, &["No such container: nosuch"]);
    vmrun(["start", "-a", "nosuch"]).run().fails(1, &["No such container: nosuch"]);
    let start = vmrun(["start", "nosuch"]).run().exits(1).stderr();
    let words = ["No such container: nosuch", "failed to start containers: nosuch"];
    assert_eq!(start.lines().collect::<Vec<_>>(), words.map(|words| format!("vmrun: {words}")));
}

#[test]
#[ignore = "for root: scripts/test runs it apart"]
fn user_who_may_not_open_kvm_is_told_the_group() {
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    let all = |path: &Path| fs::set_permissions(path, Permissions::from_mode(0o777)).unwrap();
    all(store.path().parent().unwrap());
    Command::new("chown").args(["-R", "1234:1234"]).arg(store.path()).status().unwrap();
    let as_other = |args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=1234", "--regid=1234", "--clear-groups"]).arg(binary());
        command.args(args).env("VMRUN_ROOT", store.path()).env("USER", "other").output().unwrap()
    };
    let doctor = as_other(&["doctor"]);
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert_eq!(doctor.status.code(), Some(1), "{text}");
    assert!(text.contains("FAIL  KVM: /dev/kvm may not be opened by this user"), "{text}");
    assert!(text.contains("usermod -aG kvm other"), "{text}");
    let run = as_other(&["run", "busybox", "true"]);
    let line = String::from_utf8_lossy(&run.stderr).into_owned();
    assert_eq!(run.status.code(), Some(125), "{line}");
    assert!(line.lines().count() == 1 && line.contains("usermod -aG kvm other"), "{line}");
    let containers = as_other(&["ps", "-aq"]);
    assert!(containers.status.success() && containers.stdout.is_empty());
}
