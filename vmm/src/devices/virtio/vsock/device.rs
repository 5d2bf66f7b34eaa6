//! The driver-facing half: configuration space, start and stop.

use super::table::Table;
use super::worker::Worker;
use super::{Cid, QUEUE_SIZES, VsockConfig, VsockError};
use crate::devices::virtio::mailbox::{WorkerHandle, worker};
use crate::devices::virtio::{
    ActivateError, Activation, DeviceThread, ThreadKind, VirtioDevice, read_config_bytes,
};
use virtio_bindings::virtio_ids::VIRTIO_ID_VSOCK;

/// The socket device.
#[derive(Debug)]
pub struct Vsock {
    guest_cid: Cid,
    worker: WorkerHandle,
}

impl Vsock {
    /// The device and its thread, over the sockets of `config`.
    ///
    /// # Errors
    /// When a port is given twice or the host refuses an epoll instance.
    pub fn new(config: VsockConfig) -> Result<(Self, DeviceThread), VsockError> {
        let VsockConfig { guest_cid, listener, guest_ports } = config;
        let (handle, port) = worker();
        let mut worker = Worker::new(Table::new(guest_cid, listener, guest_ports)?);
        let thread = DeviceThread {
            name: "vsock".to_owned(),
            kind: ThreadKind::Vsock,
            body: Box::new(move || port.run(|activation, port| worker.serve(activation, port))),
        };
        Ok((Self { guest_cid, worker: handle }, thread))
    }
}

impl VirtioDevice for Vsock {
    fn device_id(&self) -> u32 {
        VIRTIO_ID_VSOCK
    }

    fn features(&self) -> u64 {
        // Without a feature bit of its own the device has stream sockets (VirtIO 1.2 §5.10.3).
        0
    }

    fn queue_sizes(&self) -> &[u16] {
        &QUEUE_SIZES
    }

    fn read_config(&self, offset: u64, data: &mut [u8]) {
        read_config_bytes(&u64::from(self.guest_cid).to_le_bytes(), offset, data);
    }

    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError> {
        self.worker.start(activation)
    }

    fn reset(&mut self) {
        self.worker.stop();
    }
}
