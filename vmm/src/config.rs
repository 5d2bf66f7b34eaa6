//! What the caller hands over to build a VM.
//!
//! Everything is already open: the VMM opens no path of its own, neither before nor after it is
//! locked in. Numbers are validated when their newtypes are made, so [`crate::Vm::build`] cannot be
//! given a VM of no vCPUs or of no memory.

use std::fs::File;
use std::num::NonZeroU64;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::devices::virtio::block::{Extent, FlushPolicy, HostEvents};
use crate::devices::virtio::vsock::VsockConfig;

/// A microVM that is to be built.
#[derive(Debug)]
pub struct VmConfig {
    /// Number of virtual CPUs.
    pub vcpus: VcpuCount,
    /// Most CPU time that the vCPUs may use; as much as they can if there is none.
    pub cpu_quota: Option<CpuQuota>,
    /// Size of guest memory.
    pub memory: MemorySize,
    /// The guest kernel: an uncompressed `vmlinux` (ELF64).
    pub kernel: File,
    /// An uncompressed cpio archive, placed into guest memory as it is.
    pub initramfs: File,
    /// Words appended to the standard kernel command line.
    pub cmdline: String,
    /// The guest's disks: `/dev/vda`, `/dev/vdb` and so on.
    pub disks: Vec<DiskConfig>,
    /// The guest's vsock device.
    pub vsock: VsockConfig,
    /// Where the guest's serial output goes, which is its panics. The descriptor is made
    /// non-blocking; what it does not take at once is dropped.
    pub serial: OwnedFd,
    /// Told when a disk of the host is full, and when it is not any more.
    pub events: Arc<dyn HostEvents>,
    /// Open descriptors that the caller keeps beside those in this structure and standard input,
    /// output and error. Any other open descriptor is a fault: see [`crate::confine`].
    pub kept_open: Vec<RawFd>,
}

/// A disk of the guest.
#[derive(Debug)]
pub enum DiskConfig {
    /// A disk assembled from pieces of files that are open for reading only.
    ReadOnly {
        /// The pieces, sorted by their start.
        extents: Vec<Extent>,
        /// Size of the disk in bytes.
        size: u64,
    },
    /// A disk in one sparse file.
    Writable {
        /// The file, open for reading and writing.
        file: File,
        /// Size of the disk in bytes.
        size: u64,
        /// What the guest's flush requests do.
        flush: FlushPolicy,
    },
}

/// Number of vCPUs of a VM, 1 to [`VcpuCount::MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VcpuCount(u8);

impl VcpuCount {
    /// Most vCPUs that a VM may have.
    pub const MAX: u8 = 8;

    /// The number itself.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for VcpuCount {
    type Error = ConfigError;

    fn try_from(count: u8) -> Result<Self, ConfigError> {
        if (1..=Self::MAX).contains(&count) {
            Ok(Self(count))
        } else {
            Err(ConfigError::VcpuCount { count })
        }
    }
}

/// CPU time that the vCPUs of a VM may use together, in billionths of a CPU: half a CPU is
/// 500,000,000. More than there are vCPUs is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CpuQuota(NonZeroU64);

impl CpuQuota {
    const CPU: u128 = 1_000_000_000;

    /// Whether this many vCPUs could use more.
    pub(crate) fn limits(self, vcpus: VcpuCount) -> bool {
        u128::from(self.0.get()) < u128::from(vcpus.get()) * Self::CPU
    }

    /// The CPU time that belongs to a time of the clock.
    pub(crate) fn share_of(self, time: Duration) -> Duration {
        scale(time, self.0.get().into(), Self::CPU)
    }

    /// The time of the clock after which this much CPU time has been earned.
    pub(crate) fn time_for(self, cpu_time: Duration) -> Duration {
        scale(cpu_time, Self::CPU, self.0.get().into())
    }
}

/// `time * numerator / denominator`, at most what a duration of nanoseconds in 64 bits holds.
fn scale(time: Duration, numerator: u128, denominator: u128) -> Duration {
    let scaled = time.as_nanos().saturating_mul(numerator) / denominator;
    Duration::from_nanos(u64::try_from(scaled).unwrap_or(u64::MAX))
}

impl TryFrom<u64> for CpuQuota {
    type Error = ConfigError;

    /// Takes billionths of a CPU.
    fn try_from(billionths: u64) -> Result<Self, ConfigError> {
        NonZeroU64::new(billionths).map(Self).ok_or(ConfigError::NoCpuTime)
    }
}

/// Size of a guest's memory, [`MemorySize::MIN_MIB`] to [`MemorySize::MAX_MIB`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemorySize {
    mib: u64,
}

impl MemorySize {
    /// Least memory in MiB. A kernel that does not fit is refused when the VM is built.
    pub const MIN_MIB: u64 = 32;
    /// Most memory in MiB (512 GiB): within the physical address width of every x86-64 KVM host.
    pub const MAX_MIB: u64 = 512 << 10;

    /// The size in MiB.
    #[must_use]
    pub fn mib(self) -> u64 {
        self.mib
    }

    /// The size in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.mib << 20
    }
}

impl TryFrom<u64> for MemorySize {
    type Error = ConfigError;

    /// Takes the size in MiB.
    fn try_from(mib: u64) -> Result<Self, ConfigError> {
        if (Self::MIN_MIB..=Self::MAX_MIB).contains(&mib) {
            Ok(Self { mib })
        } else {
            Err(ConfigError::MemorySize { mib })
        }
    }
}

/// A number that no VM can be built with.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ConfigError {
    #[error("{count} vCPUs: a VM has 1 to {}", VcpuCount::MAX)]
    VcpuCount { count: u8 },
    #[error("a VM without CPU time")]
    NoCpuTime,
    #[error("{mib} MiB of memory: a VM has {} to {} MiB", MemorySize::MIN_MIB, MemorySize::MAX_MIB)]
    MemorySize { mib: u64 },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vcpu_counts_outside_one_to_eight_are_refused() {
        assert_eq!(VcpuCount::try_from(0), Err(ConfigError::VcpuCount { count: 0 }));
        assert_eq!(VcpuCount::try_from(9), Err(ConfigError::VcpuCount { count: 9 }));
        assert_eq!(VcpuCount::try_from(1).unwrap().get(), 1);
        assert_eq!(VcpuCount::try_from(8).unwrap().get(), 8);
    }

    #[test]
    fn quotas_turn_time_into_cpu_time_and_back() {
        let quota = CpuQuota::try_from(1_500_000_000).unwrap();
        assert_eq!(quota.share_of(Duration::from_millis(100)), Duration::from_millis(150));
        assert_eq!(quota.time_for(Duration::from_millis(150)), Duration::from_millis(100));
        assert_eq!(quota.share_of(Duration::MAX), Duration::from_nanos(u64::MAX));
        assert!(quota.limits(VcpuCount::try_from(2).unwrap()));
        assert!(!quota.limits(VcpuCount::try_from(1).unwrap()));
        assert_eq!(CpuQuota::try_from(0), Err(ConfigError::NoCpuTime));
    }

    #[test]
    fn memory_sizes_out_of_range_are_refused() {
        assert!(MemorySize::try_from(MemorySize::MIN_MIB - 1).is_err());
        assert!(MemorySize::try_from(MemorySize::MAX_MIB + 1).is_err());
        assert!(MemorySize::try_from(u64::MAX).is_err());
        assert_eq!(MemorySize::try_from(64).unwrap().bytes(), 64 << 20);
    }
}
