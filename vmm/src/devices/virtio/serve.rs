//! The loop of a device whose one queue brings requests that are answered at once.

use super::mailbox::WorkerPort;
use super::{Activation, ActiveQueue, DeviceInterrupt};
use crate::virtqueue::{Chain, RingError, VirtQueue};

/// Serves one activation, until `port` says to stop or the ring turns out broken. `answer` carries
/// out a chain and returns how many bytes it wrote into it.
pub(super) fn serve(
    activation: Activation,
    port: &WorkerPort,
    mut answer: impl FnMut(&mut Chain<'_>) -> u32,
) {
    let Activation { memory, queues, interrupt, .. } = activation;
    let Some(ActiveQueue { queue, kick }) = queues.into_iter().next() else { return };
    let mut queue = VirtQueue::new(&memory, queue);
    let mut chain = Chain::default();
    while !port.stopping() {
        if drain(&mut queue, &mut chain, &interrupt, port, &mut answer).is_err() {
            interrupt.needs_reset();
            return;
        }
        // An error is a signal that interrupted the wait: look at the queue once more.
        let _ = kick.read();
    }
}

/// Answers what is available, and asks for a kick when nothing is.
fn drain<'m>(
    queue: &mut VirtQueue<'m>,
    chain: &mut Chain<'m>,
    interrupt: &DeviceInterrupt,
    port: &WorkerPort,
    answer: &mut impl FnMut(&mut Chain<'_>) -> u32,
) -> Result<(), RingError> {
    loop {
        queue.disable_kicks()?;
        while !port.stopping() && queue.pop(chain)? {
            let written = answer(chain);
            queue.complete(chain, written)?;
        }
        if queue.take_interrupt()? {
            interrupt.used_buffers();
        }
        if port.stopping() || !queue.enable_kicks()? {
            return Ok(());
        }
    }
}
