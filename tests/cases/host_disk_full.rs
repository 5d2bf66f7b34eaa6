//! A host's disk that is full: a named error, a store that works, a container that waits.
//!
//! Each case has a small file system of its own, `$SMALL-NAME`, which `scripts/test` mounts.

use std::{env, fs, io::BufReader};

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
