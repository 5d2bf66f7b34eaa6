//! Containers: they persist, they are apart from each other, and what is said of them is true.

use std::{
    io::{BufReader, Read},
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Named, Store, eventually, finish, image, processes, read_until, scratch, vmrun,
};

fn listed(name: &str) -> Option<String> {
    let all = vmrun(["ps", "-a"]).run().succeeds();
    all.lines().find(|line| line.split_whitespace().last() == Some(name)).map(str::to_owned)
}

#[test]
fn what_a_run_wrote_is_there_after_start_and_gone_after_rm() {
    let name = Named::new("persist");
    let script = "cat /kept 2>/dev/null; echo once >> /kept; touch /etc/new";
    vmrun(["run", "--name", &name.0, image("busybox"), "sh", "-c", script]).run().succeeds();
    assert!(listed(&name.0).unwrap().contains("Exited (0)"));
    assert_eq!(vmrun(["start", "-a", &name.0]).run().succeeds(), "once\n");
    assert_eq!(vmrun(["start", "-a", &name.0]).run().succeeds(), "once\nonce\n");
    // Not in the image, nor in another container.
    vmrun(["run", "--rm", image("busybox"), "test", "-e", "/kept"]).run().exits(1);
    vmrun(["rm", &name.0]).run().succeeds();
    assert_eq!(listed(&name.0), None);
    vmrun(["start", "-a", &name.0]).run().fails(1, &["No such container"]);
}

#[test]
fn containers_do_not_see_each_other_s_writes() {
    let (one, two) = (Named::new("apart-1"), Named::new("apart-2"));
    for name in [&one, &two] {
        let script = format!("ls /mark-* 2>/dev/null; touch /mark-{}", name.0);
        let out = vmrun(["run", "--name", &name.0, image("busybox"), "sh", "-c", &script]).run();
        assert_eq!(out.stdout(), "");
    }
}

#[test]
fn rm_option_leaves_nothing() {
    let name = Named::new("fleeting");
    vmrun(["run", "--rm", "--name", &name.0, image("busybox"), "true"]).run().succeeds();
    assert_eq!(listed(&name.0), None);
    eventually("no process is left", || processes(&["vmrun", "monitor", &name.0]).is_empty());
}

#[test]
fn name_can_be_used_once() {
    let name = Named::new("taken");
    vmrun(["run", "--name", &name.0, image("busybox"), "true"]).run().succeeds();
    vmrun(["run", "--name", &name.0, image("busybox"), "true"])
        .run()
        .fails(125, &["Conflict", &name.0, "already in use"]);
}

#[test]
fn killed_client_leaves_the_container_running_and_ps_true() {
    let name = Named::new("orphan");
    let mut child = vmrun(["run", "--name", &name.0, image("busybox"), "sleep", "1000"]).spawn();
    eventually("running", || listed(&name.0).is_some_and(|line| line.contains("Up ")));
    child.kill().unwrap();
    child.wait().unwrap();
    thread::sleep(Duration::from_secs(1));
    assert!(vmrun(["ps"]).run().succeeds().contains(&name.0));
    vmrun(["rm", &name.0]).run().fails(1, &["cannot remove a running container"]);
    vmrun(["stop", "-t", "1", &name.0]).run().succeeds();
    let line = listed(&name.0).unwrap();
    assert!(line.contains("Exited (137)"), "{line}");
    assert!(!vmrun(["ps"]).run().succeeds().contains(&name.0));
}

#[test]
fn term_reaches_the_command_through_the_client() {
    let name = Named::new("term");
    let script = "trap 'echo caught; exit 4' TERM; echo ready; while :; do sleep 0.1; done";
    let mut child = vmrun(["run", "--name", &name.0, image("busybox"), "sh", "-c", script]).spawn();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    read_until("ready", &mut stdout);
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let output = finish(child, "vmrun run");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "caught\n");
    assert_eq!(output.status.code(), Some(4));
}

#[test]
fn interrupts_without_effect_kill_the_container() {
    let child = vmrun(["run", "--rm", image("busybox"), "sleep", "1000"]).spawn();
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    thread::sleep(Duration::from_secs(4));
    for _ in 0..3 {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        thread::sleep(Duration::from_millis(300));
    }
    let status = finish(child, "vmrun run").status.code();
    assert!(matches!(status, Some(137 | 130)), "{status:?}");
}

#[test]
fn interrupt_before_the_start_leaves_nothing() {
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    // Densely where the container comes to be: between that and its monitor nobody else removes it.
    for delay in (0..120).step_by(2).chain([150, 300]) {
        let mut run = vec!["run", "--rm", "busybox", "true"];
        if delay % 3 == 0 {
            run.insert(1, "-d");
        }
        let child = store.vmrun(run).spawn();
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        thread::sleep(Duration::from_millis(delay));
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::INT);
        finish(child, "vmrun run");
    }
    eventually("no container is left", || store.vmrun(["ps", "-aq"]).run().succeeds().is_empty());
}

#[test]
fn detached_container_runs_on_and_is_killed() {
    let name = Named::new("detached");
    let id =
        vmrun(["run", "-d", "--name", &name.0, image("busybox"), "sleep", "1000"]).run().succeeds();
    assert_eq!(id.trim().len(), 64);
    assert!(vmrun(["ps", "-q"]).run().succeeds().contains(&id[..12]));
    vmrun(["start", &name.0]).run().succeeds();
    vmrun(["kill", &id[..12]]).run().succeeds();
    let line = listed(&name.0).unwrap();
    assert!(line.contains("Exited (137)"), "{line}");
    vmrun(["kill", &name.0]).run().fails(1, &["is not running"]);
}

#[test]
fn rm_force_ends_a_running_container() {
    let name = Named::new("forced");
    vmrun(["run", "-d", "--name", &name.0, image("busybox"), "sleep", "1000"]).run().succeeds();
    vmrun(["rm", "-f", &name.0]).run().succeeds();
    assert_eq!(listed(&name.0), None);
}

#[test]
fn twenty_containers_of_one_image_run_at_once() {
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    let children: Vec<_> = (0..20)
        .map(|number| {
            let script = format!("echo {number} > /n; sleep 2; cat /n");
            store.vmrun(["run", "--rm", "-m", "128m", "busybox", "sh", "-c", &script]).spawn()
        })
        .collect();
    for (number, child) in children.into_iter().enumerate() {
        let output = finish(child, "vmrun run");
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            format!("{number}\n"),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    assert_eq!(store.vmrun(["ps", "-aq"]).run().succeeds(), "");
}

/// A VM that is killed at any moment leaves a container that is listed truly, starts again, and
/// whose disk e2fsck accepts after that.
#[test]
fn vm_killed_at_random_moments_leaves_a_container_that_starts() {
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    let script = "i=0; while :; do i=$((i+1)); echo $i > /file-$((i % 50)); sync; done";
    store.vmrun(["run", "-d", "--name", "victim", "busybox", "sh", "-c", script]).run().succeeds();
    // The moments differ from run to run; the seed is printed when the case fails.
    let seed = std::process::id();
    for round in 0..6_u32 {
        let delay =
            100 + u64::from(seed.wrapping_mul(2_654_435_761).wrapping_add(round * 977) % 1500);
        thread::sleep(Duration::from_millis(delay));
        let whom = if round % 2 == 0 { "vmm" } else { "monitor" };
        for pid in victims(&store, whom) {
            let _ = rustix::process::kill_process(
                rustix::process::Pid::from_raw(pid).unwrap(),
                rustix::process::Signal::KILL,
            );
        }
        eventually(&format!("exited (seed {seed}, {whom})"), || {
            store.vmrun(["ps", "-a"]).run().succeeds().contains("Exited (")
        });
        assert_eq!(store.vmrun(["ps", "-q"]).run().succeeds(), "", "seed {seed}");
        store.vmrun(["start", "victim"]).run().succeeds();
    }
    store.vmrun(["stop", "-t", "0", "victim"]).run().succeeds();
    // One clean run, so that the journal is replayed by the guest's kernel.
    store.vmrun(["run", "--rm", "busybox", "true"]).run().succeeds();
    let disk = find_disk(&store);
    store.vmrun(["start", "victim"]).run().succeeds();
    thread::sleep(Duration::from_secs(2));
    store.vmrun(["kill", "-s", "KILL", "victim"]).run().succeeds();
    let check = std::process::Command::new("/sbin/e2fsck").arg("-fn").arg(&disk).output().unwrap();
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    store.vmrun(["rm", "victim"]).run().succeeds();
    assert!(!disk.exists());
}

/// The VM that was booted for a copy may end at any moment once that is told to be done.
#[test]
fn what_was_copied_into_a_stopped_container_outlives_its_vm() {
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    let create = ["create", "--name", "victim", "busybox", "cat", "/copied"];
    store.vmrun(create).run().succeeds();
    let copied = tempfile::NamedTempFile::new_in(scratch()).unwrap();
    for round in 0..4 {
        let content = format!("round {round}\n");
        std::fs::write(copied.path(), &content).unwrap();
        let copy = ["cp", copied.path().to_str().unwrap(), "victim:/copied"];
        store.vmrun(copy).run().succeeds();
        for pid in victims(&store, "vmm") {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let seen = store.vmrun(["start", "-a", "victim"]).run().succeeds();
        assert_eq!(seen, content);
    }
}

/// The processes of the only container of a store.
fn victims(store: &Store, whom: &str) -> Vec<i32> {
    let monitors = processes(&["vmrun", "monitor"]);
    let root = store.path().to_str().unwrap().to_owned();
    let ours = |pid: &i32| {
        std::fs::read(format!("/proc/{pid}/environ"))
            .is_ok_and(|environ| String::from_utf8_lossy(&environ).contains(&root))
    };
    match whom {
        "monitor" => monitors.into_iter().filter(ours).collect(),
        _ => {
            let monitors: Vec<_> = monitors.into_iter().filter(ours).collect();
            let child_of = |pid: &i32| {
                let status =
                    std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
                let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
                parent.is_some_and(|parent| monitors.iter().any(|m| parent.trim() == m.to_string()))
            };
            processes(&["vmm"]).into_iter().filter(child_of).collect()
        }
    }
}

fn find_disk(store: &Store) -> std::path::PathBuf {
    let containers = store.path().join("containers");
    let mut disks = std::fs::read_dir(containers)
        .unwrap()
        .flatten()
        .map(|entry| entry.path().join("disk.ext4"));
    disks.find(|disk| disk.exists()).unwrap()
}

#[test]
fn starting_twice_at_once_starts_once() {
    let name = Named::new("twice");
    vmrun(["run", "--name", &name.0, image("busybox"), "sh", "-c", "sleep 3"]).run().succeeds();
    let start = || vmrun(["start", "-a", &name.0]).spawn();
    let begun = Instant::now();
    let (one, two) = (start(), start());
    let statuses = [one, two].map(|child| finish(child, "vmrun start").status.code());
    assert!(statuses.contains(&Some(0)), "{statuses:?}");
    assert!(begun.elapsed() < Duration::from_secs(100));
    assert!(scratch().exists());
}
