//! Memory that a guest does not use goes back to the host.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use crate::support::{Named, eventually, image, vm_process, vmrun};

/// MiB of memory of a process that the host has to have.
fn resident(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
}

/// A gibibyte read into the guest's page cache is the host's again soon after. The bound is 30 s on
/// a machine of its own; the test host's one core in software, which other cases share, gets 90.
#[test]
fn page_cache_of_a_gibibyte_goes_back_to_the_host() {
    let name = Named::new("reader");
    // The first run writes what the second reads from the disk: bytes, not holes.
    let script = "if [ ! -e /big ]; then dd if=/dev/urandom of=/part bs=1M count=32 2>/dev/null; \
        set -- /part /part /part /part /part /part /part /part; \
        cat $@ $@ $@ $@ >/big; exec sync; fi; \
        sleep 10; cat /big >/dev/null; echo read; exec sleep 1000";
    let run = ["run", "-m", "1536m", "--name", &name.0, image("busybox"), "sh", "-c", script];
    let begun = Instant::now();
    vmrun(run).run().exits(0);
    println!("written in {:?}", begun.elapsed());
    let size = ["ps", "-as", "--filter", &format!("name={}", name.0), "--format", "{{.Size}}"];
    let size = vmrun(size).run().succeeds();
    assert!(size.starts_with("1.1"), "{size}");
    vmrun(["start", &name.0]).run().succeeds();
    let id = vmrun(["inspect", "-f", "{{.Id}}", &name.0]).run().succeeds();
    let pid = vm_process(id.trim());
    thread::sleep(Duration::from_secs(4));
    let before = resident(pid);
    let mut most = 0;
    eventually("it has read", || {
        most = most.max(resident(pid));
        vmrun(["logs", &name.0]).run().stdout() == "read\n"
    });
    let (begun, mut now) = (Instant::now(), resident(pid));
    println!("{before} → {most} → {now} MiB");
    // A slow machine takes back what was read first while the rest is read.
    assert!(most.max(now) > before + 512, "the cache never was the guest's");
    while now > before + 64 {
        let passed = begun.elapsed();
        assert!(passed < Duration::from_secs(90), "{before} → {most} → {now} MiB in {passed:?}");
        thread::sleep(Duration::from_millis(500));
        now = resident(pid);
    }
    println!("{before} → {most} → {now} MiB in {:?}", begun.elapsed());
}
