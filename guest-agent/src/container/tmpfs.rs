//! File systems in memory (`--tmpfs`), mounted in the container's root.

use std::ffi::CString;

use agent_protocol::Tmpfs;
use rustix::fs::{Mode, chmod, stat};
use rustix::io::{self, Errno};
use rustix::mount::{MountFlags, mount};

use super::paths::make_directories;
use super::rootfs::RootfsError;

/// Words of `mount` that are flags, not options of the file system: what each sets or takes away.
const FLAGS: &[(&str, MountFlags, bool)] = &[
    ("ro", MountFlags::RDONLY, true),
    ("rw", MountFlags::RDONLY, false),
    ("nosuid", MountFlags::NOSUID, true),
    ("suid", MountFlags::NOSUID, false),
    ("nodev", MountFlags::NODEV, true),
    ("dev", MountFlags::NODEV, false),
    ("noexec", MountFlags::NOEXEC, true),
    ("exec", MountFlags::NOEXEC, false),
    ("sync", MountFlags::SYNCHRONOUS, true),
    ("async", MountFlags::SYNCHRONOUS, false),
    ("noatime", MountFlags::NOATIME, true),
    ("atime", MountFlags::NOATIME, false),
    ("nodiratime", MountFlags::NODIRATIME, true),
    ("diratime", MountFlags::NODIRATIME, false),
    ("relatime", MountFlags::RELATIME, true),
    ("strictatime", MountFlags::STRICTATIME, true),
    ("defaults", MountFlags::empty(), true),
];

/// What Docker starts with.
const DEFAULT: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Mounts one. A folder that is there gives it its mode, as in Docker.
pub(super) fn mount_one(tmpfs: &Tmpfs) -> Result<(), RootfsError> {
    let shown = || String::from_utf8_lossy(&tmpfs.target).into_owned();
    let failed = |cause| RootfsError::Mount { target: shown(), cause };
    let mode = stat(&*tmpfs.target).ok().map(|found| Mode::from_raw_mode(found.st_mode & 0o7777));
    make_directories(&tmpfs.target).map_err(|cause| RootfsError::Make { path: shown(), cause })?;
    let (flags, data) = parse(&tmpfs.options).map_err(failed)?;
    mount(c"tmpfs", &*tmpfs.target, c"tmpfs", flags, data.as_c_str()).map_err(failed)?;
    match mode {
        Some(mode) => chmod(&*tmpfs.target, mode).map_err(failed),
        None => Ok(()),
    }
}

/// Flags, and what is left for the file system itself.
fn parse(options: &str) -> io::Result<(MountFlags, CString)> {
    let mut flags = DEFAULT;
    let mut rest = Vec::new();
    for word in options.split(',').filter(|word| !word.is_empty()) {
        match FLAGS.iter().find(|(name, _, _)| *name == word) {
            Some((_, flag, true)) => flags |= *flag,
            Some((_, flag, false)) => flags -= *flag,
            None => rest.push(word),
        }
    }
    let data = CString::new(rest.join(",")).map_err(|_| Errno::INVAL)?;
    Ok((flags, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_flags_or_options_of_the_file_system() {
        let (flags, data) = parse("size=64m,exec,ro,mode=1777").unwrap();
        assert_eq!(flags, MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY);
        assert_eq!(data.as_c_str(), c"size=64m,mode=1777");
        assert_eq!(parse("").unwrap(), (DEFAULT, CString::default()));
        assert!(parse("mode=1\0").is_err());
    }
}
