//! podman with crun beside vmrun: the scenes of `tests/differential`, played with both by root. vmrun has to
//! answer what Docker did (`golden`), podman what vmrun does, but for its messages.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Command,
};

use crate::support::{
    archive,
    scene::{self, Judged, Stage},
    scratch,
};

/// podman under the name of `docker`, with a store of its own and busybox in it.
struct Podman(tempfile::TempDir);

impl Podman {
    fn new() -> Self {
        let folder = tempfile::tempdir_in(scratch()).unwrap();
        let at = folder.path().display();
        // No network, as in vmrun and as Docker's answers were recorded.
        let settings = "[containers]\nnetns = \"none\"\nbase_hosts_file = \"none\"\n[engine]\ncgroup_manager = \"cgroupfs\"\n\
             events_logger = \"file\"\nruntime = \"crun\"\n";
        fs::write(folder.path().join("containers.conf"), settings).unwrap();
        // Only images of Docker's own format have a message.
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = commit ]; then shift; set -- commit -f docker \"$@\"; fi\n\
             CONTAINERS_CONF={at}/containers.conf exec podman --log-level error --root {at}/store \
             --runroot {at}/run --tmpdir {at}/tmp --storage-driver overlay \"$@\"\n"
        );
        let this = Self(folder);
        fs::create_dir(this.programs()).unwrap();
        fs::write(this.program(), script).unwrap();
        fs::set_permissions(this.program(), Permissions::from_mode(0o755)).unwrap();
        let archive = format!("oci-archive:{}", archive("busybox.tar").display());
        let id = this.run(&["pull", "-q", &archive]);
        this.run(&["tag", id.trim(), "localhost/busybox:latest"]);
        this
    }

    fn programs(&self) -> PathBuf {
        self.0.path().join("bin")
    }

    fn program(&self) -> PathBuf {
        self.programs().join("docker")
    }

    fn run(&self, args: &[&str]) -> String {
        let output = Command::new(self.program()).args(args).output().unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "podman {args:?}: {complaints}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = Command::new(self.program()).args(["rm", "-af", "-t", "0"]).output();
    }
}

/// Plays a scene with both.
fn compare(name: &str) {
    let path = scene::path("differential", name);
    let recorded = scene::read(&fs::read_to_string(&path).unwrap());
    let ours = Stage::new().play(&path);
    let theirs = scene::play(&path, &Podman::new().programs(), None);
    let docker = scene::complaints(&recorded, &recorded, &ours, Judged::Vmrun);
    let podman = scene::complaints(&recorded, &ours, &theirs, Judged::Podman);
    assert!(
        docker.is_empty() && podman.is_empty(),
        "{}\n- is Docker's, + is vmrun's:\n{docker}\n- is vmrun's, + is podman's:\n{podman}",
        path.display()
    );
}

#[test]
#[ignore = "for root: scripts/test runs it apart"]
fn what_a_command_finds_around_it_is_what_podman_gives_it() {
    compare("process");
}

#[test]
#[ignore = "for root: scripts/test runs it apart"]
fn what_a_container_changes_is_what_podman_sees_changed() {
    compare("files");
}
