//! A microVM on KVM: guest memory, vCPUs, a direct Linux boot and virtio-mmio devices.
//!
//! The crate knows nothing of containers or images. Its caller opens every file and socket the VM
//! will ever need, hands them over in a [`VmConfig`], and gets a [`Vm`] whose [`Vm::run`] locks
//! the whole process in (seccomp, Landlock, limits) before the first instruction of the guest runs.
//! So a process runs one VM, once, and exits when [`Vm::run`] returns.

mod arch;
mod boot;
mod brake;
mod builder;
mod bus;
mod config;
pub mod confine;
mod control;
pub mod devices;
mod ending;
mod exit;
mod interrupt;
mod layout;
mod memory;
pub mod probe;
mod throttle;
mod vcpu;
pub mod virtqueue;
mod vm;

pub use arch::x86_64::vcpu_state::VcpuStateError;
pub use boot::{BootError, CmdlineError, KernelError};
pub use builder::{BuildError, KvmStepError};
pub use bus::BusError;
pub use config::{ConfigError, CpuQuota, DiskConfig, MemorySize, VcpuCount, VmConfig};
pub use control::{ControlError, Controller, Orders};
pub use exit::VmExit;
pub use layout::MAX_VIRTIO_DEVICES;
pub use memory::{GuestMemory, MemoryError};
pub use vm::{LockedVm, RunError, Vm};
