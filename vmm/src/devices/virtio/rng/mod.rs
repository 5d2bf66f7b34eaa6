//! The virtio entropy device (VirtIO 1.2 §5.4): random bytes of the host's kernel for the guest's.
//!
//! One queue of writable buffers, served on the device's thread. A buffer is filled up to
//! [`MAX_REQUEST`] bytes; a guest that wants more asks again, which bounds what one request costs.

#[cfg(test)]
mod tests;

use super::serve::serve;
use crate::devices::virtio::mailbox::{WorkerHandle, worker};
use crate::devices::virtio::{ActivateError, Activation, DeviceThread, ThreadKind, VirtioDevice};
use crate::virtqueue::Segments;
use rustix::rand::{GetRandomFlags, getrandom};
use virtio_bindings::virtio_ids::VIRTIO_ID_RNG;

/// Descriptors of the queue; Linux uses one buffer at a time.
pub const QUEUE_SIZE: u16 = 16;

/// Most bytes that one request gets.
pub const MAX_REQUEST: usize = 64 << 10;

/// Bytes fetched from the host's kernel at a time; up to 256 no signal interrupts the call.
const PIECE: usize = 256;

/// The entropy device.
#[derive(Debug)]
pub struct Rng {
    worker: WorkerHandle,
}

impl Rng {
    /// The device and its thread.
    #[must_use]
    pub fn new() -> (Self, DeviceThread) {
        let (handle, port) = worker();
        let fill =
            |activation, port: &_| serve(activation, port, |chain| fill(&mut chain.writable));
        let thread = DeviceThread {
            name: "rng".to_owned(),
            kind: ThreadKind::Plain,
            body: Box::new(move || port.run(fill)),
        };
        (Self { worker: handle }, thread)
    }
}

impl VirtioDevice for Rng {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_RNG
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn read_config(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        self.worker.start(activation)
    }

    fn reset(&mut self) {
        self.worker.stop();
    }
}

/// Fills the buffer, or its first [`MAX_REQUEST`] bytes, and returns how many it filled.
fn fill(buffer: &mut Segments<'_>) -> u32 {
    let wanted = buffer.len().min(MAX_REQUEST);
    let mut filled = 0;
    let mut piece = [0; PIECE];
    while filled < wanted {
        let Ok(count) = getrandom(&mut piece, GetRandomFlags::empty()) else { break };
        let random = piece.get(..count.min(wanted - filled)).unwrap_or_default();
        if random.is_empty() || buffer.write_all(random).is_err() {
            break;
        }
        filled += random.len();
    }
    u32::try_from(filled).unwrap_or_default()
}
