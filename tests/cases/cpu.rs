//! `--cpus`: parts of a CPU, by `cpu.max` where a cgroup was delegated to the user, as the test host
//! does for every command, and by throttled vCPUs where not.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::support::{
    Named, Store, binary, eventually, finish, image, processes, vm_process, vmrun,
};

const CGROUPS: &str = "/sys/fs/cgroup";

/// A guest that takes all the CPU time it gets.
const BURN: [&str; 4] = ["busybox", "sh", "-c", "while :; do :; done"];

/// The cgroup of a process.
fn group_of(pid: i32) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    PathBuf::from(format!("{CGROUPS}{}", text.trim().strip_prefix("0::").unwrap()))
}

/// The CPU time that a process has used, its threads together.
fn cpu_time(pid: i32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // User and system time, in hundredths of a second.
    Duration::from_millis(
        10 * fields[11..13].iter().map(|n| n.parse::<u64>().unwrap()).sum::<u64>(),
    )
}

/// Checks that a VM gets its half a CPU, once its guest burns.
#[track_caller]
fn gets_at_most_half(pid: i32) {
    // The start may use what was saved up.
    thread::sleep(Duration::from_secs(2));
    let (begun, before) = (Instant::now(), cpu_time(pid));
    thread::sleep(Duration::from_secs(8));
    let (passed, used) = (begun.elapsed(), cpu_time(pid) - before);
    assert!(used < passed * 55 / 100, "{used:?} of {passed:?}");
    assert!(used > passed * 5 / 100, "{used:?} of {passed:?}: it does not run");
}

#[test]
fn part_of_a_cpu_is_a_cgroup_s_cpu_max_and_goes_with_the_run() {
    let doctor = vmrun(["doctor"]).run().succeeds();
    assert!(
        doctor.contains("ok    --cpus: kept to by cpu.max of a cgroup in /sys/fs/"),
        "{doctor}"
    );
    let name = Named::new("halved");
    image("busybox");
    let run = [&["run", "-d", "--cpus", "0.5", "--name", name.0.as_str()], &BURN[..]].concat();
    let id = vmrun(run).run().succeeds();
    let id = id.trim();
    let pid = vm_process(id);
    let group = group_of(pid);
    assert!(group.ends_with(format!("vmrun-{id}")), "{}", group.display());
    assert_eq!(fs::read_to_string(group.join("cpu.max")).unwrap(), "50000 100000\n");
    gets_at_most_half(pid);
    let monitor = processes(&["vmrun monitor", id]);
    assert_ne!(group_of(monitor[0]), group, "the monitor is not slowed down");
    vmrun(["kill", &name.0]).run().succeeds();
    vmrun(["wait", &name.0]).run().succeeds();
    eventually("its cgroup is gone", || !group.exists());
    // What a killed monitor leaves is taken over, or removed by another's start.
    vmrun(["start", &name.0]).run().succeeds();
    kill(processes(&["vmrun monitor", id])[0]);
    eventually("nothing of it runs", || processes(&[id]).is_empty());
    vmrun(["run", "--rm", "--cpus", "0.5", "busybox", "true"]).run().succeeds();
    eventually("its cgroup is gone", || !group.exists());
}

/// The cgroup is root's, so the user can make none in it.
#[test]
#[ignore = "for root: scripts/test runs it apart"]
fn without_a_delegated_cgroup_vcpus_are_throttled() {
    let closed = Path::new(CGROUPS).join(format!("closed-{}", std::process::id()));
    fs::create_dir(&closed).unwrap();
    let store = Store::new();
    store.load("busybox.tar").succeeds();
    for path in [store.path().parent().unwrap(), store.path()] {
        Command::new("chmod").arg("a+rx").arg(path).status().unwrap();
    }
    Command::new("chown").args(["-R", "1000:1000"]).arg(store.path()).status().unwrap();
    let kvm = Command::new("stat").args(["-c", "%g", "/dev/kvm"]).output().unwrap();
    let kvm = String::from_utf8(kvm.stdout).unwrap();
    let as_user = |args: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 0 >\"$1/cgroup.procs\"; shift; exec \"$@\"", "-"]).arg(&closed);
        command.args(["setpriv", "--reuid=1000", "--regid=1000", "--groups", kvm.trim()]);
        command.arg(binary()).args(args).env("VMRUN_ROOT", store.path());
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
        let output = finish(command.spawn().unwrap(), &format!("{args:?}"));
        assert!(output.status.success(), "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let doctor = as_user(&["doctor"]);
    assert!(
        doctor.contains("ok    --cpus: kept to by throttling vCPU threads (no cgroup"),
        "{doctor}"
    );
    let run = [&["run", "-d", "--cpus", "0.5", "--name", "slow"], &BURN[..]].concat();
    let pid = vm_process(as_user(&run).trim());
    assert_eq!(group_of(pid), closed);
    gets_at_most_half(pid);
    as_user(&["rm", "-f", "slow"]);
    eventually("the cgroup is empty", || fs::remove_dir(&closed).is_ok());
}

fn kill(pid: i32) {
    Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
}
