//! The life of a container between its start and its end: paused, restarted, renamed, watched over;
//! and what its options make of the guest.

use std::{thread, time::Duration};

use crate::support::{Named, Store, eventually, image, vmrun};

fn start(prefix: &str, options: &[&str], script: &str) -> Named {
    let name = Named::new(prefix);
    let words = [&["run", "-d", "--name", &name.0], options].concat();
    vmrun([&words[..], &[image("busybox"), "sh", "-c", script]].concat()).run().succeeds();
    name
}

/// A field of a container's `inspect`.
fn field(name: &Named, template: &str) -> String {
    vmrun(["inspect", "-f", template, &name.0]).run().succeeds().trim().to_owned()
}

fn state(name: &Named) -> String {
    field(name, "{{.State.Status}}")
}

#[test]
fn created_container_waits_to_be_started() {
    let name = Named::new("created");
    let id = vmrun(["create", "--name", &name.0, image("busybox"), "sh", "-c", "echo hi; exit 3"]);
    assert_eq!(id.run().succeeds().trim().len(), 64);
    assert_eq!(state(&name), "created");
    assert_eq!(vmrun(["start", "-a", &name.0]).run().exits(3).stdout(), "hi\n");
    assert_eq!(state(&name), "exited");
}

#[test]
fn paused_container_stands_still_and_goes_on() {
    let count = "i=0; while :; do i=$((i+1)); echo $i > /count; sleep 0.1; done";
    let name = start("paused", &[], count);
    let counted = || vmrun(["cp", &format!("{}:/count", name.0), "-"]).run().exits(0).output.stdout;
    vmrun(["pause", &name.0]).run().succeeds();
    assert_eq!(state(&name), "paused");
    assert!(vmrun(["ps"]).run().succeeds().contains("(Paused)"));
    vmrun(["pause", &name.0]).run().fails(1, &["is already paused"]);
    vmrun(["exec", &name.0, "true"]).run().fails(1, &["is paused"]);
    vmrun(["rm", &name.0]).run().fails(1, &["cannot remove a paused container"]);
    let start = vmrun(["start", &name.0]).run().exits(1).stderr();
    assert!(start.contains("cannot start a paused container"), "{start}");
    // Its files can be had, and it moves no further for that.
    let before = counted();
    thread::sleep(Duration::from_secs(1));
    assert!(before == counted(), "it counts on");
    vmrun(["unpause", &name.0]).run().succeeds();
    assert_eq!(state(&name), "running");
    vmrun(["unpause", &name.0]).run().fails(1, &["is not paused"]);
    eventually("it counts on", || before != counted());
    // The clock has not stood still with it.
    vmrun(["pause", &name.0]).run().succeeds();
    thread::sleep(Duration::from_secs(3));
    vmrun(["unpause", &name.0]).run().succeeds();
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let before = now().as_secs();
    let guest: u64 =
        vmrun(["exec", &name.0, "date", "+%s"]).run().succeeds().trim().parse().unwrap();
    assert!((before - 1..=now().as_secs() + 1).contains(&guest), "{before} {guest}");
    // A paused one can be stopped.
    vmrun(["pause", &name.0]).run().succeeds();
    vmrun(["stop", "-t", "1", &name.0]).run().succeeds();
    assert_eq!(state(&name), "exited");
}

#[test]
fn failing_container_is_started_again_as_often_as_its_policy_says() {
    let name = start("again", &["--restart", "on-failure:2"], "echo run >> /runs; exit 5");
    eventually("it has given up", || state(&name) == "exited");
    assert_eq!(field(&name, "{{.RestartCount}} {{.State.ExitCode}}"), "2 5");
    let runs = vmrun(["cp", &format!("{}:/runs", name.0), "-"]).run().exits(0);
    assert_eq!(runs.stdout().matches("run\n").count(), 3);
    // A success is no failure.
    let name = start("once", &["--restart", "on-failure"], "exit 0");
    eventually("it has ended", || state(&name) == "exited");
    assert_eq!(field(&name, "{{.RestartCount}}"), "0");
}

#[test]
fn container_that_is_wanted_always_runs_until_it_is_stopped() {
    let name = start("always", &["--restart", "always"], "sleep 0.2");
    eventually("it was started again", || field(&name, "{{.RestartCount}}") != "0");
    vmrun(["stop", &name.0]).run().succeeds();
    assert_eq!(state(&name), "exited");
    thread::sleep(Duration::from_secs(2));
    assert_eq!(state(&name), "exited");
    vmrun(["run", "--rm", "--restart", "always", image("busybox"), "true"])
        .run()
        .fails(125, &["Conflicting options: --restart and --rm"]);
}

#[test]
fn policy_can_be_changed() {
    let name = start("update", &["--restart", "always"], "sleep 1");
    vmrun(["update", "--restart", "no", &name.0]).run().succeeds();
    assert_eq!(field(&name, "{{.HostConfig.RestartPolicy.Name}}"), "no");
    eventually("it has ended for good", || state(&name) == "exited");
}

#[test]
fn session_starts_what_is_wanted_and_stops_it_for_the_next() {
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    let run = |name: &str, policy: &str| {
        let words = ["run", "-d", "--name", name, "--restart", policy, "busybox", "sleep", "9999"];
        store.vmrun(words).run().succeeds();
    };
    run("wanted", "unless-stopped");
    run("stopped", "unless-stopped");
    run("unwanted", "no");
    store.vmrun(["stop", "-t", "0", "stopped"]).run().succeeds();
    store.vmrun(["system", "service", "stop"]).run().succeeds();
    assert_eq!(store.vmrun(["ps", "-q"]).run().succeeds(), "");
    assert_eq!(store.vmrun(["system", "service", "start"]).run().succeeds(), "wanted\n");
    let names = store.vmrun(["ps", "--format", "{{.Names}}"]).run().succeeds();
    assert_eq!(names, "wanted\n");
    let home = tempfile::tempdir().unwrap();
    let install =
        || store.vmrun(["system", "service", "install"]).env("XDG_CONFIG_HOME", home.path());
    install().run().succeeds();
    install().run().succeeds();
    let wants = home.path().join("systemd/user/default.target.wants/vmrun.service");
    assert!(std::fs::read_to_string(wants).unwrap().contains("system service start"));
    store.vmrun(["rm", "-f", "wanted", "stopped", "unwanted"]).run().succeeds();
}

#[test]
fn health_is_what_the_check_says() {
    let check = ["--health-cmd", "test -e /well && echo fine", "--health-interval", "1s"];
    let name = start("health", &[&check[..], &["--health-retries", "2"]].concat(), "sleep 1000");
    assert!(vmrun(["ps"]).run().succeeds().contains("(health: starting)"));
    eventually("unhealthy", || field(&name, "{{.State.Health.Status}}") == "unhealthy");
    vmrun(["exec", &name.0, "touch", "/well"]).run().succeeds();
    eventually("healthy", || field(&name, "{{.State.Health.Status}}") == "healthy");
    let log = field(&name, "{{range .State.Health.Log}}{{.Output}}{{end}}");
    assert!(log.contains("fine"), "{log}");
    let filter = format!("container={}", name.0);
    let format = "{{.Action}} {{.Actor.Attributes.exitCode}}";
    let events = ["events", "--since", "1h", "--until", "0s", "--filter", &filter, "--format"];
    let events = vmrun([&events[..], &[format]].concat()).run().succeeds();
    let check = "/bin/sh -c test -e /well && echo fine";
    let of = |status| {
        format!(
            "exec_create: {check} <no value>\nexec_start: {check} <no value>\n\
            exec_die {status}\n"
        )
    };
    assert!(events.contains(&of(0)) && events.matches(&of(1)).count() >= 2, "{events}");
    let healthy = vmrun(["ps", "-q", "--filter", "health=healthy", "--no-trunc"]).run().succeeds();
    assert_eq!(healthy.trim(), field(&name, "{{.Id}}"));
}

#[test]
fn wait_rename_restart_and_kill_do_as_in_docker() {
    let name = start("waited", &[], "trap 'exit 6' USR1; while :; do sleep 0.1; done");
    let waiting = vmrun(["wait", &name.0]).spawn();
    let other = Named::new("waited-still");
    vmrun(["rename", &name.0, &other.0]).run().succeeds();
    vmrun(["inspect", &name.0]).run().exits(1);
    vmrun(["kill", "-s", "USR1", &other.0]).run().succeeds();
    assert_eq!(crate::support::finish(waiting, "wait").stdout, b"6\n");
    assert_eq!(vmrun(["wait", &other.0]).run().succeeds(), "6\n");
    let before = field(&other, "{{.State.StartedAt}}");
    vmrun(["restart", "-t", "0", &other.0]).run().succeeds();
    assert_eq!(state(&other), "running");
    assert_ne!(field(&other, "{{.State.StartedAt}}"), before);
    // A name that is free can be had again, one that is taken cannot.
    let third = Named::new("waited");
    vmrun(["create", "--name", &third.0, image("busybox")]).run().succeeds();
    let rename = vmrun(["rename", &other.0, &third.0]).run().exits(1).stderr();
    assert!(rename.contains("is already in use"), "{rename}");
    vmrun(["kill", &third.0]).run().fails(1, &["is not running"]);
}

#[test]
fn labels_and_cidfile_and_sizes_are_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cid");
    let name = Named::new("labelled");
    let cidfile = file.to_str().unwrap();
    let create =
        ["create", "--name", &name.0, "-l", "tier=web", "-l", "bare", "--cidfile", cidfile];
    vmrun([&create[..], &[image("busybox")]].concat()).run().succeeds();
    assert_eq!(std::fs::read_to_string(&file).unwrap(), field(&name, "{{.Id}}"));
    vmrun([&create[..], &[image("busybox")]].concat()).run().fails(1, &["container ID file found"]);
    let ps = |filter: &str| {
        vmrun(["ps", "-a", "--filter", filter, "--format", "{{.Names}} {{.Labels}}"])
            .run()
            .succeeds()
    };
    assert_eq!(ps("label=tier=web"), format!("{} bare=,tier=web\n", name.0));
    assert_eq!(ps("label=tier=db"), "");
    let sized = vmrun(["ps", "-as", "--filter", &format!("name={}", name.0)]).run().succeeds();
    assert!(sized.contains("(virtual "), "{sized}");
    vmrun(["container", "prune", "-f", "--filter", "label=tier=web"]).run().succeeds();
    assert_eq!(ps("label=tier=web"), "");
}

#[test]
fn options_set_the_guest_up() {
    let run = |options: &[&str], script: &str| {
        let words = [&["run", "--rm"], options, &[image("busybox"), "sh", "-c", script]].concat();
        vmrun(words).run()
    };
    let out = run(&["--read-only"], "touch /x 2>&1; touch /dev/shm/y && echo shm").exits(0);
    assert_eq!(out.stdout(), "touch: /x: Read-only file system\nshm\n");
    let out =
        run(&["--tmpfs", "/scratch:size=1m", "--tmpfs", "/tmp"], "mount | grep -E '/scratch|/tmp'");
    let out = out.succeeds();
    assert!(
        out.contains("/scratch type tmpfs (rw,nosuid,nodev,noexec") && out.contains("size=1024k"),
        "{out}"
    );
    assert_eq!(out.lines().count(), 2);
    let out = run(&["--shm-size", "8m"], "df -k /dev/shm | tail -n 1 | awk '{print $2}'");
    assert_eq!(out.succeeds(), "8192\n");
    let out = run(&["--ulimit", "nofile=100:200"], "ulimit -n; ulimit -Hn");
    assert_eq!(out.succeeds(), "100\n200\n");
    let out = run(&["--sysctl", "net.core.somaxconn=77"], "cat /proc/sys/net/core/somaxconn");
    assert_eq!(out.succeeds(), "77\n");
    let out = run(
        &["--add-host", "db:10.1.2.3", "--dns", "9.9.9.9", "--dns-search", "lan"],
        "grep 'db$' /etc/hosts; cat /etc/resolv.conf",
    );
    assert_eq!(out.succeeds(), "10.1.2.3\tdb\nsearch lan\nnameserver 9.9.9.9\n");
    let bits = |options: &[&str]| run(options, "grep CapEff /proc/self/status").succeeds();
    assert!(bits(&["--cap-drop", "ALL", "--cap-add", "CHOWN"]).contains("0000000000000001"));
    assert!(bits(&["--privileged"]).contains("000001ffffffffff"));
    let out = run(&["--group-add", "70", "-u", "5"], "id -G").succeeds();
    assert!(out.contains("70"), "{out}");
    let out = run(&["--stop-signal", "INT", "--init", "--memory-reservation", "1m"], "echo ok");
    assert_eq!(out.succeeds(), "ok\n");
    let out = run(&["--pids-limit", "4"], "for i in 1 2 3 4 5; do sleep 9 & done; echo no");
    assert!(out.output.stdout.is_empty() && out.stderr().contains("can't fork"));
    let script = "grep NoNewPrivs /proc/self/status";
    assert_eq!(
        run(&["--security-opt", "no-new-privileges"], script).succeeds(),
        "NoNewPrivs:\t1\n"
    );
    assert_eq!(
        run(&["--security-opt", "seccomp=unconfined"], script).succeeds(),
        "NoNewPrivs:\t0\n"
    );
    run(&["--security-opt", "seccomp=profile"], "true").fails(125, &["seccomp=profile"]);
    run(&["--cpu-shares", "2"], "true").fails(125, &["--cpu-shares"]);
    run(&["--platform", "linux/arm64"], "true").fails(125, &["linux/arm64", "linux/amd64"]);
    run(&["-p", "80:80"], "true").fails(125, &["--publish", "network"]);
    run(&["-v", "/:/host"], "true").fails(125, &["--volume"]);
    run(&["--sysctl", "no.such.thing=1"], "true").fails(125, &["no.such.thing"]);
}

#[test]
fn copies_of_a_stopped_container_leave_it_stopped() {
    let name = start("stopped-cp", &[], "echo kept > /file");
    eventually("it has ended", || state(&name) == "exited");
    let finished = field(&name, "{{.State.FinishedAt}}");
    let copies: Vec<_> =
        (0..4).map(|_| vmrun(["cp", &format!("{}:/file", name.0), "-"]).spawn()).collect();
    for copy in copies {
        let out = crate::support::finish(copy, "cp");
        assert!(String::from_utf8_lossy(&out.stdout).contains("kept\n"));
    }
    assert_eq!(state(&name), "exited");
    assert_eq!(field(&name, "{{.State.FinishedAt}}"), finished);
    // Whoever wants to start or remove it waits for that, and is not refused.
    let copy = vmrun(["cp", &format!("{}:/bin", name.0), "-"]).spawn();
    let copied = std::thread::spawn(move || crate::support::finish(copy, "cp"));
    vmrun(["start", &name.0]).run().succeeds();
    copied.join().unwrap();
}

#[test]
fn container_survives_the_loss_of_its_runtime_folder() {
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    store.vmrun(["run", "-d", "--name", "lost", "busybox", "sleep", "9999"]).run().succeeds();
    for pid in crate::support::processes(&["vmrun", "monitor"]) {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let root = store.path().as_os_str().as_encoded_bytes();
        if environment.windows(root.len()).any(|window| window == root) {
            std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        }
    }
    std::fs::remove_dir_all(store.path().join("run")).unwrap();
    eventually("it counts as exited", || {
        let all = store.vmrun(["ps", "-a", "--format", "{{.Status}}"]).run().succeeds();
        all.starts_with("Exited (255)")
    });
    store.vmrun(["start", "lost"]).run().succeeds();
    store.vmrun(["rm", "-f", "lost"]).run().succeeds();
}

/// Ticks of CPU time (10 ms) that a process and its threads have had.
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn part_of_a_cpu_is_a_bound() {
    let name = start("half", &["--cpus", "0.5"], "while :; do :; done");
    let id = field(&name, "{{.Id}}");
    let vmm = crate::support::vm_process(&id);
    thread::sleep(Duration::from_secs(1));
    let (begun, before) = (std::time::Instant::now(), ticks(vmm));
    thread::sleep(Duration::from_secs(8));
    let (had, wall) = (ticks(vmm) - before, begun.elapsed().as_millis() / 10);
    let percent = u128::from(had) * 100 / wall;
    assert!((5..=65).contains(&percent), "{percent} % of a CPU");
}
