//! Watching containers: what they printed, what happens to them, what they use and what runs in
//! them.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Finished, Named, Store, eventually, finish, image, read_until, scratch, vmrun,
};

/// Runs a script in a container of this name, in the foreground.
fn run(name: &Named, script: &str) -> Finished {
    vmrun(["run", "--name", &name.0, image("busybox"), "sh", "-c", script]).run()
}

/// … in the background, up to its start.
fn start(name: &Named, options: &[&str], script: &str) {
    let command = ["run", "-d", "--name", &name.0];
    let rest = [image("busybox"), "sh", "-c", script];
    vmrun([&command[..], options, &rest].concat()).run().succeeds();
}

fn logs(name: &Named, options: &[&str]) -> Finished {
    vmrun([&["logs"], options, &[name.0.as_str()]].concat()).run().exits(0)
}

/// Starts following a container's log.
fn follow(name: &Named) -> Child {
    vmrun(["logs", "-f", &name.0]).command().stdin(Stdio::null()).spawn().unwrap()
}

/// The folder of a container's log.
fn log_folder(name: &Named) -> PathBuf {
    let id = vmrun(["ps", "-aq", "--no-trunc", "--filter", &format!("name={}", name.0)]).run();
    let root = scratch().join(format!("store-{}", std::process::id()));
    root.join("containers").join(id.succeeds().trim()).join("log")
}

#[test]
fn logs_are_what_was_printed_by_stream() {
    let name = Named::new("logs");
    run(&name, "echo out; echo err >&2; echo 'grün \"<x>\"'; printf '\\033[1mbold\\377\\000'")
        .exits(0);
    let all = logs(&name, &[]);
    let expected = b"out\ngr\xc3\xbcn \"<x>\"\n\x1b[1mbold\xff\0";
    assert_eq!((all.output.stdout.as_slice(), all.stderr().as_str()), (&expected[..], "err\n"));
    vmrun(["start", "-a", &name.0]).run().exits(0);
    assert_eq!(logs(&name, &[]).output.stdout, expected.repeat(2), "a second run is kept, too");
    vmrun(["logs", "nosuch"]).run().fails(1, &["No such container: nosuch"]);
    vmrun(["logs", "--since", "nosuch", &name.0]).run().fails(
        1,
        &["invalid value for \"since\": failed to parse value as time or duration: \"nosuch\""],
    );
}

#[test]
fn logs_are_chosen_by_number_and_by_time() {
    let name = Named::new("chosen");
    run(&name, "for i in 1 2 3; do echo $i; done; sleep 1.2; echo 4").exits(0);
    for (options, expected) in [
        (&["--tail", "2"][..], "3\n4\n"),
        (&["-n", "0"], ""),
        (&["--tail", "all"], "1\n2\n3\n4\n"),
        (&["--tail=-1"], "1\n2\n3\n4\n"),
        (&["--since", "1h"], "1\n2\n3\n4\n"),
        (&["--until", "1h"], ""),
        (&["--details", "--tail", "1"], " 4\n"),
    ] {
        assert_eq!(logs(&name, options).stdout(), expected, "{options:?}");
    }
    let stamped = logs(&name, &["-t"]).stdout();
    let times: Vec<_> = stamped.lines().map(|line| line.split_once(' ').unwrap().0).collect();
    assert!(times.iter().all(|time| time.len() == 30 && time.ends_with('Z')), "{stamped}");
    assert_eq!(logs(&name, &["--since", times[3]]).stdout(), "4\n");
    assert_eq!(logs(&name, &["--until", times[2]]).stdout(), "1\n2\n3\n");
}

#[test]
fn followed_log_ends_with_the_container() {
    let name = Named::new("followed");
    start(&name, &[], "for i in 1 2 3; do echo $i; sleep 1; done; echo end >&2");
    let begun = Instant::now();
    let mut following = follow(&name);
    let mut stdout = BufReader::new(following.stdout.take().unwrap());
    read_until("2", &mut stdout);
    assert!(vmrun(["ps", "-q"]).run().stdout().lines().count() > 0, "it runs while it is followed");
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    let output = finish(following, "vmrun logs -f");
    assert_eq!((rest.as_str(), output.stderr.as_slice()), ("3\n", &b"end\n"[..]));
    assert!(output.status.success());
    // One that has ended before is shown and left.
    assert_eq!(logs(&name, &["-f"]).stdout(), "1\n2\n3\n");
    assert!(begun.elapsed() < Duration::from_secs(90));
}

#[test]
fn followed_log_of_a_removed_container_ends() {
    let name = Named::new("removed");
    start(&name, &["--rm"], "echo here; sleep 2; echo last");
    let output = finish(follow(&name), "vmrun logs -f");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "here\nlast\n");
}

/// `threats.md` row 41.
#[test]
fn row41_flood_of_output_is_bounded_on_disk_and_followed_across_rotations() {
    let name = Named::new("flood");
    let options = ["--log-opt", "max-size=100k", "--log-opt", "max-file=3"];
    start(&name, &options, "sleep 1; yes flood | head -n 200000; echo end");
    let output = finish(follow(&name), "vmrun logs -f");
    assert!(output.stdout.ends_with(b"flood\nend\n"), "the last lines are followed");
    let folder = log_folder(&name);
    let sizes: Vec<u64> = fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .collect();
    assert_eq!(sizes.len(), 3, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 100_000), "{sizes:?}");
    assert!(logs(&name, &["--tail", "1000"]).stdout().ends_with("flood\nend\n"));
}

#[test]
fn driver_none_keeps_nothing_and_others_are_refused() {
    let name = Named::new("none");
    let out =
        vmrun(["run", "--name", &name.0, "--log-driver", "none", image("busybox"), "echo", "x"]);
    assert_eq!(out.run().succeeds(), "x\n");
    assert!(!log_folder(&name).exists());
    let words = ["configured logging driver does not support reading"];
    vmrun(["logs", &name.0]).run().fails(1, &words);
    for (options, words) in [
        (["--log-driver", "syslog"], "plugin \"syslog\" not found"),
        (["--log-opt", "colour=red"], "unknown log opt 'colour' for json-file log driver"),
    ] {
        let line = [&["run", "--rm"], &options[..], &[image("busybox"), "true"]].concat();
        vmrun(line).run().fails(125, &[words]);
    }
}

/// Seconds since 1970, as `--since` and `--until` take them.
fn now() -> String {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    format!("{}.{:09}", time.as_secs(), time.subsec_nanos())
}

#[test]
fn events_are_docker_s_in_order() {
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    let begin = now();
    let ok = |args: &[&str]| store.vmrun(args).run().succeeds();
    ok(&["create", "--name", "one", "--label", "a=b", "busybox", "sh", "-c", "exit 3"]);
    store.vmrun(["start", "-a", "one"]).run().exits(3);
    ok(&["rename", "one", "two"]);
    ok(&["rm", "two"]);
    ok(&["tag", "busybox", "mine"]);
    ok(&["rmi", "mine"]);
    let end = now();
    let events =
        |options: &[&str]| ok(&[&["events", "--since", &begin, "--until", &end], options].concat());
    let shown = events(&["--filter", "type=container"]);
    let lines: Vec<_> = shown.lines().map(|line| line.splitn(5, ' ').collect::<Vec<_>>()).collect();
    let found: Vec<_> = lines.iter().map(|line| (line[2], line[4])).collect();
    let expected = [
        ("create", "(a=b, image=busybox, name=one)"),
        ("attach", "(a=b, image=busybox, name=one)"),
        ("start", "(a=b, image=busybox, name=one)"),
        ("die", "(a=b, exitCode=3, image=busybox, name=one)"),
        ("rename", "(a=b, image=busybox, name=two, oldName=/one)"),
        ("destroy", "(a=b, image=busybox, name=two)"),
    ];
    assert_eq!(found, expected, "{shown}");
    assert!(lines.iter().all(|line| line[0].len() >= 30 && line[3].len() == 64), "{shown}");
    assert_eq!(
        events(&[
            "--filter",
            "event=die",
            "--format",
            "{{.Status}} {{.From}} {{.Actor.Attributes.exitCode}}"
        ]),
        "die busybox 3\n"
    );
    assert_eq!(events(&["--filter", "type=image", "--format", "{{.Action}}"]), "tag\nuntag\n");
    assert_eq!(events(&["--filter", "label=a=c"]), "");
    assert!(events(&["--format", "json", "--filter", "event=create"]).contains("\"timeNano\":"));
    assert_eq!(ok(&["events", "--since", &end, "--until", &end]), "");
    store
        .vmrun(["events", "--since", "nosuch"])
        .run()
        .fails(1, &["failed to parse value as time or duration: \"nosuch\""]);
}

#[test]
fn events_are_shown_as_they_happen() {
    let name = Named::new("happens");
    let filter = format!("container={}", name.0);
    let line = ["events", "--filter", &filter, "--format", "{{.Action}}"];
    image("busybox");
    let mut watching = vmrun(line).command().stdin(Stdio::null()).spawn().unwrap();
    let mut stdout = BufReader::new(watching.stdout.take().unwrap());
    // That it watches is only seen by what it shows.
    thread::sleep(Duration::from_secs(1));
    start(&name, &[], "sleep 1000");
    assert_eq!(read_until("start", &mut stdout), "create\nstart\n");
    vmrun(["pause", &name.0]).run().succeeds();
    vmrun(["unpause", &name.0]).run().succeeds();
    vmrun(["exec", &name.0, "true"]).run().succeeds();
    vmrun(["rm", "-f", &name.0]).run().succeeds();
    let rest = read_until("destroy", &mut stdout);
    for action in ["pause", "unpause", "exec_create: true", "exec_start: true", "kill", "die"] {
        assert!(rest.lines().any(|line| line == action), "no {action} in {rest}");
    }
    watching.kill().unwrap();
    watching.wait().unwrap();
}

#[test]
fn top_shows_what_runs_by_the_container_s_own_numbers() {
    let name = Named::new("top");
    start(&name, &[], "sleep 1000 & sleep 2000; true");
    let top = |options: &[&str]| vmrun([&["top", &name.0], options].concat()).run().succeeds();
    eventually("all of it runs", || top(&[]).contains("sleep 2000"));
    let shown = top(&[]);
    let mut lines = shown.lines();
    assert_eq!(
        lines.next().unwrap(),
        "UID                 PID                 PPID                C                   \
         STIME               TTY                 TIME                CMD"
    );
    let words = lines.next().unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!((&words[..3], words[7]), (&["root", "1", "0"][..], "sh"), "{shown}");
    let shown = top(&["-o", "pid,user,args"]);
    let inside = vmrun(["exec", &name.0, "pidof", "sleep"]).run().succeeds();
    for pid in inside.split_whitespace() {
        let is_its = |line: &&str| line.split_whitespace().next() == Some(pid);
        let line = shown.lines().find(is_its).unwrap_or_else(|| panic!("no {pid} in {shown}"));
        assert_eq!(line.split_whitespace().nth(1), Some("root"), "{shown}");
    }
    assert!(top(&["aux"]).starts_with("USER                PID                 %CPU"));
    vmrun(["top", &name.0, "-o", "comm"]).run().fails(1, &["Couldn't find PID field in ps output"]);
    vmrun(["top", &name.0, "--forest"]).run().fails(1, &["'--forest' is not supported"]);
    vmrun(["pause", &name.0]).run().succeeds();
    assert!(top(&[]).contains("sleep 1000"), "of a paused one, too");
    vmrun(["unpause", &name.0]).run().succeeds();
    vmrun(["kill", &name.0]).run().succeeds();
    vmrun(["top", &name.0]).run().fails(1, &["Container ", " is not running"]);
}

#[test]
fn stats_show_what_is_used() {
    let name = Named::new("stats");
    let script =
        "dd if=/dev/zero of=/dev/shm/x bs=1M count=40 2>&1; sleep 1000 & while :; do :; done";
    start(&name, &["-m", "128m"], script);
    eventually("the memory is used", || {
        vmrun(["exec", &name.0, "du", "-m", "/dev/shm"]).run().stdout().starts_with("40")
    });
    let format = "{{.Name}}|{{.CPUPerc}}|{{.MemUsage}}|{{.PIDs}}|{{.BlockIO}}";
    let line = ["stats", "--no-stream", "--format", format, &name.0];
    let shown = vmrun(line).run().succeeds();
    let cells: Vec<_> = shown.trim().split('|').collect();
    assert_eq!(cells[0], name.0);
    let cpu: f64 = cells[1].trim_end_matches('%').parse().unwrap();
    assert!((20.0..=150.0).contains(&cpu), "{shown}");
    let (memory, limit) = cells[2].split_once(" / ").unwrap();
    let memory: f64 = memory.trim_end_matches("MiB").parse().unwrap();
    assert!((40.0..80.0).contains(&memory) && limit == "128MiB", "{shown}");
    assert_eq!(cells[3], "2", "{shown}");
    let table = vmrun(["stats", "--no-stream", &name.0]).run().succeeds();
    assert!(table.starts_with("CONTAINER ID   NAME"), "{table}");
    let mut live = vmrun(["stats", &name.0]).command().stdin(Stdio::null()).spawn().unwrap();
    let mut stdout = BufReader::new(live.stdout.take().unwrap());
    read_until(&name.0, &mut stdout);
    let mut second = Vec::new();
    stdout.read_until(b'N', &mut second).unwrap();
    assert!(second.starts_with(b"\x1b[2J\x1b[HCON"), "{:?}", String::from_utf8_lossy(&second));
    live.kill().unwrap();
    live.wait().unwrap();
    vmrun(["kill", &name.0]).run().succeeds();
    assert_eq!(vmrun(line).run().succeeds(), format!("{}|0.00%|0B / 0B|0|0B / 0B\n", name.0));
    // What the host gives it, whatever its own clocks say.
    let held_back = Named::new("held-back");
    start(&held_back, &["--cpus", "0.2"], "while :; do :; done");
    let cpu = ["stats", "--no-stream", "--format", "{{.CPUPerc}}", &held_back.0];
    eventually("it uses its share and no more", || {
        let shown = vmrun(cpu).run().succeeds();
        let percent: f64 = shown.trim().trim_end_matches('%').parse().unwrap();
        (5.0..=35.0).contains(&percent)
    });
    vmrun(["stats", "--no-stream", "nosuch"]).run().fails(1, &["No such container: nosuch"]);
}

#[test]
fn no_port_is_published() {
    let name = Named::new("port");
    run(&name, "true").exits(0);
    assert_eq!(vmrun(["port", &name.0]).run().succeeds(), "");
    let words = [format!("No public port '80/tcp' published for {}", name.0)];
    vmrun(["port", &name.0, "80"]).run().fails(1, &[&words[0]]);
}

#[test]
fn info_counts_what_there_is() {
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    store.vmrun(["create", "busybox"]).run().succeeds();
    let info = store.vmrun(["info"]).run().succeeds();
    assert!(info.contains("\n Containers: 1\n  Running: 0\n"), "{info}");
    let format = ["info", "--format", "{{.Images}} {{.LoggingDriver}}"];
    assert_eq!(store.vmrun(format).run().succeeds(), "1 json-file\n");
    let kernel = Command::new("uname").arg("-r").output().unwrap().stdout;
    let shown = store.vmrun(["info", "-f", "{{.KernelVersion}}"]).run().succeeds();
    assert_eq!(shown.as_bytes(), kernel);
}
