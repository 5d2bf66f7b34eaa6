//! `vmrun doctor`: whether this host can run microVMs. `run` and `start` ask the same question of
//! KVM first, so that they say no in one line where they would hang.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use anyhow::Result;
use vmm::{
    confine::LandlockReport,
    probe::{self, KvmFault},
};

use super::{Host, print};
use crate::{cpu_group, error::failure, paths::Paths, size::ByteSize, vm_process::KVM};

/// Below this much room on the store's disk, images and containers soon fail.
const LITTLE_ROOM: u64 = 1 << 30;

/// One thing looked at.
struct Finding {
    what: &'static str,
    verdict: Verdict,
}

enum Verdict {
    Good(String),
    /// Works, but worse for it.
    Poor(String),
    /// Nothing runs before this is mended.
    Bad(String),
}

pub fn doctor() -> Result<u8> {
    let findings = [
        Finding { what: "KVM", verdict: kvm() },
        Finding { what: "guest", verdict: guest() },
        Finding { what: "store", verdict: store() },
        Finding { what: "Landlock", verdict: landlock() },
        Finding { what: "user namespaces", verdict: user_namespaces() },
        Finding { what: "--cpus", verdict: cpu_limits() },
    ];
    let bad = findings.iter().any(|finding| matches!(finding.verdict, Verdict::Bad(_)));
    for Finding { what, verdict } in &findings {
        let (mark, text) = match verdict {
            Verdict::Good(text) => ("ok  ", text),
            Verdict::Poor(text) => ("warn", text),
            Verdict::Bad(text) => ("FAIL", text),
        };
        print(&format!("{mark}  {what}: {text}\n"))?;
    }
    print(if bad {
        "This host cannot run microVMs as it is.\n"
    } else {
        "This host can run microVMs.\n"
    })?;
    Ok(u8::from(bad))
}

/// Tells why no microVM can run here, as an error of one line.
pub fn check_kvm() -> Result<()> {
    match probe::check_kvm_quickly(Path::new(KVM)) {
        Ok(()) => Ok(()),
        Err(fault) => Err(failure(
            crate::error::RUN_FAILED,
            format!("{}; 'vmrun doctor' tells more", advice(&fault)),
        )),
    }
}

fn kvm() -> Verdict {
    match probe::check_kvm(Path::new(KVM)) {
        Ok(report) => Verdict::Good(format!(
            "works; a guest loop of {} instructions took {:?}",
            probe::GUEST_LOOP_INSTRUCTIONS,
            report.guest_loop
        )),
        Err(fault) => Verdict::Bad(advice(&fault)),
    }
}

/// The fault, and what to do about it.
fn advice(fault: &KvmFault) -> String {
    let what = fault.to_string();
    let todo = match fault {
        KvmFault::Missing { .. } => {
            "turn on virtualisation (VT-x or AMD-V) in the firmware and load kvm_intel or kvm_amd; \
             in a virtual machine, turn on nested virtualisation"
                .to_owned()
        }
        KvmFault::NotPermitted { .. } => match group_of(Path::new(KVM)) {
            Some(group) => format!(
                "have the administrator run 'usermod -aG {group} {}' and log in again",
                user()
            ),
            None => "have the administrator let your user open it".to_owned(),
        },
        fault if fault.is_no_hardware() => {
            "use a host with VT-x or AMD-V (in a virtual machine, nested virtualisation), or \
             vmrun's software test host: scripts/test-host"
                .to_owned()
        }
        _ => "use a newer host kernel".to_owned(),
    };
    format!("{what}: {todo}")
}

fn guest() -> Verdict {
    match Paths::from_env().and_then(|paths| paths.guest()) {
        Ok(files) => {
            Verdict::Good(format!("{} and {}", files.kernel.display(), files.initramfs.display()))
        }
        Err(error) => Verdict::Bad(error.to_string()),
    }
}

fn store() -> Verdict {
    let host = match Host::open() {
        Ok(host) => host,
        Err(error) => return Verdict::Bad(format!("{error:#}")),
    };
    let path = host.paths.data();
    match rustix::fs::statvfs(path) {
        Ok(fs) => {
            let room = fs.f_bavail.saturating_mul(fs.f_frsize);
            let text = format!("{} free in {}", ByteSize(room), path.display());
            if room < LITTLE_ROOM { Verdict::Poor(text) } else { Verdict::Good(text) }
        }
        Err(errno) => Verdict::Bad(format!("cannot look at {}: {errno}", path.display())),
    }
}

fn landlock() -> Verdict {
    match vmm::confine::try_landlock() {
        Ok(report @ LandlockReport::Enforced { .. }) => Verdict::Good(report.to_string()),
        Ok(LandlockReport::Absent) => Verdict::Poor(
            "not in this kernel; the VM process is confined by seccomp alone".to_owned(),
        ),
        Err(error) => Verdict::Bad(format!("{:#}", anyhow::Error::from(error))),
    }
}

/// The VM process does not need them; what vmrun grows into will.
fn user_namespaces() -> Verdict {
    let read = |path| fs::read_to_string(path).map(|text| text.trim().to_owned());
    let off = |path| read(path).is_ok_and(|value| value == "0");
    if off("/proc/sys/user/max_user_namespaces")
        || off("/proc/sys/kernel/unprivileged_userns_clone")
    {
        return Verdict::Poor("turned off for ordinary users; vmrun does without".to_owned());
    }
    match fs::read_link("/proc/self/ns/user") {
        Ok(_) => Verdict::Good("available".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Verdict::Poor("not in this kernel; vmrun does without".to_owned())
        }
        Err(error) => Verdict::Poor(error.to_string()),
    }
}

/// How parts of a CPU are kept to.
fn cpu_limits() -> Verdict {
    match cpu_group::place() {
        Ok(place) => {
            Verdict::Good(format!("kept to by cpu.max of a cgroup in {}", place.display()))
        }
        Err(why) => Verdict::Good(format!("kept to by throttling vCPU threads ({why})")),
    }
}

fn group_of(path: &Path) -> Option<String> {
    let gid = path.metadata().ok()?.gid().to_string();
    let groups = fs::read_to_string("/etc/group").ok()?;
    let line = groups.lines().find(|line| line.split(':').nth(2) == Some(&gid))?;
    line.split(':').next().filter(|name| *name != "root").map(str::to_owned)
}

fn user() -> String {
    std::env::var("USER").unwrap_or_else(|_| rustix::process::getuid().as_raw().to_string())
}
