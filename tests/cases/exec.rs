//! Commands beside that of a running container, and clients that join it.

use std::{io::BufReader, process::Command};

use crate::support::{
    Named, eventually, finish, image, processes, pty::Terminal, read_until, vmrun,
};

/// A container that runs until it is removed.
fn running(prefix: &str, options: &[&str]) -> Named {
    let name = Named::new(prefix);
    let start = [&["run", "-d", "--name", &name.0], options].concat();
    let command = [&start[..], &[image("busybox"), "sleep", "100000"]].concat();
    vmrun(command).run().succeeds();
    name
}

/// `vmrun exec NAME sh -c SCRIPT`, with options.
fn exec(name: &Named, options: &[&str], script: &str) -> crate::support::Finished {
    vmrun([&["exec"], options, &[&name.0, "sh", "-c", script]].concat()).run()
}

#[test]
fn exec_has_the_container_s_world_and_its_own_status_and_streams() {
    let name = running("exec", &["-e", "OF=container", "-w", "/tmp"]);
    let out = exec(&name, &[], "echo out; echo err >&2; exit 7").exits(7);
    assert_eq!((out.stdout(), out.stderr()), ("out\n".into(), "err\n".into()));
    assert_eq!(
        exec(&name, &[], "echo $OF; pwd; cat /proc/1/comm").succeeds(),
        "container\n/tmp\nsleep\n"
    );
    assert_eq!(exec(&name, &["-e", "OF=mine", "-w", "/"], "echo $OF; pwd").succeeds(), "mine\n/\n");
    assert_eq!(
        exec(&name, &["-u", "65534:7"], "id -u; id -g; echo $HOME").succeeds(),
        "65534\n7\n/\n"
    );
    // Files are those of the command, and what one writes the other sees.
    exec(&name, &[], "echo kept > /file").succeeds();
    assert_eq!(exec(&name, &[], "cat /file").succeeds(), "kept\n");
    let killed = exec(&name, &[], "kill -9 $$");
    assert_eq!(killed.status(), 137);
    // Nothing of the agent's is in sight or in reach.
    let seen = exec(&name, &[], "ls /proc/self/fd; ls /proc | grep -c '^[0-9]'").succeeds();
    assert!(seen.lines().count() <= 6, "{seen}");
    let capabilities = exec(&name, &[], "grep CapEff /proc/self/status").succeeds();
    assert!(capabilities.contains("00000000a80425fb"), "{capabilities}");
}

#[test]
fn exec_that_cannot_be_has_docker_s_statuses() {
    let name = running("exec-not", &[]);
    vmrun(["exec", &name.0, "nonesuch"]).run().fails(127, &["nonesuch", "not found"]);
    vmrun(["exec", &name.0, "/etc"]).run().fails(126, &["is a directory"]);
    vmrun(["exec", "nobody-here", "true"]).run().fails(1, &["No such container"]);
    vmrun(["stop", "-t", "0", &name.0]).run().succeeds();
    vmrun(["exec", &name.0, "true"]).run().fails(1, &["is not running"]);
}

#[test]
fn stdin_of_exec_comes_with_its_end_and_bytes_pass_as_they_are() {
    let name = running("exec-pipe", &[]);
    let bytes: Vec<u8> = (0_u32..500_000).flat_map(u32::to_le_bytes).collect();
    let out = vmrun(["exec", "-i", &name.0, "cat"]).input(bytes.clone()).run().exits(0);
    assert!(out.output.stdout == bytes, "{} bytes came back", out.output.stdout.len());
    assert_eq!(vmrun(["exec", &name.0, "cat"]).input("not sent").run().succeeds(), "");
}

#[test]
fn many_execs_run_at_once() {
    let name = running("exec-many", &[]);
    let children: Vec<_> = (0..12)
        .map(|number| {
            let script = format!("sleep 1; echo {number}; exit {number}");
            vmrun(["exec", &name.0, "sh", "-c", &script]).spawn()
        })
        .collect();
    for (number, child) in children.into_iter().enumerate() {
        let out = finish(child, "exec");
        assert_eq!(out.status.code(), i32::try_from(number).ok());
        assert_eq!(String::from_utf8_lossy(&out.stdout), format!("{number}\n"));
    }
}

#[test]
fn detached_exec_runs_on() {
    let name = running("exec-detached", &[]);
    vmrun(["exec", "-d", &name.0, "sh", "-c", "sleep 1; echo done > /done"]).run().succeeds();
    eventually("it is done", || exec(&name, &[], "cat /done 2>/dev/null").stdout() == "done\n");
}

#[test]
fn exec_with_a_terminal_is_interactive() {
    let name = running("exec-tty", &[]);
    let command: Command = vmrun(["exec", "-it", &name.0, "sh"]).command();
    let mut terminal = Terminal::start(&command);
    terminal.shows("# ");
    terminal.types("tty; stty size; echo $TERM\r");
    terminal.shows("/dev/pts/");
    terminal.shows("24 80");
    terminal.types("exit 5\r");
    assert_eq!(terminal.status(), 5);
}

#[test]
fn attached_client_shares_the_streams_and_leaves_by_the_keys() {
    let name = Named::new("attach");
    vmrun(["run", "-dit", "--name", &name.0, image("busybox"), "sh"]).run().succeeds();
    let mut terminal = Terminal::start(&vmrun(["attach", &name.0]).command());
    terminal.types("echo in-$((40+2))\r");
    terminal.shows("in-42");
    terminal.types("\x10\x11");
    terminal.shows("read escape sequence");
    assert_eq!(terminal.status(), 1);
    assert!(vmrun(["ps"]).run().succeeds().contains(&name.0), "it runs on");
    // Another one finds it as it was left.
    let mut terminal = Terminal::start(&vmrun(["attach", &name.0]).command());
    terminal.types("exit 9\r");
    assert_eq!(terminal.status(), 9);
    vmrun(["attach", &name.0]).run().fails(1, &["cannot attach to a stopped container"]);
}

#[test]
fn two_clients_see_the_same_output_and_one_may_go() {
    let name = Named::new("attach-two");
    let script = "while :; do echo tick; sleep 0.2; done";
    vmrun(["run", "-d", "--name", &name.0, image("busybox"), "sh", "-c", script]).run().succeeds();
    let mut clients = [0, 1].map(|_| vmrun(["attach", "--sig-proxy=false", &name.0]).spawn());
    for client in &mut clients {
        read_until("tick", &mut BufReader::new(client.stdout.as_mut().unwrap()));
    }
    let [mut one, mut other] = clients;
    one.kill().unwrap();
    one.wait().unwrap();
    read_until("tick", &mut BufReader::new(other.stdout.as_mut().unwrap()));
    vmrun(["stop", "-t", "0", &name.0]).run().succeeds();
    assert_eq!(other.wait().unwrap().code(), Some(137));
}

#[test]
fn client_of_exec_that_is_killed_leaves_no_monitor_behind() {
    let name = running("exec-killed", &[]);
    let mut child = vmrun(["exec", &name.0, "sleep", "1000"]).spawn();
    eventually("it runs", || exec(&name, &[], "ps | grep -q '[s]leep 1000$'").status() == 0);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(exec(&name, &[], "echo well").succeeds(), "well\n");
    vmrun(["rm", "-f", &name.0]).run().succeeds();
    eventually("no process is left", || processes(&["vmrun", "monitor", &name.0]).is_empty());
}
