//! The first frame of a stream connection, read byte-exactly: what follows it belongs to the
//! stream.

use std::os::fd::OwnedFd;

use agent_protocol::{StreamHello, decode};
use rustix::io::{Errno, read};

/// Bytes of a frame's length.
const LENGTH: usize = 4;
/// Longest encoded [`StreamHello`]: two numbers of at most five bytes, and a variant.
const MAX_HELLO: usize = 16;

/// A connection that has not said yet what it is for.
#[derive(Debug)]
pub(super) struct Greeting {
    socket: OwnedFd,
    bytes: Vec<u8>,
}

/// What a connection has said so far.
#[derive(Debug)]
pub(super) enum Heard {
    /// Not all of it yet.
    Nothing,
    Hello(StreamHello),
    /// Nothing that makes sense, or it is gone.
    Rubbish,
}

impl Greeting {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self { socket, bytes: Vec::new() }
    }

    pub(super) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Reads as much of the frame as has arrived.
    pub(super) fn hear(&mut self) -> Heard {
        loop {
            let missing = match self.missing() {
                None => return Heard::Rubbish,
                Some(0) => return self.decode(),
                Some(missing) => missing,
            };
            let mut bytes = [0; LENGTH + MAX_HELLO];
            let Some(room) = bytes.get_mut(..missing) else { return Heard::Rubbish };
            match read(&self.socket, &mut *room) {
                Ok(0) => return Heard::Rubbish,
                Ok(count) => self.bytes.extend(room.iter().take(count)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Heard::Nothing,
                Err(_) => return Heard::Rubbish,
            }
        }
    }

    /// Bytes still missing from the frame, as far as is known; `None` if it is too long.
    fn missing(&self) -> Option<usize> {
        let Some((length, body)) = self.bytes.split_first_chunk::<LENGTH>() else {
            return Some(LENGTH - self.bytes.len());
        };
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        if length > MAX_HELLO { None } else { length.checked_sub(body.len()) }
    }

    fn decode(&self) -> Heard {
        self.bytes
            .get(LENGTH..)
            .and_then(|body| decode(body).ok())
            .map_or(Heard::Rubbish, Heard::Hello)
    }
}
