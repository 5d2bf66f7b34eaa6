//! Virtio devices (VirtIO 1.2) and the traits between a device, its transport and the VM.
//!
//! ```text
//!   vCPU thread                                    device thread
//!   MmioTransport ── VirtioDevice::activate ──▶ Mailbox ──▶ worker ── Segments ──▶ file, socket
//!        │                                                   │  ▲
//!        └── status, DeviceInterrupt ◀── interrupt ──────────┘  └── kick (ioeventfd)
//! ```
//!
//! A device is two halves: the one behind [`VirtioDevice`] answers the driver's registers on vCPU
//! threads, and a worker on a thread of its own ([`DeviceThread`]) serves the queues. Everything a
//! worker will ever need is made before the VMM locks itself in.

pub mod balloon;
pub mod block;
mod interrupt;
mod mailbox;
pub mod rng;
mod serve;
#[cfg(test)]
pub(crate) mod testing;
mod thread;
pub mod transport;
pub mod vsock;

pub use interrupt::{DeviceInterrupt, Interrupt};
pub use thread::{DeviceThread, ThreadKind};

use crate::GuestMemory;
use std::fmt::Debug;
use std::sync::Arc;
use thiserror::Error;
use virtio_queue::Queue;
use vmm_sys_util::eventfd::EventFd;

/// The driver-facing half of a device.
///
/// The transport calls it from vCPU threads, one at a time: `activate` at most once between two
/// `reset`s, the rest whenever the guest likes.
pub trait VirtioDevice: Send + Debug {
    /// Device type (VirtIO 1.2 §5).
    fn device_id(&self) -> u32;

    /// Feature bits of this device type that are offered; those of the ring are the transport's.
    fn features(&self) -> u64;

    /// Largest size of each queue, powers of two.
    fn queue_sizes(&self) -> &[u16];

    /// Fills `data` from byte `offset` of the configuration space; zeroes past its end.
    fn read_config(&self, offset: u64, data: &mut [u8]);

    /// Starts serving the queues.
    ///
    /// # Errors
    /// When the device's thread is gone; the driver is told that the device needs a reset.
    fn activate(&mut self, activation: Activation) -> Result<(), ActivateError>;

    /// Stops serving and waits until work in flight has ended: afterwards no thread touches guest
    /// memory on behalf of this device. Harmless when it is not active.
    fn reset(&mut self);
}

/// What a device gets when its driver says that it is ready.
#[derive(Debug)]
pub struct Activation {
    /// The guest's memory.
    pub memory: GuestMemory,
    /// Negotiated feature bits.
    pub features: u64,
    /// As many as [`VirtioDevice::queue_sizes`] names, each validated.
    pub queues: Vec<ActiveQueue>,
    /// How to reach the driver.
    pub interrupt: Arc<DeviceInterrupt>,
}

/// A validated queue and the event that the driver's notification signals.
#[derive(Debug)]
pub struct ActiveQueue {
    /// The rings.
    pub queue: Queue,
    /// Blocking eventfd, written by KVM for each notification of the driver.
    pub kick: Arc<EventFd>,
}

/// A device could not be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ActivateError {
    /// The worker has ended or never ran.
    #[error("thread of the device is gone")]
    ThreadGone,
    /// It is serving already.
    #[error("device is active already")]
    Active,
}

/// Copies from `config` at `offset` what it has, for [`VirtioDevice::read_config`].
fn read_config_bytes(config: &[u8], offset: u64, data: &mut [u8]) {
    data.fill(0);
    let rest = usize::try_from(offset).ok().and_then(|offset| config.get(offset..));
    for (to, from) in data.iter_mut().zip(rest.unwrap_or_default()) {
        *to = *from;
    }
}
