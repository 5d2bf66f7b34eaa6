//! Carries one stream between the guest and the attached client: a thread each, so that a reader that is
//! stuck holds up its own stream and nothing else.

use std::{
    fs::File,
    io::{self, Read, Write},
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use agent_protocol::{ProcessId, STREAM_PORT, Stream, StreamHello, VERSION};

use super::protocol::{in_folder, stream_socket};
use crate::vm_process::VSOCK_SOCKET;

/// Bytes carried at a time.
const CHUNK: usize = 64 << 10;

/// Longest answer to `CONNECT`: `OK`, a port and the newline.
const MAX_ANSWER: usize = 32;

/// Where an output stream goes: to the attached client, or nowhere.
#[derive(Clone, Debug, Default)]
pub struct Sink(Arc<Mutex<Option<Arc<File>>>>);

impl Sink {
    /// From now on, output goes to this pipe.
    pub fn attach(&self, pipe: OwnedFd) {
        if let Ok(mut target) = self.0.lock() {
            *target = Some(Arc::new(pipe.into()));
        }
    }

    /// Lets the client see the end of the stream.
    pub fn detach(&self) {
        if let Ok(mut target) = self.0.lock() {
            *target = None;
        }
    }

    /// Waits until the client has room; a client that is gone is detached.
    fn write(&self, bytes: &[u8]) {
        let target = self.0.lock().ok().and_then(|target| target.clone());
        if let Some(pipe) = target
            && (&*pipe).write_all(bytes).is_err()
            && let Ok(mut target) = self.0.lock()
            && target.as_ref().is_some_and(|now| Arc::ptr_eq(now, &pipe))
        {
            *target = None;
        }
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

/// Carries an output stream until its end.
pub fn carry_out(mut from: UnixStream, to: &Sink, flow: &Flow) {
    if read_answer(&mut from).is_ok() {
        let mut chunk = vec![0; CHUNK];
        loop {
            match from.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) => {
                    flow.delivering.fetch_add(1, Ordering::Relaxed);
                    to.write(&chunk[..count]);
                    flow.delivering.fetch_sub(1, Ordering::Relaxed);
                    flow.delivered.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    }
    to.detach();
}

/// Carries an input stream until its end, which the guest sees, or until the guest wants no more.
pub fn carry_in(from: OwnedFd, mut to: UnixStream) {
    if read_answer(&mut to).is_err() {
        return;
    }
    let mut from = File::from(from);
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) if to.write_all(&chunk[..count]).is_ok() => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            _ => return,
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn read_answer(from: &mut UnixStream) -> io::Result<()> {
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

    fn carried(guest_sends: &[u8]) -> Vec<u8> {
        let (mut guest, host) = UnixStream::pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        let sink = Sink::default();
        sink.attach(write);
        guest.write_all(guest_sends).unwrap();
        drop(guest);
        carry_out(host, &sink, &Flow::default());
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
        let sink = Sink::default();
        sink.attach(write);
        guest.write_all(b"OK 1\nlost").unwrap();
        drop(guest);
        carry_out(host, &sink, &Flow::default());
    }
}
