//! The VM process is locked in: what it may do, and what it holds.

use std::{env, fs, path::PathBuf, process::Command};

use crate::support::{Named, binary, image, vm_process, vmrun};

/// The VM process of a container that sleeps.
fn vm_of(name: &Named) -> i32 {
    let run = ["run", "-d", "--name", &name.0, image("busybox"), "sleep", "1000"];
    vm_process(vmrun(run).run().succeeds().trim())
}

#[test]
fn every_thread_of_the_vm_process_is_locked_in() {
    let name = Named::new("locked");
    let pid = vm_of(&name);
    let mut threads = 0;
    // The process is not dumpable, so its folders are root's; its status is for all to read.
    for task in fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        assert!(status.contains("Seccomp:\t2"), "{status}");
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        threads += 1;
    }
    assert!(threads >= 5, "{threads} threads");
}

/// The process is not dumpable, so only root can look.
#[test]
#[ignore = "for root: scripts/test runs it apart"]
fn vm_process_holds_only_the_descriptors_it_needs() {
    let name = Named::new("held");
    let pid = vm_of(&name);
    let mut files = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten() {
        let target = fs::read_link(entry.path()).unwrap().to_str().unwrap().to_owned();
        let number = entry.file_name().into_string().unwrap();
        let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")).unwrap();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap();
        let writable = u32::from_str_radix(flags.trim(), 8).unwrap() & 3 != 0;
        let (kind, rest) = target.split_once(':').unwrap_or((&target, ""));
        match (kind, rest) {
            ("socket" | "pipe", _) => {}
            ("anon_inode", "kvm-vm" | "kvm-vcpu:0" | "[eventfd]" | "[eventpoll]") => {}
            _ => files.push((target.rsplit('/').next().unwrap().to_owned(), writable)),
        }
    }
    files.sort();
    let expected =
        [("blob", false), ("disk.ext4", true), ("metadata.erofs", false), ("null", false)];
    assert_eq!(files, expected.map(|(name, writable)| (name.to_owned(), writable)));
}

/// The VMM's own examples, which need KVM; each says what it saw.
#[track_caller]
fn example(name: &str, arguments: &[PathBuf]) {
    let folder = PathBuf::from(env::var_os("EXAMPLES").expect("EXAMPLES names vmm's examples"));
    let output = Command::new(folder.join(name)).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn locked_vmm_that_opens_connects_or_executes_is_killed() {
    let kernel = binary().parent().unwrap().join("../lib/vmrun/vmlinux");
    example("locked_in", &[kernel]);
}

#[test]
fn guest_that_fails_ends_its_vm_with_the_cause() {
    example("faults", &[]);
}

#[test]
fn paused_guest_stands_still_costs_nothing_and_goes_on() {
    example("pauses", &[]);
}
