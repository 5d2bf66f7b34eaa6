//! Carries one stream between the guest and the attached clients: a thread each, so that a reader that is
//! stuck holds up its own stream and nothing else.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use agent_protocol::{ProcessId, STREAM_PORT, Stream, StreamHello, VERSION};

use super::protocol::{in_folder, stream_socket};
use crate::{
    logs::{LogError, LogWriter},
    vm_process::VSOCK_SOCKET,
};

/// Bytes carried at a time.
const CHUNK: usize = 64 << 10;

/// Longest answer to `CONNECT`: `OK`, a port and the newline.
const MAX_ANSWER: usize = 32;

/// Where an output stream goes: to the log, and to every attached client. One that does not read
/// holds the others and the command up, as a pipe would.
#[derive(Clone, Debug)]
pub struct Sink {
    stream: Stream,
    log: Arc<LogWriter>,
    clients: Arc<Mutex<Vec<Arc<File>>>>,
}

impl Sink {
    /// To the log alone.
    pub fn new(stream: Stream, log: &Arc<LogWriter>) -> Self {
        Self { stream, log: Arc::clone(log), clients: Arc::default() }
    }

    /// From now on, output goes to this pipe too.
    pub fn attach(&self, pipe: OwnedFd) {
        if let Ok(mut targets) = self.clients.lock() {
            targets.push(Arc::new(pipe.into()));
        }
    }

    /// Lets all clients see the end of the stream.
    pub fn detach(&self) {
        if let Ok(mut targets) = self.clients.lock() {
            targets.clear();
        }
    }

    /// Waits until every client has room; one that is gone is detached. What the log could not take
    /// is an error, once.
    fn write(&self, bytes: &[u8]) -> Result<(), LogError> {
        let logged = self.log.write(self.stream, bytes);
        let targets = self.clients.lock().map_or_else(|_| Vec::new(), |targets| targets.clone());
        for pipe in targets {
            if (&*pipe).write_all(bytes).is_err()
                && let Ok(mut targets) = self.clients.lock()
            {
                targets.retain(|target| !Arc::ptr_eq(target, &pipe));
            }
        }
        logged
    }
}

/// Dials the agent for a stream. The answer is not waited for: see [`carry_out`].
pub fn dial(runtime: &Path, process: ProcessId, stream: Stream) -> io::Result<UnixStream> {
    let socket = stream_socket()?;
    in_folder(runtime, VSOCK_SOCKET, |address| rustix::net::connect(&socket, address))?;
    let mut socket = UnixStream::from(socket);
    let hello = StreamHello { version: VERSION, process, stream };
    let mut bytes = format!("CONNECT {STREAM_PORT}\n").into_bytes();
    bytes.extend(agent_protocol::encode(&hello).map_err(io::Error::other)?);
    socket.write_all(&bytes)?;
    Ok(socket)
}

/// What the output streams of a run are doing, for the one who waits for their end.
#[derive(Debug, Default)]
pub struct Flow {
    delivered: AtomicUsize,
    delivering: AtomicUsize,
}

impl Flow {
    /// Whether, since it was asked last, something was delivered or waited for a client to read:
    /// then it is not the guest that holds the streams up.
    pub fn moves(&self) -> bool {
        self.delivered.swap(0, Ordering::Relaxed) + self.delivering.load(Ordering::Relaxed) > 0
    }
}

/// Carries an output stream until its end; `complain` is told of a log that cannot be written.
pub fn carry_out(mut from: UnixStream, to: &Sink, flow: &Flow, complain: impl Fn(LogError)) {
    if read_answer(&mut from).is_ok() {
        let mut chunk = vec![0; CHUNK];
        loop {
            match from.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => {
                    flow.delivering.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = to.write(&chunk[..count]) {
                        complain(error);
                    }
                    flow.delivering.fetch_sub(1, Ordering::Relaxed);
                    flow.delivered.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    }
    let _ = to.log.end(to.stream);
    to.detach();
}

/// The container's stdin, to which any number of clients may write.
#[derive(Clone, Debug)]
pub struct Source(Arc<Mutex<Dialled>>);

/// A connection whose answer may not have been read yet.
#[derive(Debug)]
struct Dialled {
    to: UnixStream,
    answered: bool,
}

impl Dialled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.answered {
            read_answer(&mut self.to)?;
            self.answered = true;
        }
        self.to.write_all(bytes)
    }
}

impl Source {
    /// Takes the dialled connection.
    pub fn new(to: UnixStream) -> Self {
        Self(Arc::new(Mutex::new(Dialled { to, answered: false })))
    }

    /// Carries what a client writes until its end, or until the guest wants no more. With `once`
    /// the guest sees that end, unless the client said that it only leaves.
    pub fn carry_in(&self, from: OwnedFd, once: bool, leaves: &AtomicBool) {
        let mut from = File::from(from);
        let mut chunk = vec![0; CHUNK];
        loop {
            match from.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => {
                    let Ok(mut to) = self.0.lock() else { return };
                    if to.write(&chunk[..count]).is_err() {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
        if once && !leaves.load(Ordering::Relaxed) {
            self.close();
        }
    }

    /// Lets the guest see the end of the stream.
    fn close(&self) {
        if let Ok(mut dialled) = self.0.lock()
            && dialled.write(&[]).is_ok()
        {
            let _ = dialled.to.shutdown(Shutdown::Write);
        }
    }
}

/// Reads what the VM process says first on a connection that [`dial`] made.
pub fn read_answer(from: &mut UnixStream) -> io::Result<()> {
    let mut answer = Vec::with_capacity(MAX_ANSWER);
    let mut byte = [0];
    while answer.last() != Some(&b'\n') {
        from.read_exact(&mut byte)?;
        answer.push(byte[0]);
        if answer.len() > MAX_ANSWER {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    if answer.starts_with(b"OK ") { Ok(()) } else { Err(io::ErrorKind::ConnectionRefused.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::logs::{LogConfig, LogDriver};

    /// One without a log.
    fn sink() -> Sink {
        let config = LogConfig { driver: LogDriver::None, ..LogConfig::default() };
        Sink::new(Stream::Stdout, &Arc::new(LogWriter::open(Path::new("/none"), &config)))
    }

    fn carried(guest_sends: &[u8]) -> Vec<u8> {
        let (mut guest, host) = UnixStream::pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let sink = sink();
        sink.attach(write);
        guest.write_all(guest_sends).unwrap();
        drop(guest);
        carry_out(host, &sink, &Flow::default(), |error| panic!("{error}"));
        let mut out = Vec::new();
        File::from(read).read_to_end(&mut out).unwrap();
        out
    }

    #[test]
    fn output_follows_the_answer() {
        assert_eq!(carried(b"OK 1073741824\nhello\n"), b"hello\n");
    }

    #[test]
    fn stream_that_was_refused_is_empty() {
        assert_eq!(carried(b""), b"");
        assert_eq!(carried(b"NO\nhello"), b"");
        assert_eq!(carried(&[b'x'; 100]), b"");
    }

    #[test]
    fn client_that_is_gone_does_not_stop_the_stream() {
        let (mut guest, host) = UnixStream::pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        drop(read);
        let sink = sink();
        sink.attach(write);
        guest.write_all(b"OK 1\nlost").unwrap();
        drop(guest);
        carry_out(host, &sink, &Flow::default(), |error| panic!("{error}"));
    }
}
