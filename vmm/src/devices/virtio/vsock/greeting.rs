//! The line with which a program on the host asks for a port of the guest.
//!
//! The line is looked at before it is taken, so that what the program sends after it stays in its
//! socket and nothing is ever buffered here.

use rustix::net::{RecvFlags, recv};
use std::os::unix::net::UnixStream;

/// Longest line, with its end: `CONNECT 4294967295\n` and some room.
const MAX_LINE: usize = 32;

/// What has been said so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// Not all of it.
    Incomplete,
    /// The port that is asked for.
    Port(u32),
    /// Not what is said here.
    Foreign,
}

/// Takes the line from `socket` if it is complete; never waits.
pub(super) fn greet(socket: &UnixStream) -> Greeting {
    let mut line = [0; MAX_LINE];
    let seen = loop {
        match recv(socket, &mut line, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((seen, _)) if seen > 0 => break seen,
            Err(rustix::io::Errno::AGAIN) => return Greeting::Incomplete,
            Err(rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => return Greeting::Foreign,
        }
    };
    let seen = line.get(..seen).unwrap_or_default();
    let Some(end) = seen.iter().position(|byte| *byte == b'\n') else {
        return if seen.len() < MAX_LINE { Greeting::Incomplete } else { Greeting::Foreign };
    };
    let Some(port) = seen.get(..end).and_then(parse) else { return Greeting::Foreign };
    // The bytes are there, so all of them come at once.
    let mut taken = [0; MAX_LINE];
    let taken = taken.get_mut(..=end).unwrap_or_default();
    match recv(socket, &mut *taken, RecvFlags::DONTWAIT) {
        Ok((count, _)) if count == end + 1 => Greeting::Port(port),
        _ => Greeting::Foreign,
    }
}

/// `CONNECT <decimal port>`.
fn parse(line: &[u8]) -> Option<u32> {
    let digits = line.strip_prefix(b"CONNECT ")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}
