//! All sockets of the device and the connections over them: which packet belongs to which, which
//! is next to be heard by the guest, and what is refused.
//!
//! It sees packets as [`Segments`] and knows nothing of queues; [`super::worker`] feeds it.

use super::backlog::Backlog;
use super::connection::{Connection, Key};
use super::greeting::{Greeting, greet};
use super::packet::{HEADER_SIZE, Header, Operation, STREAM};
use super::{
    ANSWER_TIME, Cid, GREETING_TIME, HOST_CID, MAX_CONNECTIONS, MAX_PACKET_DATA, VsockError,
};
use crate::virtqueue::Segments;
use rustix::net::{SocketFlags, accept_with};
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Instant;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};

/// Refusals that wait for a receive buffer, above which no packet of the guest is taken.
const MAX_REFUSALS: usize = 64;

/// First host port of connections that the host dials; those that the guest dials are below.
const FIRST_HOST_PORT: u32 = 1 << 30;

/// Names a socket to epoll. Never used twice, so that a late event finds nothing.
pub(super) type Token = u64;

/// Tokens below are not the table's.
pub(super) const FIRST_TOKEN: Token = 16;

/// A socket of the host.
#[derive(Debug)]
enum Peer {
    /// Has not said which port it wants, and has until then.
    Greeting(UnixStream, Instant),
    /// The guest knows of it.
    Connected(Box<Connection>),
    /// Gets the last bytes of a guest that is gone.
    Draining(UnixStream, Backlog),
}

/// See the module.
#[derive(Debug)]
pub(super) struct Table {
    guest_cid: u64,
    epoll: Epoll,
    listener: UnixListener,
    /// Programs may be waiting in the listener's queue although no event will say so.
    listener_waits: bool,
    /// Ports that the guest may still connect to.
    doors: BTreeMap<u32, UnixStream>,
    peers: BTreeMap<Token, Peer>,
    next_token: Token,
    tokens: BTreeMap<Key, Token>,
    next_host_port: u32,
    /// Connections that may have something for the guest, each once, in turn.
    ready: VecDeque<Token>,
    refusals: VecDeque<Header>,
}

/// What [`Table::fill`] did.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Filled {
    /// Wrote a packet of so many bytes.
    Packet(usize),
    /// There was none.
    Nothing,
    /// No packet fits.
    TooSmall,
}

impl Table {
    pub(super) fn new(
        guest_cid: Cid,
        listener: UnixListener,
        guest_ports: Vec<(u32, UnixStream)>,
    ) -> Result<Self, VsockError> {
        let epoll = Epoll::new().map_err(VsockError::Epoll)?;
        listener.set_nonblocking(true).map_err(VsockError::Listener)?;
        let mut doors = BTreeMap::new();
        for (port, socket) in guest_ports {
            if doors.insert(port, socket).is_some() {
                return Err(VsockError::Port(port));
            }
        }
        Ok(Self {
            guest_cid: guest_cid.into(),
            epoll,
            listener,
            listener_waits: false,
            doors,
            peers: BTreeMap::new(),
            next_token: FIRST_TOKEN,
            tokens: BTreeMap::new(),
            next_host_port: FIRST_HOST_PORT,
            ready: VecDeque::new(),
            refusals: VecDeque::new(),
        })
    }

    pub(super) fn epoll(&self) -> &Epoll {
        &self.epoll
    }

    /// Watches the listener under `token`.
    pub(super) fn listen(&self, token: Token) -> io::Result<()> {
        let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, token);
        self.epoll.ctl(ControlOperation::Add, self.listener.as_raw_fd(), event)
    }

    /// Stops watching the listener.
    pub(super) fn unlisten(&self) -> io::Result<()> {
        let event = EpollEvent::default();
        self.epoll.ctl(ControlOperation::Delete, self.listener.as_raw_fd(), event)
    }

    /// Closes every socket in use; the guest has forgotten them.
    pub(super) fn clear(&mut self) {
        self.peers.clear();
        self.tokens.clear();
        self.ready.clear();
        self.refusals.clear();
    }

    /// When [`Self::expire`] has something to do, if nothing happens before.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.peers.values().filter_map(Peer::deadline).min()
    }

    /// Drops who has kept the device waiting too long.
    pub(super) fn expire(&mut self, now: Instant) {
        let late = |peer: &Peer| peer.deadline().is_some_and(|deadline| deadline <= now);
        let late: Vec<Token> =
            self.peers.iter().filter(|(_, peer)| late(peer)).map(|(token, _)| *token).collect();
        for token in late {
            self.reset(token);
        }
    }

    /// Admits the programs that wait at the listener, as many as there is room for.
    pub(super) fn admit(&mut self, now: Instant) {
        self.listener_waits = true;
        while self.peers.len() < MAX_CONNECTIONS {
            let flags = SocketFlags::CLOEXEC;
            match accept_with(&self.listener, flags) {
                Ok(socket) => {
                    let greeting = Peer::Greeting(socket.into(), now + GREETING_TIME);
                    if let Some(token) = self.insert(greeting) {
                        self.greet(token, now);
                    }
                }
                Err(rustix::io::Errno::AGAIN) => {
                    self.listener_waits = false;
                    return;
                }
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
                // Out of descriptors or memory: tried again when something has happened.
                Err(_) => return,
            }
        }
    }

    /// Admits programs that had to wait, if there is room now.
    pub(super) fn admit_waiting(&mut self, now: Instant) {
        if self.listener_waits && self.peers.len() < MAX_CONNECTIONS {
            self.admit(now);
        }
    }

    fn insert(&mut self, peer: Peer) -> Option<Token> {
        let token = self.next_token;
        self.next_token = self.next_token.checked_add(1)?;
        let events =
            EventSet::IN | EventSet::OUT | EventSet::READ_HANG_UP | EventSet::EDGE_TRIGGERED;
        let event = EpollEvent::new(events, token);
        self.epoll.ctl(ControlOperation::Add, peer.descriptor(), event).ok()?;
        self.peers.insert(token, peer);
        Some(token)
    }

    /// Something happened to the socket named `token`.
    pub(super) fn handle_event(&mut self, token: Token, events: EventSet, now: Instant) {
        let closed = events.intersects(EventSet::HANG_UP | EventSet::ERROR);
        match self.peers.get_mut(&token) {
            Some(Peer::Greeting(..)) => self.greet(token, now),
            Some(Peer::Connected(connection)) => {
                if events.contains(EventSet::OUT) {
                    connection.set_writable();
                }
                if events.intersects(EventSet::IN | EventSet::READ_HANG_UP) {
                    connection.set_readable();
                }
                if closed {
                    connection.set_hung_up();
                }
                self.enqueue(token);
            }
            Some(Peer::Draining(socket, backlog)) => {
                let over = closed || backlog.flush(&*socket).is_err() || backlog.is_empty();
                if over {
                    self.peers.remove(&token);
                }
            }
            None => {}
        }
    }

    fn greet(&mut self, token: Token, now: Instant) {
        let Some(Peer::Greeting(socket, _)) = self.peers.get(&token) else { return };
        let port = match greet(socket) {
            Greeting::Incomplete => return,
            Greeting::Foreign => None,
            Greeting::Port(port) => Some(port),
        };
        let Some(Peer::Greeting(socket, _)) = self.peers.remove(&token) else { return };
        if let Some(guest) = port {
            let key = Key { guest, host: self.free_host_port(guest) };
            let connection = Connection::dial(key, socket, now + ANSWER_TIME);
            self.connect(token, connection);
        }
    }

    /// A port that no connection to `guest` has. There are fewer connections than ports.
    fn free_host_port(&mut self, guest: u32) -> u32 {
        loop {
            let host = self.next_host_port;
            self.next_host_port = host.checked_add(1).unwrap_or(FIRST_HOST_PORT);
            if !self.tokens.contains_key(&Key { guest, host }) {
                return host;
            }
        }
    }

    fn connect(&mut self, token: Token, connection: Connection) {
        self.tokens.insert(connection.key(), token);
        self.peers.insert(token, Peer::Connected(Box::new(connection)));
        self.enqueue(token);
    }

    /// Notes that the connection has something for the guest, if so, and forgets it if it is over.
    fn enqueue(&mut self, token: Token) {
        let Some(Peer::Connected(connection)) = self.peers.get_mut(&token) else { return };
        if connection.finished() {
            self.forget(token);
        } else if !connection.queued && connection.has_output() {
            connection.queued = true;
            self.ready.push_back(token);
        }
    }

    /// Ends what the guest knows of a connection. Its last bytes still go to the host.
    fn forget(&mut self, token: Token) {
        let Some(Peer::Connected(connection)) = self.peers.remove(&token) else { return };
        self.tokens.remove(&connection.key());
        if let Some((socket, backlog)) = connection.into_rest() {
            self.peers.insert(token, Peer::Draining(socket, backlog));
        }
    }

    /// Ends a connection and tells the guest; or just closes a socket it does not know of.
    fn reset(&mut self, token: Token) {
        match self.peers.get(&token) {
            Some(Peer::Connected(connection)) => {
                let Key { guest, host } = connection.key();
                self.refuse(HOST_CID, host, guest, STREAM);
                self.forget(token);
            }
            _ => {
                self.peers.remove(&token);
            }
        }
    }

    fn refuse(&mut self, src_cid: u64, src_port: u32, dst_port: u32, kind: u16) {
        self.refusals.push_back(Header {
            src_cid,
            dst_cid: self.guest_cid,
            src_port,
            dst_port,
            len: 0,
            kind,
            operation: Operation::Reset.code(),
            flags: 0,
            buf_alloc: 0,
            fwd_cnt: 0,
        });
    }

    /// Whether a packet of the guest can be taken now.
    pub(super) fn takes_packets(&self) -> bool {
        self.refusals.len() < MAX_REFUSALS
    }

    /// Takes a packet of the guest. A packet that makes no sense ends the connection it names.
    pub(super) fn receive(&mut self, packet: &mut Segments<'_>) {
        // Without a header there is nobody to answer.
        let Ok(header) = Header::read(packet) else { return };
        let key = Key { guest: header.src_port, host: header.dst_port };
        let addressed = header.src_cid == self.guest_cid && header.dst_cid == HOST_CID;
        let token = self.tokens.get(&key).copied().filter(|_| addressed);
        let operation = Operation::from_code(header.operation);
        if operation == Some(Operation::Reset) {
            // Never answered, or two sides could reset each other for ever.
            if let Some(token) = token {
                self.forget(token);
            }
            return;
        }
        let length = usize::try_from(header.len).unwrap_or(usize::MAX);
        let fits = header.len <= MAX_PACKET_DATA && length <= packet.len();
        let operation = operation.filter(|_| addressed && fits && header.kind == STREAM);
        match (operation, token) {
            (Some(operation), Some(token)) => {
                self.receive_connected(token, operation, &header, packet, length);
            }
            (Some(Operation::Request), None) => self.receive_request(key, &header),
            (None, Some(token)) => self.reset(token),
            (_, None) => {
                self.refuse(header.dst_cid, header.dst_port, header.src_port, header.kind);
            }
        }
    }

    fn receive_connected(
        &mut self,
        token: Token,
        operation: Operation,
        header: &Header,
        packet: &mut Segments<'_>,
        length: usize,
    ) {
        let Some(Peer::Connected(connection)) = self.peers.get_mut(&token) else { return };
        match connection.receive(operation, header, packet, length) {
            Ok(false) => self.enqueue(token),
            // The guest waits for this answer to its shutdown.
            Ok(true) | Err(_) => self.reset(token),
        }
    }

    /// The guest asks for a port of the host.
    fn receive_request(&mut self, key: Key, request: &Header) {
        if self.peers.len() < MAX_CONNECTIONS
            && let Some(socket) = self.doors.remove(&key.host)
        {
            let connection = Connection::accept(key, socket, request);
            if let Some(token) = self.insert(Peer::Connected(Box::new(connection))) {
                self.tokens.insert(key, token);
                self.enqueue(token);
                return;
            }
        }
        self.refuse(HOST_CID, key.host, key.guest, STREAM);
    }

    /// Whether there is a packet for the guest, as far as known.
    pub(super) fn has_output(&self) -> bool {
        !self.refusals.is_empty() || !self.ready.is_empty()
    }

    /// Writes the next packet for the guest into `buffer`; `place` is scratch for its header.
    pub(super) fn fill<'m>(
        &mut self,
        buffer: &mut Segments<'m>,
        place: &mut Segments<'m>,
    ) -> Filled {
        // Room for one byte of data at least, so that a socket with bytes always gets on.
        if buffer.len() <= HEADER_SIZE || buffer.split_front(HEADER_SIZE, place).is_err() {
            return Filled::TooSmall;
        }
        let Some(header) = self.refusals.pop_front().or_else(|| self.next_packet(buffer)) else {
            return Filled::Nothing;
        };
        let data = usize::try_from(header.len).unwrap_or_default();
        match place.write_all(&header.encode()) {
            Ok(()) => Filled::Packet(HEADER_SIZE.saturating_add(data)),
            Err(_) => Filled::TooSmall,
        }
    }

    /// The next packet of the connections, in turn; its data is in `buffer` already.
    fn next_packet(&mut self, buffer: &mut Segments<'_>) -> Option<Header> {
        loop {
            let token = self.ready.pop_front()?;
            let Some(Peer::Connected(connection)) = self.peers.get_mut(&token) else { continue };
            connection.queued = false;
            let Some((operation, flags, len)) = connection.next_packet(buffer) else { continue };
            let Key { guest, host } = connection.key();
            let (buf_alloc, fwd_cnt) = connection.announce();
            self.enqueue(token);
            return Some(Header {
                src_cid: HOST_CID,
                dst_cid: self.guest_cid,
                src_port: host,
                dst_port: guest,
                len,
                kind: STREAM,
                operation: operation.code(),
                flags,
                buf_alloc,
                fwd_cnt,
            });
        }
    }
}

impl Peer {
    fn descriptor(&self) -> RawFd {
        match self {
            Self::Greeting(socket, _) | Self::Draining(socket, _) => socket.as_raw_fd(),
            Self::Connected(connection) => connection.socket().as_raw_fd(),
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Greeting(_, deadline) => Some(*deadline),
            Self::Connected(connection) => connection.deadline(),
            Self::Draining(..) => None,
        }
    }
}
