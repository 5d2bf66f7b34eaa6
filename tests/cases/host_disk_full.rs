//! A host's disk that is full: a named error, a store that works, a container that waits.
//!
//! Each case has a small file system of its own, `$SMALL-NAME`, which `scripts/test` mounts.

use std::{
    env, fs,
    io::{BufRead, BufReader, Write},
    process::Stdio,
    thread,
};

use crate::support::{Store, finish, read_until};

fn small(name: &str) -> Store {
    let path = format!("{}-{name}", env::var("SMALL").expect("SMALL names small file systems"));
    let store = Store::on(path.as_ref());
    store.load("busybox.tar").succeeds();
    store
}

#[test]
fn load_onto_a_full_disk_is_refused_and_the_store_stays_usable() {
    let store = small("load");
    store.load("debian.tar").fails(1, &["cannot write", "No space left on device"]);
    let out = store.vmrun(["images", "-q"]).run().succeeds();
    assert_eq!(out.lines().count(), 1, "{out}");
    store.load("attrs.tar").fails(1, &["No space left on device"]);
    store.vmrun(["run", "--rm", "busybox", "true"]).run().succeeds();
}

#[test]
fn container_waits_for_room_and_goes_on() {
    let store = small("run");
    let filler = store.path().join("filler");
    fs::write(&filler, vec![1; 40 << 20]).unwrap();
    // More than there is room for, with the journal's own writes under way.
    let script = "dd if=/dev/zero of=/big bs=1M count=30 2>/dev/null; sync; wc -c /big; \
        touch /after; sync; echo safe";
    let mut child = store.vmrun(["run", "--name", "waits", "busybox", "sh", "-c", script]).spawn();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    read_until("the host's disk is full: the container waits for room", &mut stderr);
    fs::remove_file(&filler).unwrap();
    read_until("the container goes on", &mut stderr);
    let output = finish(child, "vmrun run");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "31457280 /big\nsafe\n");
    assert!(output.status.success());
    store.vmrun(["start", "-a", "waits"]).run().succeeds();
}

/// What a container prints and where it is kept share a disk that is full: the container goes on,
/// and is told of once; what was kept before and after is shown, in whole lines.
#[test]
fn log_that_fills_the_disk_stops_no_container() {
    let store = small("log");
    let filler = store.path().join("filler");
    fs::write(&filler, vec![1; 40 << 20]).unwrap();
    let script = "awk 'BEGIN { for (i = 1; i <= 40000; i++) printf \"%d %01000d\\n\", i, 0 }'; \
        echo printed >&2; read go; echo again; sleep 1000";
    let run = store.vmrun(["run", "-i", "--name", "talks", "busybox", "sh", "-c", script]);
    let mut child = run.command().stdin(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let reader = thread::spawn(move || {
        let lines = (&mut stdout).lines().take(LINES).map(Result::unwrap);
        let numbers: Vec<usize> = lines.map(|line| number_of(&line)).collect();
        (stdout, numbers)
    });
    let told = read_until("printed", &mut stderr);
    let (mut stdout, numbers) = reader.join().unwrap();
    assert!(numbers.into_iter().eq(1..=LINES), "the attached client has it all");
    let lost: Vec<_> = told.lines().filter(|line| line.contains("is not kept")).collect();
    assert!(lost.len() == 1 && lost[0].contains("No space left on device"), "{told}");
    assert_eq!(store.vmrun(["ps", "--format", "{{.State}}"]).run().succeeds(), "running\n");
    assert_eq!(store.vmrun(["exec", "talks", "echo", "fine"]).run().succeeds(), "fine\n");
    fs::remove_file(&filler).unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    read_until("again", &mut stdout);
    let kept = store.vmrun(["logs", "talks"]).run().exits(0).stdout();
    let mut lines: Vec<_> = kept.lines().collect();
    assert_eq!(lines.pop(), Some("again"), "there is room again");
    let numbers: Vec<_> = lines.iter().map(|line| number_of(line)).collect();
    assert!((5000..LINES).contains(&numbers.len()), "{} lines", numbers.len());
    assert!(
        numbers.is_sorted_by(|one, next| one < next)
            && numbers[..5000].iter().copied().eq(1..=5000)
    );
    store.vmrun(["kill", "talks"]).run().succeeds();
    assert_eq!(finish(child, "vmrun run").status.code(), Some(137));
}

/// Lines that the container prints, of 1,000 bytes and more: twice what there is room for.
const LINES: usize = 40_000;

/// The number of a line that is whole.
fn number_of(line: &str) -> usize {
    let (number, zeros) = line.split_once(' ').unwrap();
    assert!(zeros.len() == 1000 && zeros.bytes().all(|byte| byte == b'0'), "line {number}");
    number.parse().unwrap()
}
