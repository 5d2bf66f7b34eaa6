//! The register file: which register reads and writes what, in which status.
//!
//! The driver chooses features after `DRIVER` and before `FEATURES_OK`, and sets queues up between
//! `FEATURES_OK` and `DRIVER_OK` (VirtIO 1.2 §3.1.1). At any other time these registers ignore
//! writes; above all, nothing about a queue changes while the device uses it.

use super::queues::QueueSetup;
use super::status::Status;
use super::{Half, Inner, MmioTransport};
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_CONFIG_GENERATION, VIRTIO_MMIO_DEVICE_FEATURES, VIRTIO_MMIO_DEVICE_FEATURES_SEL,
    VIRTIO_MMIO_DEVICE_ID, VIRTIO_MMIO_DRIVER_FEATURES, VIRTIO_MMIO_DRIVER_FEATURES_SEL,
    VIRTIO_MMIO_MAGIC_VALUE, VIRTIO_MMIO_QUEUE_AVAIL_HIGH, VIRTIO_MMIO_QUEUE_AVAIL_LOW,
    VIRTIO_MMIO_QUEUE_DESC_HIGH, VIRTIO_MMIO_QUEUE_DESC_LOW, VIRTIO_MMIO_QUEUE_NUM,
    VIRTIO_MMIO_QUEUE_NUM_MAX, VIRTIO_MMIO_QUEUE_READY, VIRTIO_MMIO_QUEUE_SEL,
    VIRTIO_MMIO_QUEUE_USED_HIGH, VIRTIO_MMIO_QUEUE_USED_LOW, VIRTIO_MMIO_SHM_BASE_HIGH,
    VIRTIO_MMIO_SHM_BASE_LOW, VIRTIO_MMIO_SHM_LEN_HIGH, VIRTIO_MMIO_SHM_LEN_LOW,
    VIRTIO_MMIO_STATUS, VIRTIO_MMIO_VENDOR_ID, VIRTIO_MMIO_VERSION,
};

/// "virt", little endian.
const MAGIC: u32 = u32::from_le_bytes(*b"virt");

/// Not a legacy device.
const VERSION: u32 = 2;

const VENDOR: u32 = u32::from_le_bytes(*b"vmrn");

/// No configuration space changes while a device exists.
const CONFIG_GENERATION: u32 = 0;

/// Length and base of a shared memory region that does not exist (VirtIO 1.2 §4.2.2).
const NO_SHARED_MEMORY: u32 = u32::MAX;

impl MmioTransport {
    pub(super) fn read_register(&self, inner: &Inner, register: u32) -> u32 {
        match register {
            VIRTIO_MMIO_MAGIC_VALUE => MAGIC,
            VIRTIO_MMIO_VERSION => VERSION,
            VIRTIO_MMIO_DEVICE_ID => self.device_id,
            VIRTIO_MMIO_VENDOR_ID => VENDOR,
            VIRTIO_MMIO_DEVICE_FEATURES => inner.device_features_half.of(self.offered),
            VIRTIO_MMIO_QUEUE_NUM_MAX => {
                inner.selected().map_or(0, |queue| u32::from(queue.max_size()))
            }
            VIRTIO_MMIO_QUEUE_READY => inner.selected().map_or(0, |queue| u32::from(queue.ready)),
            VIRTIO_MMIO_STATUS => self.status(inner),
            VIRTIO_MMIO_CONFIG_GENERATION => CONFIG_GENERATION,
            VIRTIO_MMIO_SHM_LEN_LOW
            | VIRTIO_MMIO_SHM_LEN_HIGH
            | VIRTIO_MMIO_SHM_BASE_LOW
            | VIRTIO_MMIO_SHM_BASE_HIGH => NO_SHARED_MEMORY,
            _ => 0,
        }
    }

    pub(super) fn write_register(&self, inner: &mut Inner, register: u32, value: u32) {
        match register {
            VIRTIO_MMIO_STATUS => self.write_status(inner, value),
            VIRTIO_MMIO_DEVICE_FEATURES_SEL => inner.device_features_half = value.into(),
            VIRTIO_MMIO_DRIVER_FEATURES_SEL => inner.driver_features_half = value.into(),
            VIRTIO_MMIO_QUEUE_SEL => {
                inner.selected_queue = usize::try_from(value).unwrap_or(usize::MAX);
            }
            VIRTIO_MMIO_DRIVER_FEATURES if inner.status == Status::Driver => {
                inner.driver_features_half.set(&mut inner.driver_features, value);
            }
            _ if inner.status == Status::Negotiated => inner.write_queue(register, value),
            _ => {}
        }
    }
}

impl Inner {
    fn selected(&self) -> Option<&QueueSetup> {
        self.queues.get(self.selected_queue)
    }

    /// A write to one of the registers of the selected queue.
    fn write_queue(&mut self, register: u32, value: u32) {
        let Some(queue) = self.queues.get_mut(self.selected_queue) else { return };
        if register == VIRTIO_MMIO_QUEUE_READY {
            queue.ready = value == 1;
            return;
        }
        if queue.ready {
            return;
        }
        match register {
            VIRTIO_MMIO_QUEUE_NUM => queue.size = value,
            VIRTIO_MMIO_QUEUE_DESC_LOW => Half::Low.set(&mut queue.descriptors, value),
            VIRTIO_MMIO_QUEUE_DESC_HIGH => Half::High.set(&mut queue.descriptors, value),
            VIRTIO_MMIO_QUEUE_AVAIL_LOW => Half::Low.set(&mut queue.available, value),
            VIRTIO_MMIO_QUEUE_AVAIL_HIGH => Half::High.set(&mut queue.available, value),
            VIRTIO_MMIO_QUEUE_USED_LOW => Half::Low.set(&mut queue.used, value),
            VIRTIO_MMIO_QUEUE_USED_HIGH => Half::High.set(&mut queue.used, value),
            _ => {}
        }
    }
}

impl Half {
    /// This half of `value`.
    fn of(self, value: u64) -> u32 {
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        match self {
            Self::Low => u32::from_le_bytes([a, b, c, d]),
            Self::High => u32::from_le_bytes([e, f, g, h]),
            Self::Beyond => 0,
        }
    }

    /// Replaces this half of `target`. A bit beyond 63 cannot be held, and was never offered.
    fn set(self, target: &mut u64, value: u32) {
        let (low, high) = (Self::Low.of(*target), Self::High.of(*target));
        *target = match self {
            Self::Low => u64::from(high) << 32 | u64::from(value),
            Self::High => u64::from(value) << 32 | u64::from(low),
            Self::Beyond => return,
        };
    }
}
