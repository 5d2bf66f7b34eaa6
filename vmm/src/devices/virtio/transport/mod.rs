//! The virtio-mmio transport, version 2 (VirtIO 1.2 §4.2): a window of registers through which the
//! driver finds, configures, starts and resets one device.
//!
//! It owns the rules of the handshake, so that a device sees only negotiated features and rings
//! that lie in guest memory. It never reads a ring itself, and it does not deliver notifications:
//! the VM registers [`MmioTransport::kick_events`] with KVM, so that they reach the device's thread
//! without leaving the kernel.
//!
//! Threads: the registers are used by any vCPU thread and are serialised by a lock, except the two
//! of the interrupt, which every interrupt needs. Writing 0 to the status keeps its vCPU waiting
//! until the device has drained.

mod queues;
mod registers;
mod status;
#[cfg(test)]
mod tests;

use super::{Activation, DeviceInterrupt, Interrupt, VirtioDevice};
use crate::GuestMemory;
use crate::devices::BusDevice;
use queues::QueueSetup;
use status::Status;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use virtio_bindings::virtio_mmio::{
    VIRTIO_MMIO_CONFIG, VIRTIO_MMIO_INTERRUPT_ACK, VIRTIO_MMIO_INTERRUPT_STATUS,
    VIRTIO_MMIO_QUEUE_NOTIFY,
};
use virtio_bindings::virtio_ring::{VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC};
use vmm_sys_util::eventfd::EventFd;

/// Bytes of a device's window.
pub const WINDOW_SIZE: u64 = 4096;

/// Offset in the window of the register that the driver writes a queue's index to.
pub const NOTIFY_OFFSET: u64 = VIRTIO_MMIO_QUEUE_NOTIFY as u64;

/// Offered for every device: what [`crate::virtqueue`] implements.
const RING_FEATURES: u64 =
    1 << VIRTIO_F_VERSION_1 | 1 << VIRTIO_RING_F_INDIRECT_DESC | 1 << VIRTIO_RING_F_EVENT_IDX;

/// The transport could not be made.
#[derive(Debug, Error)]
pub enum TransportError {
    /// No eventfd for a queue.
    #[error("cannot create an eventfd for a virtqueue")]
    Eventfd(#[source] io::Error),
}

/// One virtio device behind a window of registers.
#[derive(Debug)]
pub struct MmioTransport {
    interrupt: Arc<DeviceInterrupt>,
    kicks: Vec<Arc<EventFd>>,
    /// Fixed for the life of the device.
    offered: u64,
    device_id: u32,
    memory: GuestMemory,
    inner: Mutex<Inner>,
}

/// What the driver has set up so far.
#[derive(Debug)]
struct Inner {
    device: Box<dyn VirtioDevice>,
    status: Status,
    device_features_half: Half,
    driver_features_half: Half,
    driver_features: u64,
    selected_queue: usize,
    queues: Vec<QueueSetup>,
}

/// Which 32 bits of the feature bits a selector register names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Half {
    Low,
    High,
    /// Bits 64 and up, of which there are none.
    Beyond,
}

impl From<u32> for Half {
    fn from(selector: u32) -> Self {
        match selector {
            0 => Self::Low,
            1 => Self::High,
            _ => Self::Beyond,
        }
    }
}

impl MmioTransport {
    /// Puts `device` behind a window; `line` is the interrupt of this window alone.
    ///
    /// # Errors
    /// When no eventfd can be created.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        memory: GuestMemory,
        line: Arc<dyn Interrupt>,
    ) -> Result<Self, TransportError> {
        let queues: Vec<_> = device.queue_sizes().iter().copied().map(QueueSetup::new).collect();
        let kicks = queues
            .iter()
            .map(|_| EventFd::new(libc::EFD_CLOEXEC).map(Arc::new))
            .collect::<Result<_, _>>()
            .map_err(TransportError::Eventfd)?;
        Ok(Self {
            interrupt: Arc::new(DeviceInterrupt::new(line)),
            kicks,
            offered: device.features() | RING_FEATURES,
            device_id: device.device_id(),
            memory,
            inner: Mutex::new(Inner {
                device,
                status: Status::Reset,
                device_features_half: Half::Low,
                driver_features_half: Half::Low,
                driver_features: 0,
                selected_queue: 0,
                queues,
            }),
        })
    }

    /// One blocking eventfd a queue, in the order of the queues: to be signalled for a 32-bit write
    /// of the queue's index at [`NOTIFY_OFFSET`].
    #[must_use]
    pub fn kick_events(&self) -> &[Arc<EventFd>] {
        &self.kicks
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The status register as the driver reads it.
    fn status(&self, inner: &Inner) -> u32 {
        inner.status.register(self.interrupt.wants_reset())
    }

    /// The driver wrote `value` to the status register.
    fn write_status(&self, inner: &mut Inner, value: u32) {
        if value == 0 {
            self.reset(inner);
            return;
        }
        let Some(next) = inner.status.after_write(value) else { return };
        match next {
            Status::Negotiated if !self.acceptable(inner.driver_features) => {}
            Status::Live => self.activate(inner),
            _ => inner.status = next,
        }
    }

    /// Features the driver may run with: a subset of the offered ones, and no legacy driver.
    fn acceptable(&self, features: u64) -> bool {
        features & !self.offered == 0 && features & 1 << VIRTIO_F_VERSION_1 != 0
    }

    /// The driver says that it is ready. Whatever is wrong with its rings leaves the device in need
    /// of a reset, and nothing else.
    fn activate(&self, inner: &mut Inner) {
        inner.status = Status::Live;
        let queues = queues::activate(
            &inner.queues,
            &self.kicks,
            &self.memory,
            inner.driver_features & 1 << VIRTIO_RING_F_EVENT_IDX != 0,
        );
        let started = queues.is_some_and(|queues| {
            let activation = Activation {
                memory: self.memory.clone(),
                features: inner.driver_features,
                queues,
                interrupt: Arc::clone(&self.interrupt),
            };
            inner.device.activate(activation).is_ok()
        });
        if !started {
            self.interrupt.needs_reset();
        }
    }

    fn reset(&self, inner: &mut Inner) {
        inner.device.reset();
        // Only now: the worker could still raise it until it has stopped.
        self.interrupt.clear();
        inner.status = Status::Reset;
        inner.driver_features = 0;
        inner.device_features_half = Half::Low;
        inner.driver_features_half = Half::Low;
        inner.selected_queue = 0;
        for queue in &mut inner.queues {
            *queue = QueueSetup::new(queue.max_size());
        }
    }
}

/// Offset in the window, if it is in the range of registers.
fn register(offset: u64) -> Option<u32> {
    u32::try_from(offset).ok().filter(|offset| *offset < VIRTIO_MMIO_CONFIG)
}

impl BusDevice for MmioTransport {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        let Some(register) = register(offset) else {
            let config = offset.saturating_sub(u64::from(VIRTIO_MMIO_CONFIG));
            self.lock().device.read_config(config, data);
            return;
        };
        // Registers are read 32 bits at a time (VirtIO 1.2 §4.2.2.2).
        if let Ok(data) = <&mut [u8; 4]>::try_from(data) {
            let value = match register {
                VIRTIO_MMIO_INTERRUPT_STATUS => self.interrupt.pending(),
                _ => self.read_register(&self.lock(), register),
            };
            *data = value.to_le_bytes();
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        let (Some(register), Ok(data)) = (register(offset), <[u8; 4]>::try_from(data)) else {
            return;
        };
        let value = u32::from_le_bytes(data);
        match register {
            VIRTIO_MMIO_INTERRUPT_ACK => self.interrupt.acknowledge(value),
            VIRTIO_MMIO_QUEUE_NOTIFY => {
                let kick = usize::try_from(value).ok().and_then(|index| self.kicks.get(index));
                if let Some(kick) = kick {
                    // Cannot fail: the counter is nowhere near its end.
                    let _ = kick.write(1);
                }
            }
            _ => self.write_register(&mut self.lock(), register, value),
        }
    }
}
