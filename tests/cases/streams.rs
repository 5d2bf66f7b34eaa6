//! Standard streams: apart, binary-clean, to their end.

use std::{
    fs::File,
    io::{Read, Write},
    process::Stdio,
};

use crate::support::{Named, eventually, finish, image, sh, vmrun};

#[test]
fn stdout_and_stderr_are_apart() {
    let out = sh("echo out; echo err >&2").exits(0);
    assert_eq!((out.stdout().as_str(), out.stderr().as_str()), ("out\n", "err\n"));
}

#[test]
fn stdin_reaches_the_command_with_its_end() {
    let out = vmrun(["run", "-i", "--rm", image("busybox"), "cat"]).input("a\nb").run().succeeds();
    assert_eq!(out, "a\nb");
}

#[test]
fn without_i_stdin_is_empty() {
    let out = vmrun(["run", "--rm", image("busybox"), "cat"]).input("not for you").run().succeeds();
    assert_eq!(out, "");
}

#[test]
fn hundred_megabytes_pass_byte_for_byte() {
    // Not compressible, and no two blocks alike.
    let mut block = vec![0; 1 << 20];
    File::open("/dev/urandom").unwrap().read_exact(&mut block).unwrap();
    let mut bytes = Vec::new();
    for number in 0..100_u64 {
        bytes.extend(number.to_le_bytes());
        bytes.extend(&block);
    }
    let out =
        vmrun(["run", "-i", "--rm", image("busybox"), "cat"]).input(bytes.clone()).run().exits(0);
    assert_eq!(out.output.stdout.len(), bytes.len());
    assert!(out.output.stdout == bytes, "the bytes differ");
}

#[test]
fn output_after_the_last_newline_and_before_exit_is_kept() {
    for _ in 0..5 {
        let out = sh("head -c 300000 /dev/zero; printf end").exits(0);
        assert_eq!(out.output.stdout.len(), 300_003);
    }
}

#[test]
fn closed_stdout_ends_the_command_as_in_a_pipe() {
    let mut child = vmrun(["run", "--rm", image("busybox"), "yes"]).spawn();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 100]).unwrap();
    drop(stdout);
    assert!(!finish(child, "vmrun … yes").status.success());
}

#[test]
fn stuck_reader_of_one_stream_holds_up_no_other() {
    let mut child = vmrun([
        "run",
        "--rm",
        image("busybox"),
        "sh",
        "-c",
        "yes & sleep 1; echo through >&2; exit 9",
    ])
    .command()
    .stdin(Stdio::null())
    .spawn()
    .unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let mut line = [0; 8];
    stderr.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"through\n");
    // Now the other is read, too.
    let mut rest = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));
}

#[test]
fn exit_is_on_record_while_the_output_is_unread() {
    let name = Named::new("unread");
    let child =
        vmrun(["run", "--name", &name.0, image("busybox"), "sh", "-c", "yes & sleep 1; exit 9"])
            .command()
            .spawn()
            .unwrap();
    eventually("exited in ps", || {
        vmrun(["ps", "-a"])
            .run()
            .stdout()
            .lines()
            .any(|line| line.contains(&name.0) && line.contains("Exited (9)"))
    });
    finish(child, "vmrun … yes");
}

#[test]
fn conversation_goes_back_and_forth() {
    let mut child = vmrun(["run", "-i", "--rm", image("busybox"), "sh"])
        .command()
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    for number in 0..20 {
        writeln!(stdin, "echo $(({number}+1))").unwrap();
        let expected = format!("{}\n", number + 1);
        let mut answer = vec![0; expected.len()];
        stdout.read_exact(&mut answer).unwrap();
        assert_eq!(answer, expected.as_bytes());
    }
    drop(stdin);
    assert!(finish(child, "vmrun … sh").status.success());
}
