//! One connection between a socket of the host and a port of the guest: credit, halves, and what
//! the guest must still be told.
//!
//! ```text
//!   host dials                     RESPONSE
//!   ──────────▶ Requested ────────────────────────▶ Open
//!   guest dials, RESPONSE follows ────────────────▶ Open
//! ```
//!
//! In `Open` each direction ends by itself:
//!
//! | what ends it | told to the other side as |
//! |---|---|
//! | end of the stream from the socket | `SHUTDOWN(send)` |
//! | nobody reads the socket any more | `SHUTDOWN(receive)`; the guest's bytes are dropped |
//! | the socket is closed | both, after its last bytes; the connection is forgotten then |
//! | `SHUTDOWN(send)` of the guest | the socket is shut for writing, after the guest's last bytes |
//! | `SHUTDOWN(receive)` of the guest | the socket is shut for reading |
//! | both of the guest's | `RST`; the guest's last bytes are still written |
//!
//! Credit (VirtIO 1.2 §5.10.6.3): all counters are modulo 2^32, like those on the wire.

use super::BUFFER_SIZE;
use super::backlog::Backlog;
use super::packet::{Header, Operation, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};
use crate::virtqueue::Segments;
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

/// Bytes passed on to the host after which the guest is told, unless another packet tells it.
const UPDATE_STEP: u32 = BUFFER_SIZE / 2;

/// Both flags of a shutdown.
const SHUTDOWN_BOTH: u32 = SHUTDOWN_RECEIVE | SHUTDOWN_SEND;

/// The two ports by which the guest knows a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) guest: u32,
    pub(super) host: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The guest has not answered; it has until then.
    Requested(Instant),
    Open,
}

/// The guest broke the protocol: the connection must be reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation;

/// Packets without data that the guest must get, in the order of the fields.
#[derive(Debug, Default)]
struct Pending {
    request: bool,
    response: bool,
    credit_update: bool,
    credit_request: bool,
    shutdown: u32,
}

impl Pending {
    fn any(&self) -> bool {
        self.request
            || self.response
            || self.credit_update
            || self.credit_request
            || self.shutdown != 0
    }

    /// The next one and its flags.
    fn take(&mut self) -> Option<(Operation, u32)> {
        let simple = [
            (&mut self.request, Operation::Request),
            (&mut self.response, Operation::Response),
            (&mut self.credit_update, Operation::CreditUpdate),
            (&mut self.credit_request, Operation::CreditRequest),
        ];
        for (pending, operation) in simple {
            if std::mem::take(pending) {
                return Some((operation, 0));
            }
        }
        let flags = std::mem::take(&mut self.shutdown);
        (flags != 0).then_some((Operation::Shutdown, flags))
    }
}

/// A connection that the guest knows of.
#[derive(Debug)]
pub(super) struct Connection {
    key: Key,
    socket: UnixStream,
    state: State,
    pending: Pending,
    /// In the queue of those that may have something for the guest.
    pub(super) queued: bool,

    // From the guest to the socket.
    backlog: Backlog,
    received: u32,
    forwarded: u32,
    /// What the guest knows of `forwarded`.
    announced: u32,
    /// The socket has room, as far as known.
    writable: bool,
    /// Nobody reads the socket.
    deaf: bool,
    /// Shutdown flags of the guest.
    guest_shut: u32,

    // From the socket to the guest.
    sent: u32,
    guest_buffer: u32,
    guest_forwarded: u32,
    /// The guest has been asked for credit since it last gave some.
    asked: bool,
    /// The socket has bytes or an end, as far as known.
    readable: bool,
    /// Nothing more comes from the socket.
    ended: bool,
    /// The other end of the socket is closed.
    hung_up: bool,
}

impl Connection {
    fn new(key: Key, socket: UnixStream, state: State, pending: Pending) -> Self {
        Self {
            key,
            socket,
            state,
            pending,
            queued: false,
            backlog: Backlog::default(),
            received: 0,
            forwarded: 0,
            announced: 0,
            writable: true,
            deaf: false,
            guest_shut: 0,
            sent: 0,
            guest_buffer: 0,
            guest_forwarded: 0,
            asked: false,
            readable: true,
            ended: false,
            hung_up: false,
        }
    }

    /// The host asks the guest, which has until `deadline` to answer.
    pub(super) fn dial(key: Key, socket: UnixStream, deadline: Instant) -> Self {
        let pending = Pending { request: true, ..Pending::default() };
        Self::new(key, socket, State::Requested(deadline), pending)
    }

    /// The guest asked, with `request`, and is accepted.
    pub(super) fn accept(key: Key, socket: UnixStream, request: &Header) -> Self {
        let pending = Pending { response: true, ..Pending::default() };
        let mut connection = Self::new(key, socket, State::Open, pending);
        connection.update_credit(request);
        connection
    }

    pub(super) fn key(&self) -> Key {
        self.key
    }

    pub(super) fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// When the guest must have answered.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Requested(deadline) => Some(deadline),
            State::Open => None,
        }
    }

    /// What the guest's bytes still need: their socket, if there are any.
    pub(super) fn into_rest(self) -> Option<(UnixStream, Backlog)> {
        (!self.backlog.is_empty()).then_some((self.socket, self.backlog))
    }

    /// Takes a packet of the guest whose header names this connection; its data are the first
    /// `length` bytes of `data`, which holds as many. Returns whether the guest is done with it.
    pub(super) fn receive(
        &mut self,
        operation: Operation,
        header: &Header,
        data: &mut Segments<'_>,
        length: usize,
    ) -> Result<bool, Violation> {
        self.update_credit(header);
        match (operation, self.state) {
            (Operation::Response, State::Requested(_)) => self.established()?,
            (Operation::Data, State::Open) => self.take(data, header.len, length)?,
            (Operation::Shutdown, State::Open) => {
                self.shut(header.flags);
                return Ok(self.guest_shut == SHUTDOWN_BOTH);
            }
            (Operation::CreditRequest, State::Open) => self.pending.credit_update = true,
            (Operation::CreditUpdate, State::Open) => {}
            _ => return Err(Violation),
        }
        Ok(false)
    }

    fn update_credit(&mut self, header: &Header) {
        self.guest_buffer = header.buf_alloc;
        self.guest_forwarded = header.fwd_cnt;
        self.asked = false;
    }

    /// The guest accepted: tell the program on the host.
    fn established(&mut self) -> Result<(), Violation> {
        self.state = State::Open;
        let answer = format!("OK {}\n", self.key.host);
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        // The socket is empty: the line fits, or nobody is there.
        match send(&self.socket, answer.as_bytes(), flags) {
            Ok(sent) if sent == answer.len() => Ok(()),
            _ => Err(Violation),
        }
    }

    /// Passes `length` bytes on, keeping what the socket does not take.
    fn take(&mut self, data: &mut Segments<'_>, len: u32, length: usize) -> Result<(), Violation> {
        let held = self.received.wrapping_sub(self.forwarded);
        let room = BUFFER_SIZE.saturating_sub(held);
        if self.guest_shut & SHUTDOWN_SEND != 0 || len > room {
            return Err(Violation);
        }
        self.received = self.received.wrapping_add(len);
        let mut left = length;
        while left > 0 && self.writable && !self.deaf && self.backlog.is_empty() {
            match data.send_to(self.socket.as_fd(), left) {
                Ok(sent) if sent > 0 => {
                    left = left.saturating_sub(sent);
                    self.forward(sent);
                }
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => self.deafen(),
                _ => self.writable = false,
            }
        }
        if self.deaf {
            self.forward(left);
            return Ok(());
        }
        self.backlog.append(data, left).map_err(|_| Violation)
    }

    /// `count` bytes of the guest are off its mind.
    fn forward(&mut self, count: usize) {
        // Never more than BUFFER_SIZE are held.
        self.forwarded = self.forwarded.wrapping_add(u32::try_from(count).unwrap_or_default());
        if self.forwarded.wrapping_sub(self.announced) >= UPDATE_STEP {
            self.pending.credit_update = true;
        }
    }

    /// Nobody reads the socket: what the guest sends has no use.
    fn deafen(&mut self) {
        self.deaf = true;
        self.pending.shutdown |= SHUTDOWN_RECEIVE;
        let dropped = self.backlog.clear();
        self.forward(dropped);
    }

    /// The guest shuts one or both halves.
    fn shut(&mut self, flags: u32) {
        self.guest_shut |= flags & SHUTDOWN_BOTH;
        if self.guest_shut & SHUTDOWN_RECEIVE != 0 && !self.ended {
            self.ended = true;
            // Fails only when the other end is gone.
            let _ = shutdown(&self.socket, Shutdown::Read);
        }
        self.pass_end();
    }

    /// Ends the stream to the host when the guest has ended it and all of it is written.
    fn pass_end(&mut self) {
        if self.guest_shut & SHUTDOWN_SEND != 0 && self.backlog.is_empty() {
            // Fails only when the other end is gone.
            let _ = shutdown(&self.socket, Shutdown::Write);
        }
    }

    /// The socket has something to read, or its end.
    pub(super) fn set_readable(&mut self) {
        self.readable = true;
    }

    /// The socket has room: writes what is held.
    pub(super) fn set_writable(&mut self) {
        self.writable = true;
        match self.backlog.flush(&self.socket) {
            Ok(written) => {
                self.forward(written);
                self.writable = self.backlog.is_empty();
                self.pass_end();
            }
            Err(_) => self.deafen(),
        }
    }

    /// The other end of the socket is closed; bytes from it may still be there.
    pub(super) fn set_hung_up(&mut self) {
        self.hung_up = true;
        self.readable = true;
        // Before the guest has answered there is nothing to shut; its answer will find nobody.
        if self.state == State::Open {
            self.deafen();
            if self.ended {
                self.pending.shutdown = SHUTDOWN_BOTH;
            }
        }
    }

    /// Bytes that the guest has room for.
    fn credit(&self) -> u32 {
        let in_flight = self.sent.wrapping_sub(self.guest_forwarded);
        self.guest_buffer.saturating_sub(in_flight)
    }

    /// Whether there is something for the guest, as far as known.
    pub(super) fn has_output(&mut self) -> bool {
        let data = self.state == State::Open && self.readable && !self.ended;
        if data && self.credit() == 0 && !std::mem::replace(&mut self.asked, true) {
            self.pending.credit_request = true;
        }
        self.pending.any() || data && self.credit() > 0
    }

    /// Whether the host's program is gone and the guest has been told so.
    pub(super) fn finished(&self) -> bool {
        self.state == State::Open && self.hung_up && self.ended && !self.pending.any()
    }

    /// The next packet for the guest; data goes to `place`, which has room.
    pub(super) fn next_packet(
        &mut self,
        place: &mut Segments<'_>,
    ) -> Option<(Operation, u32, u32)> {
        if let Some((operation, flags)) = self.pending.take() {
            return Some((operation, flags, 0));
        }
        if !self.has_output() {
            return None;
        }
        let limit = usize::try_from(self.credit()).unwrap_or(usize::MAX);
        match place.receive_from(self.socket.as_fd(), limit) {
            Ok(count) if count > 0 => {
                let count = u32::try_from(count).unwrap_or_default();
                self.sent = self.sent.wrapping_add(count);
                Some((Operation::Data, 0, count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                None
            }
            end => {
                self.ended = true;
                self.hung_up |= end.is_err();
                let flags = if self.hung_up { SHUTDOWN_BOTH } else { SHUTDOWN_SEND };
                Some((Operation::Shutdown, flags, 0))
            }
        }
    }

    /// Credit for the header of a packet to the guest.
    pub(super) fn announce(&mut self) -> (u32, u32) {
        self.announced = self.forwarded;
        self.pending.credit_update = false;
        (BUFFER_SIZE, self.forwarded)
    }
}
