//! Streams: vsock connections that the host dials, matched with the ends of the processes' pipes
//! and terminals. Ends wait for their connections; a connection waits only for the image's command,
//! as the host dials for others once it knows that they have started.
//!
//! ```text
//!   connection ── greeting ──┐
//!                            ├─ same process and stream ── pump ── dropped
//!   process's end ── waiting ┘
//! ```
//! Every pump goes its own pace: one whose reader is stuck is simply not ready.

mod greeting;
mod pump;

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use agent_protocol::{MAX_PROCESSES, ProcessId, Stream, StreamHello, VERSION};
use rustix::event::epoll::EventFlags;
use rustix::io;

use crate::poll::{Poll, Token};
use greeting::{Greeting, Heard};
pub(crate) use pump::Kind;
use pump::Pump;

/// Most ends that may wait for their connections; those that wait longest are closed first.
const MAX_ENDS: usize = 4 * MAX_PROCESSES;

/// Most connections that may wait for their process, or for their own first frame.
const MAX_WAITING: usize = 32;

/// The agent's side of one of a process's standard streams: the pipe's or terminal's other end,
/// non-blocking.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) stream: Stream,
    pub(crate) kind: Kind,
    pub(crate) fd: OwnedFd,
}

/// A connection for a stream of a process.
#[derive(Debug)]
struct Connection {
    token: Token,
    process: ProcessId,
    stream: Stream,
    socket: OwnedFd,
}

/// All streams, by the token that their descriptors are watched under.
#[derive(Debug)]
pub(crate) struct Streams {
    next: u64,
    /// Connections that have not said yet what they are for.
    greetings: BTreeMap<Token, Greeting>,
    /// Connections for the image's command, which does not exist yet.
    connections: Vec<Connection>,
    /// The image's command exists, or existed: connections for it do not wait any more.
    begun: bool,
    /// Ends of processes that no connection has come for yet.
    ends: Vec<(ProcessId, End)>,
    pumps: BTreeMap<Token, Pump>,
}

impl Streams {
    /// No streams yet; they use `first` and all tokens after it.
    pub(crate) fn new(first: Token) -> Self {
        Self {
            next: first.0,
            greetings: BTreeMap::new(),
            connections: Vec::new(),
            begun: false,
            ends: Vec::new(),
            pumps: BTreeMap::new(),
        }
    }

    /// Takes a new connection, or drops it when too many wait already.
    pub(crate) fn accept(&mut self, poll: &Poll, socket: OwnedFd) -> io::Result<()> {
        if self.greetings.len() + self.connections.len() >= MAX_WAITING {
            return Ok(());
        }
        let token = Token(self.next);
        self.next += 1;
        poll.watch(&socket, token, EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP)?;
        self.greetings.insert(token, Greeting::new(socket));
        Ok(())
    }

    /// Makes the ends of a process known, all at once, and joins them with what has connected.
    pub(crate) fn open(
        &mut self,
        poll: &Poll,
        process: ProcessId,
        ends: Vec<End>,
    ) -> io::Result<()> {
        self.ends.extend(ends.into_iter().map(|end| (process, end)));
        self.ends.drain(..self.ends.len().saturating_sub(MAX_ENDS));
        if process != ProcessId::INIT {
            return Ok(());
        }
        self.begun = true;
        let connections = std::mem::take(&mut self.connections);
        connections.into_iter().try_for_each(|connection| self.join(poll, connection))
    }

    /// Ends all streams of a process that could not be started.
    pub(crate) fn refuse(&mut self, process: ProcessId) {
        self.ends.retain(|(of, _)| *of != process);
        if process == ProcessId::INIT {
            self.begun = true;
            self.connections.clear();
        }
    }

    /// Reacts to an event; whether there is more to do without another one.
    pub(crate) fn on_event(
        &mut self,
        poll: &Poll,
        token: Token,
        flags: EventFlags,
    ) -> io::Result<bool> {
        if let Some(greeting) = self.greetings.get_mut(&token) {
            match greeting.hear() {
                Heard::Nothing => {}
                Heard::Rubbish => drop(self.greetings.remove(&token)),
                Heard::Hello(hello) => {
                    if let Some(greeting) = self.greetings.remove(&token) {
                        self.introduce(poll, token, hello, greeting.into_socket())?;
                    }
                }
            }
        }
        let Some(pump) = self.pumps.get_mut(&token) else { return Ok(false) };
        match pump.advance(flags) {
            pump::State::Waiting => Ok(false),
            pump::State::MoreToDo => Ok(true),
            pump::State::Over => {
                self.pumps.remove(&token);
                Ok(false)
            }
        }
    }

    fn introduce(
        &mut self,
        poll: &Poll,
        token: Token,
        hello: StreamHello,
        socket: OwnedFd,
    ) -> io::Result<()> {
        let StreamHello { version, process, stream } = hello;
        let is_taken = |other: &Connection| other.stream == stream;
        if version != VERSION {
            return Ok(());
        }
        let connection = Connection { token, process, stream, socket };
        if self.begun || process != ProcessId::INIT {
            return self.join(poll, connection);
        }
        if !self.connections.iter().any(is_taken) {
            self.connections.push(connection);
        }
        Ok(())
    }

    /// Joins a connection with the end it is for. One for a stream that the process has not, or
    /// that is connected already, is dropped.
    fn join(&mut self, poll: &Poll, connection: Connection) -> io::Result<()> {
        let Connection { token, process, stream, socket } = connection;
        let place = self.ends.iter().position(|(of, end)| (*of, end.stream) == (process, stream));
        if let Some(place) = place {
            let (_, end) = self.ends.remove(place);
            poll.watch(&end.fd, token, end.interest())?;
            self.pumps.insert(token, Pump::new(socket, end));
        }
        Ok(())
    }
}

impl End {
    fn interest(&self) -> EventFlags {
        match self.stream {
            Stream::Stdin => EventFlags::OUT,
            Stream::Stdout | Stream::Stderr => EventFlags::IN,
        }
    }
}

#[cfg(test)]
mod tests;
