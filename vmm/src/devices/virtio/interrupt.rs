//! Telling the driver: the interrupt status register and the line behind it.

use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use virtio_bindings::virtio_mmio::{VIRTIO_MMIO_INT_CONFIG, VIRTIO_MMIO_INT_VRING};

/// An edge-triggered interrupt line into the guest.
pub trait Interrupt: Send + Sync + Debug {
    /// Raises one edge. Called on device and vCPU threads.
    fn trigger(&self);
}

/// Why the line was raised, and whether the device has given up; shared by the transport and the
/// device's thread.
#[derive(Debug)]
pub struct DeviceInterrupt {
    /// Bits of the register `InterruptStatus` (VirtIO 1.2 §4.2.2).
    status: AtomicU32,
    needs_reset: AtomicBool,
    line: Arc<dyn Interrupt>,
}

impl DeviceInterrupt {
    /// Nothing pending, over `line`.
    #[must_use]
    pub fn new(line: Arc<dyn Interrupt>) -> Self {
        Self { status: AtomicU32::new(0), needs_reset: AtomicBool::new(false), line }
    }

    /// Tells the driver that chains have been completed.
    pub fn used_buffers(&self) {
        self.raise(VIRTIO_MMIO_INT_VRING);
    }

    /// The device cannot go on until the driver resets it: `DEVICE_NEEDS_RESET` is set in its
    /// status and a configuration interrupt sent (VirtIO 1.2 §2.1.2).
    pub fn needs_reset(&self) {
        self.needs_reset.store(true, Ordering::SeqCst);
        self.raise(VIRTIO_MMIO_INT_CONFIG);
    }

    pub(super) fn wants_reset(&self) -> bool {
        self.needs_reset.load(Ordering::SeqCst)
    }

    pub(super) fn pending(&self) -> u32 {
        self.status.load(Ordering::SeqCst)
    }

    pub(super) fn acknowledge(&self, bits: u32) {
        self.status.fetch_and(!bits, Ordering::SeqCst);
    }

    /// Back to the state of a device that was just made.
    pub(super) fn clear(&self) {
        self.status.store(0, Ordering::SeqCst);
        self.needs_reset.store(false, Ordering::SeqCst);
    }

    /// The bit is set before the edge: the driver that sees the edge finds its reason.
    fn raise(&self, bit: u32) {
        self.status.fetch_or(bit, Ordering::SeqCst);
        self.line.trigger();
    }
}
