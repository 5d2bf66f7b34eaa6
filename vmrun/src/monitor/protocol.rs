//! What a client and the monitor of a container say to each other, over a `SOCK_SEQPACKET` unix
//! socket: one message a packet, descriptors with it where the message says so.
//!
//! The socket is in a folder of mode 0700; both ends are the same user's. A message is bounded all
//! the same, and one that does not decode ends the connection.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use agent_protocol::{ExitStatus, ProcessId, StartFailure, Stream, WindowSize, Work};
use rustix::{
    fs::{Mode, OFlags},
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags, SocketType,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Longest message in bytes; a unix socket takes packets of twice that by default.
const MAX_MESSAGE: usize = 96 << 10;

/// Asked by a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Joins the container's streams to those that come with the message: pipes for stdin (read
    /// by the monitor), stdout and stderr (written by it), in this order, those that are `true`.
    Attach { stdin: bool, stdout: bool, stderr: bool, size: Option<WindowSize> },
    /// Sends a signal (1–64) to the container's command.
    Signal(u8),
    /// The terminal has a new size.
    Resize(WindowSize),
    /// The client's own stdout or stderr is closed: the command is to feel it, as in a pipe.
    Close(Stream),
    /// The client leaves; the end of its stdin is not that of the container's. Answered by
    /// [`Event::Done`].
    Detach,
    /// Ends the container by a signal, by SIGKILL where that has not helped in time; `for_good`: the
    /// user wants it so, and not only the user's session ends.
    Stop { signal: u8, patience: Duration, for_good: bool },
    /// Makes the container's files ready without starting its command, for as long as a client is
    /// connected: the first thing asked, in place of [`Request::Attach`]. Answered by
    /// [`Event::Done`].
    Hold,
    /// Starts a process beside the command. Answered by [`Event::ExecStarted`] or
    /// [`Event::ExecFailed`], later by [`Event::ExecEnded`]. The client dials its streams itself
    /// ([`super::dial`]).
    Exec(Box<Work>),
    /// Sends a signal to a process that [`Request::Exec`] started.
    SignalProcess { process: ProcessId, signal: u8 },
    /// The terminal of such a process has a new size.
    ResizeProcess { process: ProcessId, size: WindowSize },
    /// Freezes the container and stops its vCPUs. Answered by [`Event::Done`] or
    /// [`Event::Refused`].
    Pause,
    /// Undoes [`Request::Pause`], with the same answers.
    Unpause,
    /// Freezes the container's processes for as long as this client is connected. Answered by
    /// [`Event::Done`] or [`Event::Refused`].
    Quiesce,
}

/// Told by the monitor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// To all: the command runs.
    Started,
    /// To all: the container did not start.
    StartFailed {
        status: u8,
        message: String,
    },
    /// To all: one line for the user, as something holds the container up.
    Notice(String),
    /// To all: the command ended, its output has been delivered. `message` says why where the
    /// status alone does not.
    Exited {
        status: u8,
        message: Option<String>,
    },
    /// What was asked is so.
    Done,
    /// What was asked cannot be, and why.
    Refused(String),
    ExecStarted {
        process: ProcessId,
    },
    ExecFailed {
        reason: StartFailure,
        message: String,
    },
    ExecEnded {
        process: ProcessId,
        status: ExitStatus,
    },
}

/// One end of a connection.
#[derive(Debug)]
pub struct Connection(OwnedFd);

impl Connection {
    /// The process at the other end: of a connection that was asked for, the one that listened.
    pub fn peer(&self) -> io::Result<u32> {
        let pid = rustix::net::sockopt::socket_peercred(&self.0)?.pid;
        Ok(pid.as_raw_nonzero().get().unsigned_abs())
    }

    /// Two connected ends.
    pub fn pair() -> io::Result<(Self, Self)> {
        let (one, other) = rustix::net::socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        Ok((Self(one), Self(other)))
    }

    /// Connects to the socket `name` in a folder.
    pub fn connect(folder: &Path, name: &str) -> io::Result<Self> {
        let socket = seqpacket()?;
        in_folder(folder, name, |address| rustix::net::connect(&socket, address))?;
        Ok(Self(socket))
    }

    /// Sends a message and the descriptors that belong to it, three at most.
    pub fn send(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_with(message, fds, SendFlags::empty())
    }

    /// Sends a message if there is room for it at once.
    pub fn send_now(&self, message: &impl Serialize) -> io::Result<()> {
        self.send_with(message, &[], SendFlags::DONTWAIT)
    }

    fn send_with(
        &self,
        message: &impl Serialize,
        fds: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> io::Result<()> {
        let bytes = agent_protocol::encode(message).map_err(io::Error::other)?;
        if bytes.len() > MAX_MESSAGE {
            return Err(io::Error::other("what is asked is too long"));
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(fds));
        }
        let bytes = [IoSlice::new(&bytes)];
        rustix::net::sendmsg(&self.0, &bytes, &mut ancillary, flags | SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Waits for a message; `None` when the other end is gone. What it sent before is received even if
    /// it left without having read everything itself.
    pub fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; MAX_MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut into = [IoSliceMut::new(&mut bytes)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            match rustix::net::recvmsg(&self.0, &mut into, &mut ancillary, flags) {
                // The latter is told once, ahead of what is still to be received.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                other => break other?,
            }
        };
        let mut fds = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights);
            }
        }
        match bytes.get(..received.bytes) {
            Some([]) | None => Ok(None),
            Some(packet) => {
                let (_length, body) =
                    packet.split_at_checked(4).ok_or(io::ErrorKind::InvalidData)?;
                let message = agent_protocol::decode(body).map_err(io::Error::other)?;
                Ok(Some((message, fds)))
            }
        }
    }

    /// A second handle on the same end.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Ends the connection for both sides, also for a thread that waits in [`Self::receive`].
    pub fn shut_down(&self) {
        let _ = rustix::net::shutdown(&self.0, Shutdown::Both);
    }
}

impl From<OwnedFd> for Connection {
    fn from(socket: OwnedFd) -> Self {
        Self(socket)
    }
}

impl From<Connection> for OwnedFd {
    fn from(connection: Connection) -> Self {
        connection.0
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Accepts clients.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl Listener {
    /// Listens at the socket `name` in a folder, in place of what is there.
    pub fn bind(folder: &Path, name: &str) -> io::Result<Self> {
        let socket = seqpacket()?;
        let _ = std::fs::remove_file(folder.join(name));
        in_folder(folder, name, |address| rustix::net::bind(&socket, address))?;
        rustix::net::listen(&socket, 64)?;
        Ok(Self(socket))
    }

    /// Waits for the next client.
    pub fn accept(&self) -> io::Result<Connection> {
        loop {
            match rustix::net::accept_with(&self.0, SocketFlags::CLOEXEC) {
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
                other => return Ok(Connection(other?)),
            }
        }
    }
}

fn seqpacket() -> io::Result<OwnedFd> {
    socket(SocketType::SEQPACKET)
}

/// A byte-stream socket, to be bound or connected by [`in_folder`].
pub(super) fn stream_socket() -> io::Result<OwnedFd> {
    socket(SocketType::STREAM)
}

fn socket(kind: SocketType) -> io::Result<OwnedFd> {
    Ok(rustix::net::socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)?)
}

/// The address of a socket in a folder, by way of an open descriptor: a socket's path is limited to
/// 107 bytes, a folder's is not.
pub(super) fn in_folder<T>(
    folder: &Path,
    name: &str,
    act: impl FnOnce(&SocketAddrUnix) -> rustix::io::Result<T>,
) -> io::Result<T> {
    use std::os::fd::AsRawFd;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    let address = SocketAddrUnix::new(format!("/proc/self/fd/{}/{name}", folder.as_raw_fd()))?;
    Ok(act(&address)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_and_descriptors_arrive_together() {
        let (client, monitor) = Connection::pair().unwrap();
        let attach = Request::Attach { stdin: false, stdout: true, stderr: false, size: None };
        let (_, write) = rustix::pipe::pipe().unwrap();
        client.send(&attach, &[write.as_fd()]).unwrap();
        client.send(&Request::Signal(15), &[]).unwrap();
        let (request, fds) = monitor.receive::<Request>().unwrap().unwrap();
        assert_eq!((request, fds.len()), (attach, 1));
        let (request, fds) = monitor.receive::<Request>().unwrap().unwrap();
        assert_eq!((request, fds.len()), (Request::Signal(15), 0));
        drop(client);
        assert!(monitor.receive::<Request>().unwrap().is_none());
    }

    #[test]
    fn last_words_of_one_that_did_not_listen_arrive() {
        let (client, monitor) = Connection::pair().unwrap();
        client.send(&Request::Signal(15), &[]).unwrap();
        monitor.send(&Event::Started, &[]).unwrap();
        drop(monitor);
        assert_eq!(client.receive().unwrap().map(|(event, _)| event), Some(Event::Started));
        assert!(client.receive::<Event>().unwrap().is_none());
    }

    #[test]
    fn socket_under_a_long_path_is_reached() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("d".repeat(120));
        std::fs::create_dir(&deep).unwrap();
        let listener = Listener::bind(&deep, "control.sock").unwrap();
        let client = Connection::connect(&deep, "control.sock").unwrap();
        client.send(&Request::Signal(9), &[]).unwrap();
        let (request, _) = listener.accept().unwrap().receive::<Request>().unwrap().unwrap();
        assert_eq!(request, Request::Signal(9));
    }

    #[test]
    fn nonsense_is_an_error() {
        let (client, monitor) = Connection::pair().unwrap();
        rustix::net::send(&client, &[1, 2, 3], SendFlags::empty()).unwrap();
        assert!(monitor.receive::<Request>().is_err());
        rustix::net::send(&client, &[0xff; 9], SendFlags::empty()).unwrap();
        assert!(monitor.receive::<Request>().is_err());
    }
}
