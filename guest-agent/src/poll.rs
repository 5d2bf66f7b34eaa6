//! The agent's one epoll instance. Everything is watched edge-triggered: who is told of an event
//! works until the kernel says "would block", or asks to be called again.

use std::os::fd::{AsFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io;
use rustix::time::Timespec;

/// Most events taken from the kernel at once.
const EVENTS: usize = 32;

/// Names who watches a descriptor; several descriptors may share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token(pub(crate) u64);

/// What happened to a descriptor of `token`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ready {
    pub(crate) token: Token,
    pub(crate) flags: EventFlags,
}

#[derive(Debug)]
pub(crate) struct Poll {
    epoll: OwnedFd,
}

impl Poll {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Watches `fd` for as long as its file is open. Errors and hang-ups are always told.
    pub(crate) fn watch(
        &self,
        fd: impl AsFd,
        token: Token,
        interest: EventFlags,
    ) -> io::Result<()> {
        epoll::add(&self.epoll, fd, EventData::new_u64(token.0), interest | EventFlags::ET)
    }

    /// Waits for events, or with `block` unset only looks.
    pub(crate) fn wait(&self, block: bool) -> io::Result<Vec<Ready>> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timeout = if block { None } else { Some(&now) };
        let mut events: Vec<Event> = Vec::with_capacity(EVENTS);
        match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout) {
            Ok(_) | Err(io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        Ok(events.iter().map(ready).collect())
    }
}

fn ready(event: &Event) -> Ready {
    // The struct is packed: its fields are copied out, never borrowed.
    let (data, flags) = (event.data, event.flags);
    Ready { token: Token(data.u64()), flags }
}
