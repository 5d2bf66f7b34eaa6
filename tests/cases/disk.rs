//! The writable disk: thin, of the size asked for, and given back.

use std::{
    fs,
    io::{BufReader, Write},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::Stdio,
};

use crate::support::{Store, finish, image, read_until, vmrun};

fn disk_of(store: &Store) -> PathBuf {
    let entries = fs::read_dir(store.path().join("containers")).unwrap().flatten();
    let mut disks =
        entries.map(|entry| entry.path().join("disk.ext4")).filter(|disk| disk.exists());
    disks.next().unwrap()
}

fn allocated(disk: &PathBuf) -> u64 {
    fs::metadata(disk).unwrap().blocks() * 512
}

#[test]
fn container_costs_little_until_it_writes() {
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    store.vmrun(["run", "--name", "thin", "busybox", "true"]).run().succeeds();
    let disk = disk_of(&store);
    assert_eq!(fs::metadata(&disk).unwrap().len(), 10 << 30);
    assert!(allocated(&disk) < 512 << 10, "{} bytes", allocated(&disk));
}

#[test]
fn deleted_files_are_given_back_to_the_host() {
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    let script = "dd if=/dev/zero of=/big bs=1M count=1024 2>/dev/null && sync && echo written \
        && read go && rm /big && sync";
    let run = store.vmrun(["run", "-i", "--name", "big", "busybox", "sh", "-c", script]);
    let mut child = run.command().stdin(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    read_until("written", &mut stdout);
    let disk = disk_of(&store);
    assert!(allocated(&disk) > 1 << 30, "{} bytes", allocated(&disk));
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    assert!(finish(child, "vmrun run").status.success());
    assert!(allocated(&disk) < 64 << 20, "{} bytes", allocated(&disk));
}

#[test]
fn size_is_settable() {
    for (size, mib) in [("300m", 300), ("1g", 1024), ("20g", 20 << 10)] {
        let script = "df -m / | tail -1 | awk '{print $2}'";
        let out =
            vmrun(["run", "--rm", "--disk-size", size, image("busybox"), "sh", "-c", script]).run();
        let seen: u64 = out.succeeds().trim().parse().unwrap();
        // The journal and tables take a part.
        assert!(seen <= mib && seen * 100 > mib * 70, "{size}: {seen} MiB");
    }
    vmrun(["run", "--disk-size", "1m", image("busybox"), "true"]).run().exits(125);
}

#[test]
fn full_disk_of_the_container_is_its_own_affair() {
    let script = "dd if=/dev/zero of=/big bs=1M 2>&1 | grep -o 'No space left on device'; rm /big; echo fine > /x; cat /x";
    let out =
        vmrun(["run", "--rm", "--disk-size", "300m", image("busybox"), "sh", "-c", script]).run();
    assert_eq!(out.succeeds(), "No space left on device\nfine\n");
}
