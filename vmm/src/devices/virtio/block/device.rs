//! The driver-facing half: features, configuration space, start and stop.

use super::worker::Worker;
use super::{
    Backend, DISCARD_ALIGNMENT, HostEvents, MAX_DATA_SEGMENTS, MAX_RANGE_SECTORS, MAX_RANGES,
    QUEUE_SIZE, SECTOR_SIZE,
};
use crate::devices::virtio::mailbox::{WorkerHandle, worker};
use crate::devices::virtio::{
    ActivateError, Activation, DeviceThread, ThreadKind, VirtioDevice, read_config_bytes,
};
use std::sync::Arc;
use virtio_bindings::virtio_blk::{
    VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_DISCARD, VIRTIO_BLK_F_FLUSH, VIRTIO_BLK_F_RO,
    VIRTIO_BLK_F_SEG_MAX, VIRTIO_BLK_F_TOPOLOGY, VIRTIO_BLK_F_WRITE_ZEROES,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_BLOCK;

/// Bytes of the configuration space up to and with `write_zeroes_may_unmap` (VirtIO 1.2 §5.2.4).
const CONFIG_SIZE: usize = 60;

/// Bytes of a request that are best, as the topology has them: Linux reads ahead twice as many,
/// so that a file which is read in order takes few requests.
const OPTIMAL_READ: u32 = 256 << 10;

/// A block device.
#[derive(Debug)]
pub struct Block {
    features: u64,
    config: [u8; CONFIG_SIZE],
    worker: WorkerHandle,
}

impl Block {
    /// A disk over `backend`. The guest can find it by `name`, of at most 11 bytes, as its serial.
    #[must_use]
    pub fn new(
        name: &str,
        backend: Box<dyn Backend>,
        events: Arc<dyn HostEvents>,
    ) -> (Self, DeviceThread) {
        let features = 1 << VIRTIO_BLK_F_SEG_MAX
            | 1 << VIRTIO_BLK_F_BLK_SIZE
            | 1 << VIRTIO_BLK_F_TOPOLOGY
            | if backend.read_only() {
                1 << VIRTIO_BLK_F_RO
            } else {
                1 << VIRTIO_BLK_F_FLUSH | 1 << VIRTIO_BLK_F_DISCARD | 1 << VIRTIO_BLK_F_WRITE_ZEROES
            };
        let config = config_space(backend.size() / SECTOR_SIZE, backend.block_size());
        let (handle, port) = worker();
        let mut worker = Worker::new(name, backend, events);
        let thread = DeviceThread {
            name: format!("blk-{name}"),
            kind: ThreadKind::Block,
            body: Box::new(move || port.run(|activation, port| worker.serve(activation, port))),
        };
        (Self { features, config, worker: handle }, thread)
    }
}

/// The fields that the offered features make valid; the rest is zero.
fn config_space(sectors: u64, block_size: u32) -> [u8; CONFIG_SIZE] {
    let mut config = [0; CONFIG_SIZE];
    let mut put = |offset: usize, bytes: &[u8]| {
        for (to, from) in config.iter_mut().skip(offset).zip(bytes) {
            *to = *from;
        }
    };
    put(0, &sectors.to_le_bytes());
    put(12, &MAX_DATA_SEGMENTS.to_le_bytes());
    put(20, &block_size.to_le_bytes());
    put(28, &(OPTIMAL_READ / block_size).to_le_bytes());
    put(36, &MAX_RANGE_SECTORS.to_le_bytes());
    put(40, &MAX_RANGES.to_le_bytes());
    put(44, &DISCARD_ALIGNMENT.to_le_bytes());
    put(48, &MAX_RANGE_SECTORS.to_le_bytes());
    put(52, &MAX_RANGES.to_le_bytes());
    // write_zeroes_may_unmap
    put(56, &[1]);
    config
}

impl VirtioDevice for Block {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_BLOCK
    }

    fn features(&self) -> u64 {
        self.features
    }

    fn queue_sizes(&self) -> &[u16] {
        &[QUEUE_SIZE]
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_config_bytes(&self.config, offset, data);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        self.worker.start(activation)
    }

    fn reset(&mut self) {
        self.worker.stop();
    }
}
