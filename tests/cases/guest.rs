//! What a container finds around it: its own namespaces, Docker's file systems and capabilities, and
//! neither the agent nor the disks.

use crate::support::{image, sh, vmrun};

#[test]
fn kernel_is_the_guest_s_own() {
    let out = sh("uname -r").succeeds();
    assert!(out.starts_with("6.12"), "{out}");
}

#[test]
fn file_systems_are_docker_s() {
    let out = sh("awk '{print $2, $3}' /proc/mounts").succeeds();
    for mount in [
        "/ overlay",
        "/proc proc",
        "/dev tmpfs",
        "/dev/pts devpts",
        "/sys sysfs",
        "/sys/fs/cgroup cgroup2",
        "/dev/mqueue mqueue",
        "/dev/shm tmpfs",
    ] {
        assert!(out.lines().any(|line| line == mount), "no {mount} in\n{out}");
    }
    sh("touch /sys/x 2>/dev/null || touch /sys/fs/cgroup/x 2>/dev/null || echo 1 2>/dev/null > /proc/sys/kernel/panic || exit 9").exits(9);
    let tmp = sh("stat -c %a /tmp /dev/shm; ls -l /dev/fd /dev/stdin | wc -l").succeeds();
    assert!(tmp.starts_with("1777\n1777\n"), "{tmp}");
}

#[test]
fn devices_are_docker_s_and_the_disks_are_out_of_reach() {
    let out = sh("ls /dev").succeeds();
    let devices: Vec<_> = out.split_whitespace().collect();
    assert_eq!(
        devices,
        [
            "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm", "stderr", "stdin",
            "stdout", "tty", "urandom", "zero"
        ]
    );
    // Nodes of the disks cannot be made, others not opened.
    for minor in [0, 16, 32] {
        let script = format!(
            "{{ mknod /tmp/d b 254 {minor}; mknod /tmp/e b 253 {minor}; cat /tmp/d /tmp/e; }} >/dev/null 2>/tmp/why; \
             grep -c 'not permitted' /tmp/why; cat /tmp/why >&2"
        );
        let out = sh(&script);
        assert_eq!(out.stdout(), "2\n", "{}", out.stderr());
    }
    sh("mknod /tmp/null c 1 3 && echo x > /tmp/null").succeeds();
}

#[test]
fn capabilities_are_docker_s() {
    let out = sh("grep Cap /proc/self/status; grep NoNewPrivs /proc/self/status").succeeds();
    let value = |name: &str| {
        let line = out.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    };
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(value(set), "00000000a80425fb");
    }
    assert_eq!(value("CapInh"), "0000000000000000");
    assert_eq!(value("CapAmb"), "0000000000000000");
    assert_eq!(value("NoNewPrivs"), "0");
    let user = vmrun([
        "run",
        "--rm",
        "-u",
        "1000",
        image("busybox"),
        "grep",
        "CapEff",
        "/proc/self/status",
    ])
    .run();
    assert!(user.succeeds().contains("0000000000000000"));
}

#[test]
fn neither_agent_nor_host_processes_are_seen() {
    let out = sh("ls /proc | grep -c '^[0-9]'; ls /init /agent 2>/dev/null; true").succeeds();
    let seen: u32 = out.lines().next().unwrap().parse().unwrap();
    assert!(seen <= 4, "{out}");
    assert_eq!(out.lines().count(), 1, "{out}");
}

#[test]
fn mounting_and_modules_are_refused() {
    sh("mount -t tmpfs none /mnt 2>/dev/null && exit 1; reboot -f 2>/dev/null && exit 1; true")
        .succeeds();
}

#[test]
fn loopback_is_up_and_there_is_no_other_network() {
    let out = sh("ip -o link | wc -l; ip -o addr show lo | grep -c 'inet6\\? '").succeeds();
    assert_eq!(out, "1\n2\n");
}

#[test]
fn root_disk_is_shared_and_read_only() {
    // A file of the image can be changed by the container: that is a copy on its own disk.
    let out = sh("echo changed > /etc/passwd && cat /etc/passwd").succeeds();
    assert_eq!(out, "changed\n");
    assert!(sh("cat /etc/passwd").succeeds().contains("root"));
}

#[test]
fn limits_are_docker_s() {
    let out = sh("ulimit -n; ulimit -u; umask").succeeds();
    assert_eq!(out, "1048576\nunlimited\n0022\n");
}

#[test]
fn randomness_and_time_are_there_from_the_start() {
    let script = "head -c 16 /dev/random | wc -c; date +%s";
    let out = sh(script).succeeds();
    let (count, seconds) = out.split_once('\n').unwrap();
    assert_eq!(count, "16");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let seen: u64 = seconds.trim().parse().unwrap();
    assert!(seen.abs_diff(now) < 120, "{seen} is not {now}");
}

#[test]
fn kernel_has_what_containers_need() {
    let script = "cat /proc/filesystems; cat /sys/fs/cgroup/cgroup.controllers; ls /proc/self/ns; ls /proc/sys/fs/mqueue /proc/sysvipc; cat /proc/net/protocols";
    let out = sh(script).succeeds();
    for word in [
        "overlay", "erofs", "ext4", "tmpfs", "mqueue", "cpu", "memory", "pids", "io", "user",
        "time", "cgroup", "shm", "TCPv6", "UDPv6", "TCP", "UDP", "UNIX",
    ] {
        assert!(out.split_whitespace().any(|seen| seen == word), "no {word} in\n{out}");
    }
}
