//! Landlock: everything that the running kernel can deny, denied, with no exception.

use std::fmt;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, Ruleset,
    RulesetAttr, RulesetError, RulesetStatus, Scope,
};

/// Newest set of accesses known here; a kernel that knows fewer denies those that it knows.
const NEWEST: ABI = ABI::V9;

/// What Landlock holds in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LandlockReport {
    /// Everything of this version of the kernel's interface.
    Enforced { abi: i32 },
    /// The kernel has no Landlock, or it is switched off.
    Absent,
}

impl fmt::Display for LandlockReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Enforced { abi } => write!(f, "Landlock ABI {abi}"),
            Self::Absent => f.write_str("no Landlock on this kernel"),
        }
    }
}

/// Restricts the calling thread and those it starts from now on; sets no_new_privs in any case.
pub(super) fn deny_everything() -> Result<LandlockReport, RulesetError> {
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (
            RulesetStatus::FullyEnforced | RulesetStatus::PartiallyEnforced,
            LandlockStatus::Available { effective_abi, .. },
        ) => LandlockReport::Enforced { abi: effective_abi as i32 },
        _ => LandlockReport::Absent,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::ErrorKind;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_restricted_thread_opens_and_connects_nothing() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let LandlockReport::Enforced { abi } = deny_everything().unwrap() else {
                panic!("this kernel has no Landlock: nothing tested");
            };
            let denied =
                |error: std::io::Error| assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            denied(File::open("/etc/passwd").unwrap_err());
            denied(File::create("/tmp/vmm-landlock-test").unwrap_err());
            if abi >= 4 {
                denied(TcpStream::connect(address).unwrap_err());
            }
        })
        .join()
        .unwrap();
        assert!(File::open("/etc/passwd").is_ok(), "only that thread is restricted");
    }
}
