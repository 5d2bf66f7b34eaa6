//! The channel between agent and child during set-up: a pair of sockets that keep records apart.
//! The child's end closes with its `execve`.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agent_protocol::StartFailure;
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::io::{self, Errno};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};

/// Longest record in bytes; a longer message is cut.
const MAX_RECORD: usize = 8 << 10;

/// Space for one descriptor beside a record.
const ANCILLARY: usize = rustix::cmsg_space!(ScmRights(1));

/// The agent's end.
#[derive(Debug)]
pub(super) struct Channel {
    socket: OwnedFd,
}

/// What the child says.
#[derive(Debug)]
pub(super) enum Record {
    /// The master of the terminal it opened.
    Terminal(OwnedFd),
    /// `execve` is next.
    Executing,
    Failed {
        reason: StartFailure,
        message: String,
    },
}

/// First byte of each record.
mod tag {
    pub(super) const TERMINAL: u8 = b't';
    pub(super) const EXECUTING: u8 = b'x';
    pub(super) const NOT_FOUND: u8 = b'n';
    pub(super) const NOT_EXECUTABLE: u8 = b'e';
    pub(super) const SETUP: u8 = b's';
}

impl Channel {
    /// Makes both ends; the second is the child's.
    pub(super) fn create() -> io::Result<(Self, OwnedFd)> {
        let kind = SocketType::SEQPACKET;
        let (socket, theirs) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?;
        fcntl_setfl(&socket, OFlags::NONBLOCK)?;
        Ok((Self { socket }, theirs))
    }

    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes the next record; `None` at the end.
    pub(super) fn receive(&self) -> io::Result<Option<Record>> {
        let mut bytes = [0; MAX_RECORD];
        let mut space = [MaybeUninit::uninit(); ANCILLARY];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut bytes)];
        let received = recvmsg(&self.socket, into, &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
        let descriptor = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        let Some((tag, text)) = bytes.get(..received.bytes).and_then(<[u8]>::split_first) else {
            return Ok(None);
        };
        let reason = match (*tag, descriptor) {
            (tag::TERMINAL, Some(master)) => return Ok(Some(Record::Terminal(master))),
            (tag::EXECUTING, _) => return Ok(Some(Record::Executing)),
            (tag::NOT_FOUND, _) => StartFailure::NotFound,
            (tag::NOT_EXECUTABLE, _) => StartFailure::NotExecutable,
            (tag::SETUP, _) => StartFailure::Setup,
            _ => return Err(Errno::BADMSG),
        };
        let message = String::from_utf8_lossy(text).into_owned();
        Ok(Some(Record::Failed { reason, message }))
    }
}

/// Sends the terminal's master to the agent.
pub(super) fn send_terminal(channel: BorrowedFd<'_>, master: &OwnedFd) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); ANCILLARY];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [master.as_fd()];
    ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
    send(channel, &[tag::TERMINAL], &mut ancillary)
}

/// Says that `execve` is next.
pub(super) fn send_executing(channel: BorrowedFd<'_>) -> io::Result<()> {
    send(channel, &[tag::EXECUTING], &mut SendAncillaryBuffer::default())
}

/// Says what went wrong.
pub(super) fn send_failure(
    channel: BorrowedFd<'_>,
    reason: StartFailure,
    message: &str,
) -> io::Result<()> {
    let tag = match reason {
        StartFailure::NotFound => tag::NOT_FOUND,
        StartFailure::NotExecutable => tag::NOT_EXECUTABLE,
        StartFailure::Setup => tag::SETUP,
    };
    let record: Vec<u8> = [tag].into_iter().chain(message.bytes()).take(MAX_RECORD).collect();
    send(channel, &record, &mut SendAncillaryBuffer::default())
}

fn send(
    channel: BorrowedFd<'_>,
    record: &[u8],
    ancillary: &mut SendAncillaryBuffer<'_, '_, '_>,
) -> io::Result<()> {
    sendmsg(channel, &[IoSlice::new(record)], ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_stay_apart_and_the_end_follows() {
        let (channel, child) = Channel::create().unwrap();
        send_terminal(child.as_fd(), &rustix::io::dup(&child).unwrap()).unwrap();
        send_failure(child.as_fd(), StartFailure::NotFound, "no such thing").unwrap();
        send_executing(child.as_fd()).unwrap();
        assert!(matches!(channel.receive(), Ok(Some(Record::Terminal(_)))));
        let failed = channel.receive().unwrap();
        assert!(matches!(
            failed,
            Some(Record::Failed { reason: StartFailure::NotFound, message })
                if message == "no such thing"
        ));
        assert!(matches!(channel.receive(), Ok(Some(Record::Executing))));
        assert_eq!(channel.receive().unwrap_err(), Errno::AGAIN);
        drop(child);
        assert!(matches!(channel.receive(), Ok(None)));
    }

    #[test]
    fn long_message_is_cut() {
        let (channel, child) = Channel::create().unwrap();
        send_failure(child.as_fd(), StartFailure::Setup, &"x".repeat(1 << 20)).unwrap();
        let Ok(Some(Record::Failed { message, .. })) = channel.receive() else { panic!() };
        assert_eq!(message.len(), MAX_RECORD - 1);
    }
}
