//! The control connection: frames of `agent-protocol` over a non-blocking socket.
//!
//! The host is trusted to ask, not to be well-formed: a frame is bounded before it is stored, and
//! any fault of it ends the connection, and with it the VM.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agent_protocol::{FrameError, FromAgent, MAX_FRAME, ToAgent, VERSION, decode, encode};
use rustix::io::{Errno, read};
use rustix::net::sockopt::socket_error;
use rustix::net::{SendFlags, send};

/// Bytes of a frame's length.
const LENGTH: usize = 4;
/// Most bytes that may wait for a host that does not read.
const MAX_UNSENT: usize = 4 * MAX_FRAME;
/// Bytes read at once.
const READ: usize = 16 << 10;

#[derive(Debug, thiserror::Error)]
pub(crate) enum ControlError {
    #[error("host does not answer the dial")]
    Dial(#[source] Errno),
    #[error("control connection failed")]
    Connection(#[source] Errno),
    #[error("control connection was closed")]
    Closed,
    #[error("host sent a bad frame")]
    Frame(#[source] FrameError),
    #[error("host speaks version {0} of the protocol, the agent {VERSION}")]
    Version(u32),
    #[error("host did not say hello first")]
    NoHello,
    #[error("host does not read its answers")]
    Unread,
}

/// The connection, and the bytes on their way through it.
#[derive(Debug)]
pub(crate) struct Control {
    socket: OwnedFd,
    greeted: bool,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
}

impl Control {
    /// Takes a socket that is connecting.
    pub(crate) fn new(socket: OwnedFd) -> Self {
        Self { socket, greeted: false, inbox: Vec::new(), outbox: Vec::new() }
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Reacts to any event of the socket: sends what waits, and gives back what the host asks for
    /// next; to be called until that is nothing. Hellos are dealt with here.
    pub(crate) fn next(&mut self) -> Result<Option<ToAgent>, ControlError> {
        self.flush()?;
        loop {
            while let Some(message) = take_frame(&mut self.inbox).map_err(ControlError::Frame)? {
                match message {
                    ToAgent::Hello { version } => self.greet(version)?,
                    _ if !self.greeted => return Err(ControlError::NoHello),
                    asked => return Ok(Some(asked)),
                }
            }
            if !self.fill()? {
                return Ok(None);
            }
        }
    }

    /// Sends an answer, now or as soon as the host reads.
    pub(crate) fn send(&mut self, message: &FromAgent) -> Result<(), ControlError> {
        self.outbox.extend(encode(message).map_err(ControlError::Frame)?);
        self.flush()?;
        if self.outbox.len() > MAX_UNSENT { Err(ControlError::Unread) } else { Ok(()) }
    }

    fn greet(&mut self, version: u32) -> Result<(), ControlError> {
        self.send(&FromAgent::Hello { version: VERSION })?;
        self.greeted = version == VERSION;
        if self.greeted { Ok(()) } else { Err(ControlError::Version(version)) }
    }

    /// Whether the dial is still under way, when there is no connection yet.
    fn dialling(&self) -> Result<(), ControlError> {
        match socket_error(&self.socket) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) | Err(error) => Err(ControlError::Dial(error)),
        }
    }

    fn flush(&mut self) -> Result<(), ControlError> {
        while !self.outbox.is_empty() {
            match send(&self.socket, &self.outbox, SendFlags::NOSIGNAL) {
                Ok(count) => drop(self.outbox.drain(..count.min(self.outbox.len()))),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(ControlError::Connection(error)),
            }
        }
        Ok(())
    }

    /// Reads what has arrived; whether that was anything.
    fn fill(&mut self) -> Result<bool, ControlError> {
        let mut bytes = [0; READ];
        loop {
            match read(&self.socket, &mut bytes) {
                Ok(0) => return Err(ControlError::Closed),
                Ok(count) => {
                    self.inbox.extend_from_slice(bytes.get(..count).unwrap_or_default());
                    return Ok(true);
                }
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::NOTCONN) => return self.dialling().map(|()| false),
                Err(Errno::INTR) => {}
                Err(error) => return Err(ControlError::Connection(error)),
            }
        }
    }
}

/// Takes the first message out of `inbox`; `None` when it has not arrived whole.
fn take_frame(inbox: &mut Vec<u8>) -> Result<Option<ToAgent>, FrameError> {
    let Some((length, rest)) = inbox.split_first_chunk::<LENGTH>() else { return Ok(None) };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_FRAME {
        return Err(FrameError::TooLong(length));
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let message = decode(body)?;
    inbox.drain(..LENGTH + length);
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use agent_protocol::{ProcessId, read_frame};
    use proptest::prelude::*;

    use super::*;

    fn pair() -> (Control, UnixStream) {
        let (agent, host) = UnixStream::pair().unwrap();
        agent.set_nonblocking(true).unwrap();
        (Control::new(agent.into()), host)
    }

    fn hello() -> Vec<u8> {
        encode(&ToAgent::Hello { version: VERSION }).unwrap()
    }

    fn signal() -> ToAgent {
        ToAgent::Signal { process: ProcessId::INIT, signal: 15 }
    }

    #[test]
    fn hello_is_answered_and_requests_follow() {
        let (mut control, mut host) = pair();
        host.write_all(&hello()).unwrap();
        host.write_all(&encode(&signal()).unwrap()).unwrap();
        assert_eq!(control.next().unwrap(), Some(signal()));
        assert_eq!(control.next().unwrap(), None);
        let answer = read_frame(&mut host).unwrap();
        assert_eq!(answer, Some(FromAgent::Hello { version: VERSION }));
    }

    #[test]
    fn frame_in_single_bytes_is_put_together() {
        let (mut control, mut host) = pair();
        for byte in [hello(), encode(&signal()).unwrap()].concat() {
            assert_eq!(control.next().unwrap(), None);
            host.write_all(&[byte]).unwrap();
        }
        assert_eq!(control.next().unwrap(), Some(signal()));
    }

    #[test]
    fn request_before_hello_is_refused() {
        let (mut control, mut host) = pair();
        host.write_all(&encode(&signal()).unwrap()).unwrap();
        assert!(matches!(control.next(), Err(ControlError::NoHello)));
    }

    #[test]
    fn other_version_is_refused_after_the_answer() {
        let (mut control, mut host) = pair();
        host.write_all(&encode(&ToAgent::Hello { version: 99 }).unwrap()).unwrap();
        assert!(matches!(control.next(), Err(ControlError::Version(99))));
        let answer = read_frame(&mut host).unwrap();
        assert_eq!(answer, Some(FromAgent::Hello { version: VERSION }));
    }

    /// `threats.md` row 28.
    #[test]
    fn four_gib_length_is_refused_before_it_is_stored() {
        let (mut control, mut host) = pair();
        host.write_all(&[0xff; 4]).unwrap();
        assert!(matches!(control.next(), Err(ControlError::Frame(FrameError::TooLong(_)))));
    }

    #[test]
    fn end_of_the_connection_is_told() {
        let (mut control, host) = pair();
        drop(host);
        assert!(matches!(control.next(), Err(ControlError::Closed)));
    }

    #[test]
    fn host_that_does_not_read_blocks_nothing_and_is_given_up() {
        let (mut control, mut host) = pair();
        let message = FromAgent::StartFailed {
            process: agent_protocol::ProcessId::INIT,
            reason: agent_protocol::StartFailure::Setup,
            message: "x".repeat(MAX_FRAME / 2),
        };
        let sent = (0..100).take_while(|_| control.send(&message).is_ok()).count();
        assert!((4..20).contains(&sent), "{sent} sent");
        let mut some = [0; 1024];
        assert!(host.read(&mut some).unwrap() > 0);
    }

    proptest! {
        #[test]
        fn hostile_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            while let Ok(Some(_)) = take_frame(&mut bytes) {}
        }
    }
}
