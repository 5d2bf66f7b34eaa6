//! The virtio balloon (VirtIO 1.2 §5.5), of which only free page reporting is left (§5.5.6.7): the
//! guest tells which of its pages are free, and the host takes back what lies behind them. They
//! read as zeroes when the guest uses them again.
//!
//! The balloon itself stays empty: it never asks the guest for a page, and nothing is done about
//! pages that a driver puts into it all the same. A guest that reports what is not free harms
//! itself alone; one that reports nothing keeps the memory that it was promised.
//!
//! Known flaw: a driver that does not negotiate reporting lacks a queue that the device waits for,
//! and finds the device broken.

#[cfg(test)]
mod tests;

use super::serve::serve;
use crate::devices::virtio::mailbox::{WorkerHandle, worker};
use crate::devices::virtio::{ActivateError, Activation, DeviceThread, ThreadKind, VirtioDevice};
use crate::virtqueue::Chain;
use virtio_bindings::virtio_ids::VIRTIO_ID_BALLOON;

/// Descriptors of each queue: as many ranges as Linux reports at once, and it insists on them.
pub const QUEUE_SIZE: u16 = 32;

/// Feature bit of free page reporting.
const F_REPORTING: u32 = 5;

/// Inflate, deflate, reporting. The standard gives the last one index 4; drivers number the queues
/// that there are.
const QUEUE_SIZES: [u16; 3] = [QUEUE_SIZE; 3];

/// The balloon device.
#[derive(Debug)]
pub struct Balloon {
    worker: WorkerHandle,
}

impl Balloon {
    /// The device and its thread.
    #[must_use]
    pub fn new() -> (Self, DeviceThread) {
        let (handle, port) = worker();
        let thread = DeviceThread {
            name: "balloon".to_owned(),
            kind: ThreadKind::Plain,
            body: Box::new(move || port.run(|activation, port| serve(activation, port, take_back))),
        };
        (Self { worker: handle }, thread)
    }
}

impl VirtioDevice for Balloon {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_BALLOON
    }

    fn features(&self) -> u64 {
        1 << F_REPORTING
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    /// No pages wanted.
    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn activate(&mut self, mut activation: Activation) -> Result<(), ActivateError> {
        // Only the last one is served.
        activation.queues = activation.queues.pop().into_iter().collect();
        self.worker.start(activation)
    }

    fn reset(&mut self) {
        self.worker.stop();
    }
}

/// Takes back what a chain reports. A host that cannot leaves the pages as they are, which the
/// guest does not notice.
fn take_back(chain: &mut Chain<'_>) -> u32 {
    let _ = chain.writable.discard();
    0
}
