//! One descriptor chain, fetched whole: the only place that looks at descriptors.

use super::Segments;
use crate::GuestMemory;
use virtio_queue::DescriptorChain;
use vm_memory::{GuestMemory as _, Permissions};

/// Most pieces of guest memory one chain may consist of: the limit of one vectored system call,
/// and four times what the largest queue needs.
pub const MAX_SEGMENTS: usize = 1024;

/// The buffers of a descriptor chain: first what the driver wrote for the device, then room for
/// the answer. Reused from one chain to the next, so that the steady state allocates nothing.
#[derive(Debug, Default)]
pub struct Chain<'m> {
    head: u16,
    /// What the device reads.
    pub readable: Segments<'m>,
    /// What the device writes.
    pub writable: Segments<'m>,
}

impl<'m> Chain<'m> {
    /// Index of the first descriptor, by which the driver knows the chain.
    #[must_use]
    pub fn head(&self) -> u16 {
        self.head
    }

    /// Replaces the contents by `descriptors`, or by nothing if those are malformed.
    pub(super) fn fetch(
        &mut self,
        memory: &'m GuestMemory,
        descriptors: DescriptorChain<&'m GuestMemory>,
    ) {
        self.head = descriptors.head_index();
        self.readable.clear();
        self.writable.clear();
        if self.collect(memory, descriptors).is_none() {
            self.readable.clear();
            self.writable.clear();
        }
    }

    fn collect(
        &mut self,
        memory: &'m GuestMemory,
        descriptors: DescriptorChain<&'m GuestMemory>,
    ) -> Option<()> {
        let mut complete = false;
        for (count, descriptor) in descriptors.enumerate() {
            let length = usize::try_from(descriptor.len()).ok()?;
            let access = if descriptor.is_write_only() {
                Permissions::Write
            } else if self.writable.is_empty() {
                Permissions::Read
            } else {
                return None;
            };
            // Empty descriptors add no segment but are work all the same.
            if count >= MAX_SEGMENTS {
                return None;
            }
            for slice in memory.get_slices(descriptor.addr(), length, access).ok()? {
                if self.readable.segments() + self.writable.segments() >= MAX_SEGMENTS {
                    return None;
                }
                match access {
                    Permissions::Write => self.writable.push(slice.ok()?),
                    _ => self.readable.push(slice.ok()?),
                }
            }
            complete = !descriptor.has_next();
        }
        // The walk also ends at a loop, an unreadable table and an index out of range: then the
        // last descriptor that came promised another.
        complete.then_some(())
    }
}
