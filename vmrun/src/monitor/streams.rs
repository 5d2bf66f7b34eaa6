//! The command's standard streams as the monitor has them: which of them are open in the guest, and
//! to whom they go.

use std::{
    net::Shutdown,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::Path,
    sync::{Arc, mpsc::SyncSender},
    thread,
};

use agent_protocol::{ProcessId, Stream};
use anyhow::{Context, Result};

use super::{
    carry::{self, Flow, Sink},
    life::Happened,
};

/// The three streams of the image's command.
#[derive(Debug, Default)]
pub struct Streams {
    stdin: Option<OwnedFd>,
    stdout: Sink,
    stderr: Sink,
    /// The host's ends of the connections, to be closed when the client's are.
    open: Vec<(Stream, UnixStream)>,
    /// Output streams that have not come to their end.
    flowing: usize,
    flow: Arc<Flow>,
}

impl Streams {
    /// Joins a client's pipes: for stdin, stdout and stderr in this order, those that are wanted.
    /// Whether there were as many as that.
    pub fn attach(&mut self, wanted: [bool; 3], pipes: Vec<OwnedFd>) -> bool {
        let mut pipes = pipes.into_iter();
        let [stdin, stdout, stderr] = wanted;
        self.stdin = if stdin { pipes.next() } else { None };
        for (wanted, sink) in [(stdout, &self.stdout), (stderr, &self.stderr)] {
            if let Some(pipe) = wanted.then(|| pipes.next()).flatten() {
                sink.attach(pipe);
            }
        }
        pipes.next().is_none()
    }

    /// Dials the guest for the streams that the command has; the end of each output stream arrives
    /// as [`Happened::StreamEnded`]. With a terminal, stderr is a part of stdout.
    pub fn open(
        &mut self,
        runtime: &Path,
        stdin: bool,
        terminal: bool,
        happened: &SyncSender<Happened>,
    ) -> Result<()> {
        self.open_output(runtime, Stream::Stdout, happened)?;
        if terminal {
            self.stderr.detach();
        } else {
            self.open_output(runtime, Stream::Stderr, happened)?;
        }
        if stdin {
            let socket = dial(runtime, Stream::Stdin)?;
            match self.stdin.take() {
                Some(from) => spawn("stdin", move || carry::carry_in(from, socket))?,
                // Nobody is there to type; the stream stays open until somebody ends it.
                None => self.open.push((Stream::Stdin, socket)),
            }
        }
        Ok(())
    }

    fn open_output(
        &mut self,
        runtime: &Path,
        stream: Stream,
        happened: &SyncSender<Happened>,
    ) -> Result<()> {
        let socket = dial(runtime, stream)?;
        self.open.push((stream, socket.try_clone().context("cannot keep a stream")?));
        let sink = if stream == Stream::Stdout { &self.stdout } else { &self.stderr }.clone();
        let (happened, flow) = (happened.clone(), Arc::clone(&self.flow));
        spawn("output", move || {
            carry::carry_out(socket, &sink, &flow);
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
