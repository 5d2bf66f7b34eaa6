//! The device's thread: takes requests off the queue and carries them out, one after the other.

use super::request::{Limits, Operation, Range, Verdict, parse};
use super::{Backend, FULL_RETRY, HostEvents};
use crate::devices::virtio::mailbox::WorkerPort;
use crate::devices::virtio::{Activation, ActiveQueue, DeviceInterrupt};
use crate::virtqueue::{Chain, RingError, VirtQueue};
use std::io;
use std::sync::Arc;
use virtio_bindings::virtio_blk::VIRTIO_BLK_ID_BYTES;

/// Requests after which the driver is told of the completed ones although more are waiting.
const INTERRUPT_BATCH: u32 = 16;

/// Everything the thread needs from one activation to the next.
pub(super) struct Worker {
    name: String,
    id: [u8; VIRTIO_BLK_ID_BYTES as usize],
    backend: Box<dyn Backend>,
    events: Arc<dyn HostEvents>,
}

/// How a try at a request ended.
enum Attempt {
    /// With this verdict.
    Done(Verdict),
    /// The host's storage is full; what is left of the request is worth another try.
    Full,
}

/// Whether the worker goes on.
#[derive(PartialEq, Eq)]
enum Flow {
    Continue,
    Stop,
}

impl Worker {
    pub(super) fn new(name: &str, backend: Box<dyn Backend>, events: Arc<dyn HostEvents>) -> Self {
        let mut id = [0; VIRTIO_BLK_ID_BYTES as usize];
        for (to, from) in id.iter_mut().zip(name.bytes()) {
            *to = from;
        }
        Self { name: name.to_owned(), id, backend, events }
    }

    /// Serves one activation, until `port` says to stop or the ring turns out broken.
    pub(super) fn serve(&mut self, activation: Activation, port: &WorkerPort) {
        let Activation { memory, queues, interrupt, .. } = activation;
        let Some(ActiveQueue { queue, kick }) = queues.into_iter().next() else { return };
        let mut queue = VirtQueue::new(&memory, queue);
        let mut chain = Chain::default();
        while !port.stopping() {
            if self.drain(&mut queue, &mut chain, &interrupt, port).is_err() {
                interrupt.needs_reset();
                return;
            }
            // An error is a signal that interrupted the wait: look at the queue once more.
            let _ = kick.read();
        }
    }

    /// Carries out what is available, and asks for a kick when nothing is.
    fn drain<'m>(
        &mut self,
        queue: &mut VirtQueue<'m>,
        chain: &mut Chain<'m>,
        interrupt: &DeviceInterrupt,
        port: &WorkerPort,
    ) -> Result<(), RingError> {
        loop {
            queue.disable_kicks()?;
            let mut batch = 0;
            while !port.stopping() && queue.pop(chain)? {
                if self.process(queue, chain, interrupt, port)? == Flow::Stop {
                    return Ok(());
                }
                batch += 1;
                if batch % INTERRUPT_BATCH == 0 && queue.take_interrupt()? {
                    interrupt.used_buffers();
                }
            }
            if queue.take_interrupt()? {
                interrupt.used_buffers();
            }
            if port.stopping() || !queue.enable_kicks()? {
                return Ok(());
            }
        }
    }

    /// Carries out the request in `chain` and completes it, however long the host's storage is full.
    fn process<'m>(
        &mut self,
        queue: &mut VirtQueue<'m>,
        chain: &mut Chain<'m>,
        interrupt: &DeviceInterrupt,
        port: &WorkerPort,
    ) -> Result<Flow, RingError> {
        let limits = Limits { size: self.backend.size(), read_only: self.backend.read_only() };
        let Some((status, operation)) = parse(chain, limits) else {
            queue.complete(chain, 0)?;
            return Ok(Flow::Continue);
        };
        let room = chain.writable.len();
        let mut stalled = false;
        let verdict = loop {
            let attempt = match &operation {
                Ok(operation) => self.attempt(operation, chain),
                Err(verdict) => Attempt::Done(*verdict),
            };
            match attempt {
                Attempt::Done(verdict) => break verdict,
                Attempt::Full => {
                    if !std::mem::replace(&mut stalled, true) {
                        self.events.disk_full(&self.name);
                    }
                    // What has been completed before must not wait with this one.
                    if queue.take_interrupt()? {
                        interrupt.used_buffers();
                    }
                    if port.pause(FULL_RETRY) {
                        return Ok(Flow::Stop);
                    }
                }
            }
        };
        if stalled {
            self.events.disk_resumed(&self.name);
        }
        status.write(verdict);
        // Data first, the status byte last.
        let written = room.saturating_sub(chain.writable.len()).saturating_add(1);
        queue.complete(chain, u32::try_from(written).unwrap_or(u32::MAX))?;
        Ok(Flow::Continue)
    }

    /// Carries out what is left of `operation`.
    fn attempt(&self, operation: &Operation, chain: &mut Chain<'_>) -> Attempt {
        let result = match operation {
            Operation::Read(range) => self.backend.read(range.offset, &mut chain.writable),
            Operation::Write(range) => self.write(*range, chain),
            Operation::Flush => self.backend.flush(),
            Operation::GetId => {
                let room = chain.writable.len().min(self.id.len());
                let id = self.id.get(..room).unwrap_or_default();
                chain.writable.write_all(id).map_err(io::Error::other)
            }
            Operation::Discard(ranges) => ranges
                .iter()
                .try_for_each(|range| self.backend.punch_hole(range.offset, range.length)),
            Operation::WriteZeroes(ranges) => ranges.iter().try_for_each(|zero| {
                let Range { offset, length } = zero.range;
                if zero.unmap {
                    self.backend.punch_hole(offset, length)
                } else {
                    self.backend.zero_range(offset, length)
                }
            }),
        };
        // A flush that finds no space has lost data: trying again would hide that.
        let retry = !matches!(operation, Operation::Flush);
        match result {
            Ok(()) => Attempt::Done(Verdict::Ok),
            Err(error) if retry && is_full(&error) => Attempt::Full,
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {
                Attempt::Done(Verdict::Unsupported)
            }
            Err(_) => Attempt::Done(Verdict::IoError),
        }
    }

    /// Writes from where an earlier try ended: the data consumed so far has been written.
    fn write(&self, range: Range, chain: &mut Chain<'_>) -> io::Result<()> {
        let left = u64::try_from(chain.readable.len()).map_err(io::Error::other)?;
        let done = range.length.saturating_sub(left);
        self.backend.write(range.offset.saturating_add(done), &mut chain.readable)
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
