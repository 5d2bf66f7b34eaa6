//! The command's standard streams as the monitor has them: which of them are open in the guest, and
//! to whom they go.

use std::{
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use agent_protocol::{ProcessId, Stream};
use anyhow::{Context, Result};

use crate::logs::LogWriter;

use super::{
    carry::{self, Flow, Sink, Source},
    clients::ClientId,
    life::{Happened, Teller},
};

/// The three streams of the image's command.
#[derive(Debug)]
pub struct Streams {
    stdin: Option<Source>,
    /// Clients that came before the guest could take their stdin.
    early: Vec<Typist>,
    stdout: Sink,
    stderr: Sink,
    /// Clients with an stdin: which of them have said that they leave.
    leaving: Vec<(ClientId, Arc<AtomicBool>)>,
    /// The host's ends of the connections, to be closed when the client's are.
    open: Vec<(Stream, UnixStream)>,
    /// Output streams that have not come to their end.
    flowing: usize,
    flow: Arc<Flow>,
    stdin_once: bool,
}

/// A client's stdin on its way to the guest.
#[derive(Debug)]
struct Typist {
    from: OwnedFd,
    leaves: Arc<AtomicBool>,
}

impl Streams {
    /// None open yet; `stdin_once`: the command's stdin ends with the first client's.
    pub fn new(stdin_once: bool, log: LogWriter) -> Self {
        let log = Arc::new(log);
        Self {
            stdin: None,
            early: Vec::new(),
            stdout: Sink::new(Stream::Stdout, &log),
            stderr: Sink::new(Stream::Stderr, &log),
            leaving: Vec::new(),
            open: Vec::new(),
            flowing: 0,
            flow: Arc::default(),
            stdin_once,
        }
    }

    /// Joins a client's pipes: for stdin, stdout and stderr in this order, those that are wanted.
    /// Whether there were as many as that.
    pub fn attach(&mut self, client: ClientId, wanted: [bool; 3], pipes: Vec<OwnedFd>) -> bool {
        let mut pipes = pipes.into_iter();
        let [stdin, stdout, stderr] = wanted;
        if stdin && let Some(from) = pipes.next() {
            let leaves = Arc::<AtomicBool>::default();
            self.leaving.push((client, Arc::clone(&leaves)));
            self.early.push(Typist { from, leaves });
        }
        for (wanted, sink) in [(stdout, &self.stdout), (stderr, &self.stderr)] {
            if let Some(pipe) = wanted.then(|| pipes.next()).flatten() {
                sink.attach(pipe);
            }
        }
        self.take_stdin();
        pipes.next().is_none()
    }

    /// A client is about to leave: the end of its stdin means nothing.
    pub fn leaves(&self, client: ClientId) {
        for (_, leaves) in self.leaving.iter().filter(|(id, _)| *id == client) {
            leaves.store(true, Ordering::Relaxed);
        }
    }

    /// A client has left.
    pub fn forget(&mut self, client: ClientId) {
        self.leaving.retain(|(id, _)| *id != client);
    }

    /// Dials the guest for the streams that the command has; the end of each output stream arrives
    /// as [`Happened::StreamEnded`]. With a terminal, stderr is a part of stdout.
    pub fn open(
        &mut self,
        runtime: &Path,
        stdin: bool,
        terminal: bool,
        happened: &Teller,
    ) -> Result<()> {
        self.open_output(runtime, Stream::Stdout, happened)?;
        if terminal {
            self.stderr.detach();
        } else {
            self.open_output(runtime, Stream::Stderr, happened)?;
        }
        if stdin {
            let socket = dial(runtime, Stream::Stdin)?;
            let open = socket.try_clone().context("cannot keep a stream")?;
            self.open.push((Stream::Stdin, open));
            self.stdin = Some(Source::new(socket));
            self.take_stdin();
        }
        Ok(())
    }

    /// Carries the stdin of clients that wait, once the guest has one. A command without an stdin
    /// never takes any.
    fn take_stdin(&mut self) {
        let Some(source) = &self.stdin else { return };
        for Typist { from, leaves } in self.early.drain(..) {
            let (source, once) = (source.clone(), self.stdin_once);
            // Without a thread for it the client's stdin is closed, which it sees.
            let _ = spawn("stdin", move || source.carry_in(from, once, &leaves));
        }
    }

    fn open_output(&mut self, runtime: &Path, stream: Stream, happened: &Teller) -> Result<()> {
        let socket = dial(runtime, stream)?;
        self.open.push((stream, socket.try_clone().context("cannot keep a stream")?));
        let sink = if stream == Stream::Stdout { &self.stdout } else { &self.stderr }.clone();
        let (happened, flow) = (happened.clone(), Arc::clone(&self.flow));
        spawn("output", move || {
            carry::carry_out(socket, &sink, &flow, |error| {
                let _ =
                    happened.send(Happened::LogFailed(format!("{:#}", anyhow::Error::from(error))));
            });
            let _ = happened.send(Happened::StreamEnded);
        })?;
        self.flowing += 1;
        Ok(())
    }

    /// Closes a stream in the guest: whoever writes to it there feels it.
    pub fn close(&self, stream: Stream) {
        for (_, socket) in self.open.iter().filter(|(name, _)| *name == stream) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// Closes all of them.
    pub fn close_all(&self) {
        for (_, socket) in &self.open {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    /// An output stream came to its end.
    pub fn ended(&mut self) {
        self.flowing = self.flowing.saturating_sub(1);
    }

    /// Whether all output has been delivered.
    pub fn delivered(&self) -> bool {
        self.flowing == 0
    }

    /// Whether output has moved since this was asked last, or waits for a client that does not
    /// read, which is its right.
    pub fn moves(&self) -> bool {
        self.flow.moves()
    }
}

fn dial(runtime: &Path, stream: Stream) -> Result<UnixStream> {
    carry::dial(runtime, ProcessId::INIT, stream).context("cannot reach the guest")
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
    thread::Builder::new().name(name.into()).spawn(body).context("cannot start a thread")?;
    Ok(())
}
