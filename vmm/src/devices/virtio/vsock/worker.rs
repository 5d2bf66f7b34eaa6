//! The device's thread: one epoll loop over the driver's kicks, the listener and every socket.
//!
//! All descriptors are edge-triggered. A wake therefore costs no call but `epoll_wait`, and a
//! socket is not asked again until something about it has changed; who has bytes or room is noted
//! in its connection. Each round moves a bounded number of packets either way, so that neither a
//! flood of the guest nor one of the host keeps the other out.

use super::QUEUE_SIZES;
use super::table::{FIRST_TOKEN, Filled, Table, Token};
use crate::devices::virtio::mailbox::WorkerPort;
use crate::devices::virtio::{Activation, ActiveQueue, DeviceInterrupt};
use crate::virtqueue::{Chain, RingError, Segments, VirtQueue};
use std::io;
use std::os::fd::AsRawFd;
use std::time::Instant;
use vmm_sys_util::epoll::{ControlOperation, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

/// Tokens of what is not a connection's socket.
const RECEIVE_KICK: Token = 0;
const TRANSMIT_KICK: Token = 1;
const LISTENER: Token = 2;
const _: () = assert!(LISTENER < FIRST_TOKEN);

/// Most packets moved in one direction before the other has its turn.
const ROUND: u16 = QUEUE_SIZES[0];

/// Most events taken from epoll at a time.
const EVENTS: usize = 64;

/// Everything the thread needs from one activation to the next.
#[derive(Debug)]
pub(super) struct Worker {
    table: Table,
    events: [EpollEvent; EVENTS],
}

/// The queues of one activation.
struct Queues<'m> {
    receive: VirtQueue<'m>,
    transmit: VirtQueue<'m>,
    chain: Chain<'m>,
    header: Segments<'m>,
}

impl Worker {
    pub(super) fn new(table: Table) -> Self {
        Self { table, events: [EpollEvent::default(); EVENTS] }
    }

    /// Serves one activation, until `port` says to stop or a ring turns out broken. The sockets
    /// are closed at its end: the guest knows nothing of them any more.
    pub(super) fn serve(&mut self, activation: Activation, port: &WorkerPort) {
        let Activation { memory, queues, interrupt, .. } = activation;
        // The third queue would carry events of migration, which does not happen.
        let Ok([receive, transmit, _event]) = <[ActiveQueue; 3]>::try_from(queues) else { return };
        let mut queues = Queues {
            receive: VirtQueue::new(&memory, receive.queue),
            transmit: VirtQueue::new(&memory, transmit.queue),
            chain: Chain::default(),
            header: Segments::default(),
        };
        let kicks = [(&*receive.kick, RECEIVE_KICK), (&*transmit.kick, TRANSMIT_KICK)];
        let watched = kicks.iter().try_for_each(|(kick, token)| self.watch(kick, *token));
        let watched = watched.and_then(|()| self.table.listen(LISTENER));
        if watched.is_err() || self.run(&mut queues, &interrupt, port).is_err() {
            interrupt.needs_reset();
        }
        // What was not added is not there to be deleted.
        for (kick, _) in kicks {
            let event = EpollEvent::default();
            let _ = self.table.epoll().ctl(ControlOperation::Delete, kick.as_raw_fd(), event);
        }
        let _ = self.table.unlisten();
        self.table.clear();
    }

    fn watch(&self, kick: &EventFd, token: Token) -> io::Result<()> {
        let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, token);
        self.table.epoll().ctl(ControlOperation::Add, kick.as_raw_fd(), event)
    }

    fn run(
        &mut self,
        queues: &mut Queues<'_>,
        interrupt: &DeviceInterrupt,
        port: &WorkerPort,
    ) -> Result<(), RingError> {
        while !port.stopping() {
            let more = self.round(queues)?;
            // Both are asked: each forgets what it answered.
            if queues.receive.take_interrupt()? | queues.transmit.take_interrupt()? {
                interrupt.used_buffers();
            }
            self.wait(more);
        }
        Ok(())
    }

    /// Moves packets both ways; true if there is more to move at once.
    fn round(&mut self, queues: &mut Queues<'_>) -> Result<bool, RingError> {
        let more_to_take = self.take_packets(queues)?;
        let more_to_give = self.give_packets(queues)?;
        // Refusals that kept packets from being taken may be gone now.
        let more_to_take = more_to_take && self.table.takes_packets();
        Ok(more_to_take || more_to_give)
    }

    /// Takes packets of the guest; true if some may be left.
    fn take_packets(&mut self, queues: &mut Queues<'_>) -> Result<bool, RingError> {
        let Queues { transmit, chain, .. } = queues;
        transmit.disable_kicks()?;
        for _ in 0..ROUND {
            if !self.table.takes_packets() {
                return Ok(true);
            }
            if !transmit.pop(chain)? {
                return transmit.enable_kicks();
            }
            self.table.receive(&mut chain.readable);
            transmit.complete(chain, 0)?;
        }
        Ok(true)
    }

    /// Gives packets to the guest; true if some are left and the guest has buffers for them.
    fn give_packets(&mut self, queues: &mut Queues<'_>) -> Result<bool, RingError> {
        let Queues { receive, chain, header, .. } = queues;
        receive.disable_kicks()?;
        for _ in 0..ROUND {
            if !self.table.has_output() {
                return Ok(false);
            }
            if !receive.pop(chain)? {
                return receive.enable_kicks();
            }
            match self.table.fill(&mut chain.writable, header) {
                Filled::Packet(length) => {
                    receive.complete(chain, u32::try_from(length).unwrap_or(u32::MAX))?;
                }
                Filled::TooSmall => receive.complete(chain, 0)?,
                Filled::Nothing => receive.undo_pop(),
            }
        }
        Ok(true)
    }

    /// Waits for something to happen, not at all if there is `more` to do, and hears of it.
    fn wait(&mut self, more: bool) {
        let deadline = self.table.next_deadline();
        let timeout = match deadline {
            _ if more => 0,
            // Rounded up, or the last millisecond would be spent spinning.
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                i32::try_from(left.as_millis().saturating_add(1)).unwrap_or(i32::MAX)
            }
            None => -1,
        };
        // Interrupted by a signal: nothing has happened.
        let count = self.table.epoll().wait(timeout, &mut self.events).unwrap_or_default();
        let now = Instant::now();
        for event in self.events.iter().take(count) {
            match event.data() {
                // What the kicks are for is looked at in every round.
                RECEIVE_KICK | TRANSMIT_KICK => {}
                LISTENER => self.table.admit(now),
                token => self.table.handle_event(token, event.event_set(), now),
            }
        }
        if deadline.is_some_and(|deadline| deadline <= now) {
            self.table.expire(now);
        }
        self.table.admit_waiting(now);
    }
}
