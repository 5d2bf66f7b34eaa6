//! A pump: moves the bytes of one stream between its vsock connection and its pipe or terminal.
//!
//! ```text
//!   Flowing ── source ended ──→ Closing (output only: the host has yet to close) ──→ over
//!      └────── either side gone ────────────────────────────────────────────────────→ over
//! ```
//! Pipes are spliced, so their bytes are copied once, by the kernel, from the pipe into the
//! socket's packets. A terminal cannot be spliced to a socket and goes through a buffer.
//!
//! Dropping a pump closes its end of the pipe: the process that still writes to it gets `SIGPIPE`,
//! the one that still reads from it an end of file.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agent_protocol::Stream;
use rustix::event::epoll::EventFlags;
use rustix::io::{self, Errno, read, write};
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use rustix::pipe::{SpliceFlags, splice};

use super::End;

/// Bytes spliced at once: whatever the pipe holds.
const SPLICE: usize = 1 << 20;
/// Size of a terminal's buffer.
const BUFFER: usize = 64 << 10;
/// Moves in one turn, after which other streams get theirs.
const TURN: usize = 16;

/// What a process's end is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Pipe,
    Terminal,
}

/// How things are after a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// For an event.
    Waiting,
    /// Another turn can be taken at once.
    MoreToDo,
    Over,
}

#[derive(Debug)]
pub(super) struct Pump {
    socket: OwnedFd,
    /// The process's end; gone once the output has been sent to its end.
    end: Option<OwnedFd>,
    stream: Stream,
    mover: Mover,
    /// Signs of a side that is gone; an edge is told once, and a turn may end before it matters.
    gone: EventFlags,
}

/// Events that say that a side is, or may be, gone.
const GONE: EventFlags = EventFlags::RDHUP.union(EventFlags::HUP).union(EventFlags::ERR);

impl Pump {
    pub(super) fn new(socket: OwnedFd, end: End) -> Self {
        let mover = match end.kind {
            Kind::Pipe => Mover::Splice,
            Kind::Terminal => Mover::Copy(Buffer::new()),
        };
        let gone = EventFlags::empty();
        Self { socket, end: Some(end.fd), stream: end.stream, mover, gone }
    }

    /// Moves what can be moved.
    pub(super) fn advance(&mut self, flags: EventFlags) -> State {
        self.gone |= flags & GONE;
        match self.stream {
            Stream::Stdin => self.advance_input(),
            Stream::Stdout | Stream::Stderr => self.advance_output(flags),
        }
    }

    fn advance_input(&mut self) -> State {
        let Some(end) = &self.end else { return State::Over };
        match self.mover.turn(self.socket.as_fd(), end.as_fd()) {
            // The reading process is gone, and with it the sense of the connection.
            Moved::Blocked if self.gone.contains(EventFlags::ERR) => State::Over,
            Moved::Blocked => State::Waiting,
            Moved::Some => State::MoreToDo,
            Moved::SourceEnded | Moved::Failed => State::Over,
        }
    }

    fn advance_output(&mut self, flags: EventFlags) -> State {
        let Some(end) = &self.end else {
            return if flags.intersects(GONE) { State::Over } else { State::Waiting };
        };
        match self.mover.turn(end.as_fd(), self.socket.as_fd()) {
            Moved::Blocked if !self.gone.is_empty() && !self.is_heard() => State::Over,
            Moved::Blocked => State::Waiting,
            Moved::Some => State::MoreToDo,
            Moved::SourceEnded => {
                self.end = None;
                match shutdown(&self.socket, Shutdown::Write) {
                    Ok(()) => State::Waiting,
                    Err(_) => State::Over,
                }
            }
            Moved::Failed => State::Over,
        }
    }

    /// Whether the host still receives. An end of its own sending is no sign that it does not, so
    /// an empty send asks: that fails on a connection whose other side has stopped receiving.
    fn is_heard(&self) -> bool {
        send(&self.socket, &[], SendFlags::NOSIGNAL | SendFlags::DONTWAIT).is_ok()
    }
}

/// Result of a turn of moving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moved {
    /// Until one side was not ready.
    Blocked,
    /// Until the turn was over.
    Some,
    /// Everything there was and will be.
    SourceEnded,
    /// Until one side broke.
    Failed,
}

/// How bytes get from one descriptor to the other.
#[derive(Debug)]
enum Mover {
    Splice,
    Copy(Buffer),
}

impl Mover {
    fn turn(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Moved {
        for _ in 0..TURN {
            let moved = match self {
                Self::Splice => {
                    let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
                    splice(from, None, to, None, SPLICE, flags)
                }
                Self::Copy(buffer) => buffer.relay(from, to),
            };
            match moved {
                // A terminal whose processes have all closed it reads as EIO.
                Ok(0) | Err(Errno::IO) => return Moved::SourceEnded,
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Moved::Blocked,
                Err(_) => return Moved::Failed,
            }
        }
        Moved::Some
    }
}

/// Bytes read and not yet written.
#[derive(Debug)]
struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn new() -> Self {
        Self { bytes: vec![0; BUFFER].into(), start: 0, end: 0 }
    }

    /// One read, or one write of what an earlier read left.
    fn relay(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<usize> {
        match self.bytes.get(self.start..self.end) {
            Some(unsent @ [_, ..]) => {
                let count = write(to, unsent)?;
                self.start += count;
                Ok(count)
            }
            _ => {
                let count = read(from, &mut *self.bytes)?;
                (self.start, self.end) = (0, count);
                Ok(count)
            }
        }
    }
}
