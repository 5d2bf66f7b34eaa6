//! Whether this host can run microVMs, and if not, why.
//!
//! A `/dev/kvm` that opens is not enough: on some cloud machines (`kvm_pvm`) there is no hardware
//! virtualisation behind it. Guest code at ring 0 is then emulated, a thousand times too slowly,
//! and some of its instructions not at all: Linux does not boot there, it hangs or fails. So the
//! probe runs such an instruction and a short loop in a guest, and looks at the time that takes.
//!
//! The loop costs about a millisecond of set-up. A start of a VM therefore asks the processor
//! first, one instruction: where it has VMX or SVM the loop is not run.

mod guest_loop;

use std::io;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kvm_ioctls::{Cap, Kvm};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use thiserror::Error;

use guest_loop::LoopError;

/// Version of KVM's interface, the only one since 2007.
const API_VERSION: i32 = 12;

/// What a VM is built with.
const CAPABILITIES: [(Cap, &str); 10] = [
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::SetIdentityMapAddr, "KVM_CAP_SET_IDENTITY_MAP_ADDR"),
    (Cap::Pit2, "KVM_CAP_PIT2"),
    (Cap::ExtCpuid, "KVM_CAP_EXT_CPUID"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::Clocksource, "KVM_CAP_CLOCKSOURCE"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
];

/// A host that can run microVMs.
#[derive(Clone, Copy, Debug)]
pub struct KvmReport {
    /// Most vCPUs that KVM recommends for a VM here.
    pub recommended_vcpus: usize,
    /// How long the guest loop of [`GUEST_LOOP_INSTRUCTIONS`] took.
    pub guest_loop: Duration,
}

/// Instructions of the guest loop.
pub const GUEST_LOOP_INSTRUCTIONS: u32 = 2 * guest_loop::ITERATIONS;

/// Why this host cannot run microVMs.
#[derive(Debug, Error)]
pub enum KvmFault {
    #[error("{} does not exist: no hardware virtualisation, or its kernel module is not loaded", path.display())]
    Missing { path: PathBuf },
    #[error("{} may not be opened by this user (it belongs to group {gid})", path.display())]
    NotPermitted { path: PathBuf, gid: u32 },
    #[error("cannot open {}", path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("{} is not KVM: it answers with interface version {version}, not {API_VERSION}", path.display())]
    NotKvm { path: PathBuf, version: i32 },
    #[error("KVM of this host lacks {name}")]
    MissingCapability { name: &'static str },
    #[error(
        "no hardware virtualisation behind KVM: a guest loop of {GUEST_LOOP_INSTRUCTIONS} \
         instructions took {took:?}"
    )]
    Emulated { took: Duration },
    #[error("no working virtualisation behind KVM: a guest loop failed")]
    Broken(#[source] LoopError),
}

impl KvmFault {
    /// Whether KVM is there, but no hardware that runs guests.
    #[must_use]
    pub fn is_no_hardware(&self) -> bool {
        matches!(self, Self::Emulated { .. } | Self::Broken(_))
    }
}

/// Checks all of it, the guest loop included.
///
/// # Errors
/// The first reason why this host cannot run microVMs.
pub fn check_kvm(path: &Path) -> Result<KvmReport, KvmFault> {
    let kvm = open_kvm(path)?;
    let guest_loop = measure(&kvm)?;
    Ok(KvmReport { recommended_vcpus: kvm.get_nr_vcpus(), guest_loop })
}

/// Checks as much as a start has time for: the guest loop is run only where the processor does not
/// say that it virtualises.
///
/// # Errors
/// As [`check_kvm`].
pub fn check_kvm_quickly(path: &Path) -> Result<(), KvmFault> {
    require_hardware(&open_kvm(path)?)
}

/// Opens KVM and checks that it is one that a VM can be built with. It does not run a guest.
///
/// # Errors
/// When it is missing, not permitted, not KVM, or too old.
pub fn open_kvm(path: &Path) -> Result<Kvm, KvmFault> {
    let file = rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| open_fault(path, errno))?;
    // SAFETY: the descriptor is open and given away; that it is KVM is checked next, and no other
    // request than that for the version is made before.
    let kvm = unsafe { Kvm::from_raw_fd(file.into_raw_fd()) };
    let version = kvm.get_api_version();
    if version != API_VERSION {
        return Err(KvmFault::NotKvm { path: path.to_owned(), version });
    }
    let missing = CAPABILITIES.iter().find(|(capability, _)| !kvm.check_extension(*capability));
    missing.map_or(Ok(kvm), |(_, name)| Err(KvmFault::MissingCapability { name }))
}

fn open_fault(path: &Path, errno: Errno) -> KvmFault {
    let path = path.to_owned();
    match errno {
        Errno::NOENT | Errno::NODEV | Errno::NXIO => KvmFault::Missing { path },
        Errno::ACCESS | Errno::PERM => {
            let gid = rustix::fs::stat(&path).map_or(0, |stat| stat.st_gid);
            KvmFault::NotPermitted { path, gid }
        }
        errno => KvmFault::Open { path, source: errno.into() },
    }
}

/// Refuses a host without hardware virtualisation. Where the processor says that it has it, that is
/// believed.
pub(crate) fn require_hardware(kvm: &Kvm) -> Result<(), KvmFault> {
    if processor_virtualises() { Ok(()) } else { measure(kvm).map(drop) }
}

/// VMX (leaf 1, ECX bit 5) or SVM (leaf 0x8000_0001, ECX bit 2).
fn processor_virtualises() -> bool {
    use std::arch::x86_64::__cpuid;
    let intel = __cpuid(1).ecx & (1 << 5) != 0;
    let extended = __cpuid(0x8000_0000).eax >= 0x8000_0001;
    intel || (extended && __cpuid(0x8000_0001).ecx & (1 << 2) != 0)
}

fn measure(kvm: &Kvm) -> Result<Duration, KvmFault> {
    let took = guest_loop::fastest(kvm).map_err(KvmFault::Broken)?;
    if took > guest_loop::LIMIT { Err(KvmFault::Emulated { took }) } else { Ok(took) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_does_not_exist_is_missing() {
        let fault = open_kvm(Path::new("/nonexistent/kvm")).unwrap_err();
        assert!(matches!(fault, KvmFault::Missing { .. }), "{fault:?}");
    }

    #[test]
    fn another_device_is_not_kvm() {
        let fault = open_kvm(Path::new("/dev/null")).unwrap_err();
        assert!(matches!(fault, KvmFault::NotKvm { .. }), "{fault:?}");
    }

    #[test]
    fn a_refusal_names_the_group() {
        let fault = open_fault(Path::new("/dev/null"), Errno::ACCESS);
        assert_eq!(
            fault.to_string(),
            "/dev/null may not be opened by this user (it belongs to group 0)"
        );
    }
}
