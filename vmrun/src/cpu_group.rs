//! `cpu.max` for one VM: a cgroup of its own below one that was delegated to the user, as systemd or
//! a container engine delegate them. Everything the VM process does counts, the devices' threads
//! too, which the throttle of the vCPUs (`vmm`) does not see.
//!
//! The place is looked for upwards from the monitor's own cgroup: the nearest above it that is the
//! user's to change and hands the `cpu` controller on. Nobody's settings are changed for it. Where
//! there is none, the throttle alone bounds the VM; it is at work either way, since a service
//! manager may take the controller back at any time. So no failure here breaks a run.
//!
//! What a killed monitor leaves is an empty cgroup; the next VM with a limit in the same place
//! removes it.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::fs::{Access, access};

/// Where the unified hierarchy is mounted.
const MOUNT: &str = "/sys/fs/cgroup";

/// What the folders of VMs are called, before the container's id.
const PREFIX: &str = "vmrun-";

/// Bounds of the kernel, in microseconds: the period, and the least CPU time of one.
const PERIOD: u64 = 100_000;
const LONGEST_PERIOD: u64 = 1_000_000;
const LEAST: u64 = 1_000;

/// How often, every millisecond, a cgroup is tried to be removed whose last process has just ended.
const REMOVALS: u32 = 50;

/// The cgroup of one VM; dropping it removes it, which takes that its process is gone.
#[derive(Debug)]
pub struct CpuGroup(PathBuf);

impl CpuGroup {
    /// Makes the cgroup of a container's VM, with this limit in billionths of a CPU.
    pub fn make(id: &str, nano_cpus: u64) -> io::Result<Self> {
        Self::make_in(&place()?, id, nano_cpus)
    }

    fn make_in(place: &Path, id: &str, nano_cpus: u64) -> io::Result<Self> {
        sweep(place);
        let folder = place.join(format!("{PREFIX}{id}"));
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let group = Self(folder);
        set(&group.0.join("cpu.max"), &cpu_max(nano_cpus))?;
        Ok(group)
    }

    /// Puts a process into it.
    pub fn admit(&self, pid: u32) -> io::Result<()> {
        set(&self.0.join("cgroup.procs"), &pid.to_string())
    }
}

impl Drop for CpuGroup {
    fn drop(&mut self) {
        for _ in 0..REMOVALS {
            match fs::remove_dir(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                    thread::sleep(Duration::from_millis(1));
                }
                _ => return,
            }
        }
    }
}

/// The cgroup in which those of VMs can be made, or why there is none.
pub fn place() -> io::Result<PathBuf> {
    let own = own_group(&fs::read_to_string("/proc/self/cgroup")?)?;
    nearest(Path::new(MOUNT), &own)
}

/// The cgroup that `/proc/self/cgroup` tells of, relative to the mount.
fn own_group(text: &str) -> io::Result<PathBuf> {
    let unsupported = |why| io::Error::new(io::ErrorKind::Unsupported, why);
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = PathBuf::from(path.ok_or_else(|| unsupported("there is no cgroup v2"))?);
    // One that lies outside of this namespace's root has `..` in it.
    if path.components().all(|part| matches!(part, Component::Normal(_))) {
        Ok(path)
    } else {
        Err(unsupported("this process's cgroup is not below the mounted one"))
    }
}

fn nearest(mount: &Path, own: &Path) -> io::Result<PathBuf> {
    let places = own.ancestors().map(|path| mount.join(path));
    // Who may not move a process out of a cgroup may not do so further up either.
    let mut open = places.take_while(|place| {
        let writable = |path: &Path| access(path, Access::WRITE_OK).is_ok();
        writable(place) && writable(&place.join("cgroup.procs"))
    });
    let hands_on = |place: &PathBuf| {
        let controllers = fs::read_to_string(place.join("cgroup.subtree_control"));
        controllers.is_ok_and(|list| list.split_ascii_whitespace().any(|name| name == "cpu"))
    };
    open.find(hands_on).ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, "no cgroup with the cpu controller is delegated")
    })
}

/// Removes what killed monitors left. The kernel keeps one that is in use; a VM that was about to
/// join one has the throttle.
fn sweep(place: &Path) {
    for entry in fs::read_dir(place).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// The text of `cpu.max`: CPU time, and the period it is for, in microseconds.
fn cpu_max(nano_cpus: u64) -> String {
    let share = |period: u64| {
        let time = u128::from(nano_cpus) * u128::from(period) / 1_000_000_000;
        u64::try_from(time).unwrap_or(u64::MAX)
    };
    // Small shares need a long period.
    let period = if share(PERIOD) < LEAST { LONGEST_PERIOD } else { PERIOD };
    format!("{} {period}", share(period).max(LEAST))
}

/// Writes a file of the kernel's, which is there or is not.
fn set(path: &Path, value: &str) -> io::Result<()> {
    let mut options = fs::File::options();
    io::Write::write_all(&mut options.write(true).open(path)?, value.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree as cgroup2 shows it: each folder with its `cgroup.subtree_control`.
    fn tree(folders: &[(&str, &str)]) -> tempfile::TempDir {
        let mount = tempfile::tempdir().unwrap();
        for (path, controllers) in folders {
            let folder = mount.path().join(path);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("cgroup.subtree_control"), controllers).unwrap();
            fs::write(folder.join("cgroup.procs"), "").unwrap();
        }
        mount
    }

    #[test]
    fn quota_is_for_a_period_that_the_kernel_takes() {
        assert_eq!(cpu_max(500_000_000), "50000 100000");
        assert_eq!(cpu_max(1_500_000_000), "150000 100000");
        assert_eq!(cpu_max(10_000_000), "1000 100000");
        assert_eq!(cpu_max(2_000_000), "2000 1000000");
        assert_eq!(cpu_max(1), "1000 1000000");
    }

    #[test]
    fn own_group_is_read_from_the_unified_hierarchy_alone() {
        let of = |text| own_group(text).map(|path| path.display().to_string());
        assert_eq!(of("4:cpu:/old\n0::/user.slice/a.scope\n").unwrap(), "user.slice/a.scope");
        assert_eq!(of("0::/\n").unwrap(), "");
        assert!(of("4:cpu:/old\n").is_err());
        assert!(of("0::/../elsewhere\n").is_err());
    }

    #[test]
    fn nearest_that_hands_the_controller_on_is_the_place() {
        let mount = tree(&[("", "cpu"), ("a", "cpuset cpu"), ("a/b", "memory"), ("a/b/c", "")]);
        let found = nearest(mount.path(), Path::new("a/b/c")).unwrap();
        assert_eq!(found, mount.path().join("a"));
    }

    #[test]
    fn without_the_controller_or_the_right_to_move_there_is_none() {
        let mount = tree(&[("", "memory"), ("a", "memory"), ("a/b", "")]);
        assert!(nearest(mount.path(), Path::new("a/b")).is_err());
        let mount = tree(&[("", "cpu"), ("a", "cpu"), ("a/b", "")]);
        // Not there to be written, whoever runs the test.
        fs::remove_file(mount.path().join("a/b/cgroup.procs")).unwrap();
        assert!(nearest(mount.path(), Path::new("a/b")).is_err());
    }

    #[test]
    fn what_killed_monitors_left_goes_and_the_rest_stays() {
        let place = tempfile::tempdir().unwrap();
        for name in ["vmrun-left", "vmrun-used/process", "other"] {
            fs::create_dir_all(place.path().join(name)).unwrap();
        }
        // No file of the kernel's is in it, so it cannot be made; what was begun is gone.
        assert!(CpuGroup::make_in(place.path(), "new", 500_000_000).is_err());
        let mut left: Vec<_> =
            fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["other", "vmrun-used"]);
    }
}
