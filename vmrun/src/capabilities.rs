//! Capabilities by name, as `--cap-add` and `--cap-drop` have them, and what they come to.

use anyhow::{Context, Result, bail};

use crate::container::GuestSettings;

/// The kernel's, by number, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Docker's default set, a bit each.
const DEFAULT: u64 = 0xa804_25fb;

const ALL: u64 = (1 << NAMES.len()) - 1;

/// The capabilities of a container's root, a bit each.
pub fn of(settings: &GuestSettings) -> Result<u64> {
    if settings.privileged {
        return Ok(ALL);
    }
    let added = bits(&settings.cap_add).context("invalid CapAdd")?;
    let dropped = bits(&settings.cap_drop).context("invalid CapDrop")?;
    // What is dropped one by one stays dropped though all are added, and the other way round.
    Ok(match (added, dropped) {
        (ALL, dropped) => ALL & !dropped,
        (added, ALL) => added,
        (added, dropped) => (DEFAULT & !dropped) | added,
    })
}

fn bits(names: &[String]) -> Result<u64> {
    names.iter().try_fold(0, |bits, name| Ok(bits | bit(name)?))
}

fn bit(name: &str) -> Result<u64> {
    let upper = name.to_ascii_uppercase();
    if upper == "ALL" {
        return Ok(ALL);
    }
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    match NAMES.iter().position(|known| *known == short) {
        Some(number) => Ok(1 << number),
        None => bail!("unknown capability: \"CAP_{short}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(add: &[&str], drop: &[&str]) -> Result<u64> {
        let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        of(&GuestSettings { cap_add: owned(add), cap_drop: owned(drop), ..Default::default() })
    }

    #[test]
    fn capabilities_are_added_and_dropped_as_in_docker() {
        assert_eq!(chosen(&[], &[]).unwrap(), DEFAULT);
        assert_eq!(chosen(&["NET_ADMIN"], &[]).unwrap(), DEFAULT | 1 << 12);
        assert_eq!(chosen(&[], &["cap_chown"]).unwrap(), DEFAULT & !1);
        assert_eq!(chosen(&["ALL"], &["CHOWN"]).unwrap(), ALL & !1);
        assert_eq!(chosen(&["CHOWN"], &["all"]).unwrap(), 1);
        assert!(chosen(&["WINGS"], &[]).is_err());
        assert_eq!(of(&GuestSettings { privileged: true, ..Default::default() }).unwrap(), ALL);
    }
}
