//! Devices on the port and the MMIO bus of the VM.
//!
//! A device imports neither the builder, a configuration of the VM, nor KVM: it sees guest memory
//! and the narrow traits here and in [`virtio`].

pub mod legacy;
pub mod virtio;

use std::fmt::Debug;

/// A device that answers reads and writes of the guest in its window of a bus.
///
/// Both are called on vCPU threads, from several at once, with every offset and length the guest
/// chooses; what makes no sense reads as zeroes and is not written.
pub trait BusDevice: Send + Sync + Debug {
    /// Fills all of `data` with what the guest reads at `offset` bytes into the window.
    fn read(&self, offset: u64, data: &mut [u8]);

    /// Takes what the guest writes at `offset` bytes into the window.
    fn write(&self, offset: u64, data: &[u8]);
}
