//! What the image's command is, and how its end is passed on.

use crate::support::{Named, eventually, finish, image, sh, vmrun};

#[test]
fn exit_status_is_the_command_s() {
    for status in [0, 1, 3, 42, 125, 126, 127, 255] {
        sh(&format!("exit {status}")).exits(status);
    }
}

#[test]
fn death_by_signal_is_128_plus_the_signal() {
    // The shell is PID 1, which no signal of its own kills; its child dies.
    sh("sh -c 'kill -9 $$; true'; exit $?").exits(137);
    sh("sh -c 'kill -TERM $$; true'; exit $?").exits(143);
    let name = Named::new("signalled");
    let child =
        vmrun(["run", "--rm", "--name", &name.0, image("busybox"), "sleep", "1000"]).spawn();
    eventually("running", || vmrun(["ps"]).run().stdout().contains(&name.0));
    vmrun(["kill", &name.0]).run().succeeds();
    assert_eq!(finish(child, "vmrun run").status.code(), Some(137));
}

#[test]
fn command_that_does_not_exist_is_127() {
    vmrun(["run", "--rm", image("busybox"), "nosuch"])
        .run()
        .fails(127, &["nosuch", "executable file not found in $PATH"]);
    vmrun(["run", "--rm", image("busybox"), "/no/such"])
        .run()
        .fails(127, &["/no/such", "no such file or directory"]);
}

#[test]
fn command_that_cannot_be_executed_is_126() {
    for path in ["/etc", "/etc/passwd"] {
        vmrun(["run", "--rm", image("busybox"), path]).run().fails(126, &[path]);
    }
}

#[test]
fn image_that_is_not_there_is_125() {
    vmrun(["run", "--rm", "--pull", "never", "nosuchimage:1"])
        .run()
        .fails(125, &["No such image: nosuchimage:1"]);
}

#[test]
fn run_is_optional() {
    let out = vmrun(["--rm", image("busybox"), "echo", "-n", "--rm"]).run().succeeds();
    assert_eq!(out, "--rm");
}

#[test]
fn environment_is_the_image_s_and_docker_s() {
    let out = vmrun([
        "run",
        "--rm",
        "-e",
        "A=1",
        "-e",
        "B=x y",
        "--hostname",
        "box",
        image("busybox"),
        "env",
    ])
    .run()
    .succeeds();
    let mut lines: Vec<_> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=1", "B=x y", "HOME=/root", "HOSTNAME=box", "PATH=/bin",]);
}

#[test]
fn variables_come_from_files_and_from_here() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, b"# comment\nONE=1\nPASSED\n").unwrap();
    let path = file.path().to_str().unwrap();
    let out = vmrun([
        "run",
        "--rm",
        "--env-file",
        path,
        "-e",
        "ALSO",
        image("busybox"),
        "sh",
        "-c",
        "echo $ONE $PASSED $ALSO",
    ])
    .env("PASSED", "on")
    .env("ALSO", "this")
    .run()
    .succeeds();
    assert_eq!(out, "1 on this\n");
}

#[test]
fn working_directory_is_made() {
    let out =
        vmrun(["run", "--rm", "-w", "/made/for/it", image("busybox"), "pwd"]).run().succeeds();
    assert_eq!(out, "/made/for/it\n");
}

#[test]
fn user_is_looked_up_in_the_image() {
    let id = |user: &str| {
        vmrun([
            "run",
            "--rm",
            "-u",
            user,
            image("debian:demo"),
            "sh",
            "-c",
            "id -u; id -g; id -G; echo $HOME",
        ])
        .run()
    };
    assert_eq!(id("www-data").succeeds(), "33\n33\n33\n/var/www\n");
    assert_eq!(id("1234").succeeds(), "1234\n0\n0\n/\n");
    assert_eq!(id("1234:4321").succeeds(), "1234\n4321\n4321\n/\n");
    assert_eq!(id("www-data:staff").succeeds(), "33\n50\n50\n/var/www\n");
    id("nosuch").fails(125, &["unable to find user nosuch: no matching entries in passwd file"]);
    id("0:nosuch").fails(125, &["unable to find group nosuch: no matching entries in group file"]);
    // `threats.md` row 12.
    id("4294967296").exits(125);
    id("-1").exits(125);
}

#[test]
fn entrypoint_can_be_replaced() {
    let run = |args: &[&str]| vmrun(["run", "--rm"].iter().chain(args)).run();
    assert_eq!(run(&[image("python:3")]).succeeds(), "hello\n");
    assert_eq!(
        run(&["--entrypoint", "/bin/echo", image("python:3"), "a", "b"]).succeeds(),
        "a b\n"
    );
    // What is behind the image is the command's, also where vmrun has such an option.
    let line = ["--entrypoint", "echo", image("busybox"), "-m", "http.server", "--rm", "-c", "x"];
    assert_eq!(run(&line).succeeds(), "-m http.server --rm -c x\n");
}

#[test]
fn hostname_and_its_files_are_set() {
    let out = vmrun(["run", "--rm", "-h", "box", image("busybox"), "sh", "-c",
        "hostname; cat /etc/hostname; grep -c box /etc/hosts; test -f /etc/resolv.conf; ping -c1 -W5 localhost >/dev/null && echo pong"])
    .run()
    .succeeds();
    assert_eq!(out, "box\nbox\n1\npong\n");
}

#[test]
fn command_is_pid_1_and_orphans_are_reaped() {
    let out = sh(
        "echo $$; (sleep 0.1 &); (sleep 0.1 &); sleep 1; grep -l State:.Z /proc/[0-9]*/status | wc -l",
    );
    assert_eq!(out.succeeds(), "1\n0\n");
}

#[test]
fn orphans_end_with_the_command() {
    let start = std::time::Instant::now();
    sh("sleep 1000 & sleep 1000 & exit 7").exits(7);
    assert!(start.elapsed().as_secs() < 100);
}

#[test]
fn out_of_memory_kills_the_command_not_the_agent() {
    // One line without end, kept in memory.
    let hog = "tail /dev/zero";
    let run = |script: &str| {
        vmrun(["run", "--rm", "-m", "128m", image("busybox"), "sh", "-c", script]).run()
    };
    // The child is killed, and the shell tells of it.
    assert_eq!(run(&format!("{hog}; echo survived $?")).stdout(), "survived 137\n");
    run(&format!("exec {hog}")).exits(137);
}

#[test]
fn memory_and_cpus_are_as_asked_for() {
    let out = vmrun([
        "run",
        "--rm",
        "-m",
        "200m",
        "--cpus",
        "3",
        image("busybox"),
        "sh",
        "-c",
        "nproc; awk '/MemTotal/{print ($2 < 204800 && $2 > 150000)}' /proc/meminfo",
    ])
    .run()
    .succeeds();
    assert_eq!(out, "3\n1\n");
}
