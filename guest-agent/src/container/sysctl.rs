//! Kernel settings (`--sysctl`), written where they are shown under `/proc/sys`.

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{self, Errno, write};

/// A setting could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot set sysctl {name}={value}")]
pub(super) struct SysctlError {
    name: String,
    value: String,
    #[source]
    cause: Errno,
}

/// Makes the settings.
pub(super) fn apply(settings: &[(String, String)]) -> Result<(), SysctlError> {
    settings.iter().try_for_each(|(name, value)| {
        set(name, value).map_err(|cause| SysctlError {
            name: name.clone(),
            value: value.clone(),
            cause,
        })
    })
}

fn set(name: &str, value: &str) -> io::Result<()> {
    let file = open(path(name)?, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    write(&file, value.as_bytes()).map(drop)
}

/// Dots part the folders. With a slash anywhere it is the slashes that do, and dots are part of
/// names, as in `net/ipv4/conf/eth0.1/mtu`.
fn path(name: &str) -> io::Result<String> {
    let path = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    let outside = |part: &str| part.is_empty() || part == "." || part == "..";
    if path.split('/').any(outside) { Err(Errno::INVAL) } else { Ok(format!("/proc/sys/{path}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_files_below_proc_sys() {
        assert_eq!(path("net.core.somaxconn").unwrap(), "/proc/sys/net/core/somaxconn");
        assert_eq!(path("net/ipv4/conf/a.1/mtu").unwrap(), "/proc/sys/net/ipv4/conf/a.1/mtu");
        for bad in ["", "..", "a..b", "/etc", "a/../b", "../x"] {
            assert!(path(bad).is_err(), "{bad}");
        }
    }
}
