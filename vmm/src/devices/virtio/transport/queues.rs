//! Queues between the driver's registers and a running device: raw values first, a validated
//! [`Queue`] at activation.

use crate::GuestMemory;
use crate::devices::virtio::ActiveQueue;
use std::sync::Arc;
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;
use vmm_sys_util::eventfd::EventFd;

/// What the driver wrote to the registers of one queue, unchecked.
#[derive(Clone, Debug)]
pub(super) struct QueueSetup {
    max_size: u16,
    pub(super) size: u32,
    pub(super) ready: bool,
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
}

impl QueueSetup {
    pub(super) fn new(max_size: u16) -> Self {
        Self { max_size, size: 0, ready: false, descriptors: 0, available: 0, used: 0 }
    }

    pub(super) fn max_size(&self) -> u16 {
        self.max_size
    }

    /// The queue, if it is one that a device can run on: set up, of a size that is a power of two
    /// and not above the offered one, with aligned rings inside guest memory. Every device here
    /// needs all of its queues.
    fn validate(&self, memory: &GuestMemory, event_idx: bool) -> Option<Queue> {
        // Address 0 is guest memory, but virtio-queue takes it for a ring that was never set.
        if !self.ready || self.available == 0 {
            return None;
        }
        let mut queue = Queue::new(self.max_size).ok()?;
        queue.try_set_size(u16::try_from(self.size).ok()?).ok()?;
        queue.try_set_desc_table_address(GuestAddress(self.descriptors)).ok()?;
        queue.try_set_avail_ring_address(GuestAddress(self.available)).ok()?;
        queue.try_set_used_ring_address(GuestAddress(self.used)).ok()?;
        queue.set_event_idx(event_idx);
        queue.set_ready(true);
        queue.is_valid(memory).then_some(queue)
    }
}

/// Validates all queues of a device, each with its own kick; none if any of them is bad.
pub(super) fn activate(
    setups: &[QueueSetup],
    kicks: &[Arc<EventFd>],
    memory: &GuestMemory,
    event_idx: bool,
) -> Option<Vec<ActiveQueue>> {
    let validate = |(setup, kick): (&QueueSetup, &Arc<EventFd>)| {
        Some(ActiveQueue { queue: setup.validate(memory, event_idx)?, kick: Arc::clone(kick) })
    };
    setups.iter().zip(kicks).map(validate).collect()
}
