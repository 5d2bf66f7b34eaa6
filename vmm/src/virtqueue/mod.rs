//! A split virtqueue in operation: taking descriptor chains, giving them back, and knowing when
//! either side must be told.
//!
//! A thin layer over the `virtio-queue` crate, which walks the rings. It differs from using that
//! crate directly in three points that hostile drivers make necessary:
//!
//! - A chain is fetched once, in whole, into [`Chain`]; nothing of a descriptor is read again.
//! - The crate ends the walk of a broken chain as if it were complete. Here a chain that is cut
//!   short, loops, leaves guest memory, is too long, or has readable parts after writable ones
//!   arrives **empty**, so that every device refuses it by the check it needs anyway.
//! - A ring that cannot be trusted any more is a [`RingError`], never "nothing to do".
//!
//! Threads: a queue belongs to its device's thread alone.

mod chain;
mod segments;
mod segments_io;
#[cfg(test)]
mod tests;

pub use chain::{Chain, MAX_SEGMENTS};
pub use segments::{ByteSlot, Segments, ShortChain};

use crate::GuestMemory;
use thiserror::Error;
use virtio_queue::{Queue, QueueOwnedT, QueueT};

/// The driver broke the ring itself; the device must stop and ask to be reset.
#[derive(Debug, Error)]
#[error("virtqueue is broken")]
pub struct RingError(#[from] virtio_queue::Error);

/// A validated, activated queue together with the guest memory that its rings lie in.
#[derive(Debug)]
pub struct VirtQueue<'m> {
    memory: &'m GuestMemory,
    queue: Queue,
    /// Chains were completed since the driver was last considered for an interrupt.
    completed: bool,
}

impl<'m> VirtQueue<'m> {
    /// Takes over `queue`, which has been validated against `memory`.
    #[must_use]
    pub fn new(memory: &'m GuestMemory, queue: Queue) -> Self {
        Self { memory, queue, completed: false }
    }

    /// Takes the next available chain into `chain`; false when there is none.
    ///
    /// # Errors
    /// When the available ring claims more chains than the queue holds, or cannot be read.
    pub fn pop(&mut self, chain: &mut Chain<'m>) -> Result<bool, RingError> {
        let Some(descriptors) = self.queue.iter(self.memory)?.next() else {
            return Ok(false);
        };
        chain.fetch(self.memory, descriptors);
        Ok(true)
    }

    /// Puts the chain taken last back, as if it had not been taken.
    pub fn undo_pop(&mut self) {
        self.queue.go_to_previous_position();
    }

    /// Gives `chain` back to the driver with `written` bytes in its writable part.
    ///
    /// # Errors
    /// When the chain's head was no descriptor of this queue, or the used ring cannot be written.
    pub fn complete(&mut self, chain: &Chain<'m>, written: u32) -> Result<(), RingError> {
        self.queue.add_used(self.memory, chain.head(), written)?;
        self.completed = true;
        Ok(())
    }

    /// Whether the driver wants an interrupt for what was completed since the last call.
    ///
    /// # Errors
    /// When the available ring cannot be read.
    pub fn take_interrupt(&mut self) -> Result<bool, RingError> {
        if !std::mem::take(&mut self.completed) {
            return Ok(false);
        }
        Ok(self.queue.needs_notification(self.memory)?)
    }

    /// Tells the driver that kicks are not needed for now.
    ///
    /// # Errors
    /// When the used ring cannot be written.
    pub fn disable_kicks(&mut self) -> Result<(), RingError> {
        Ok(self.queue.disable_notification(self.memory)?)
    }

    /// Asks the driver for a kick with its next chain; true when chains are already waiting, for
    /// which no kick may come.
    ///
    /// # Errors
    /// When a ring cannot be accessed.
    pub fn enable_kicks(&mut self) -> Result<bool, RingError> {
        Ok(self.queue.enable_notification(self.memory)?)
    }
}
