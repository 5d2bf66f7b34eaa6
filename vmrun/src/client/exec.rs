//! A command beside that of a container, in the foreground: its streams are the user's.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    thread::{self, JoinHandle},
};

use agent_protocol::{ProcessId, ProcessSpec, StartFailure, Stream, WindowSize, Work};
use anyhow::{Context, Result};

use super::{
    Attachment, Left, Session, copy_stdin, io_copy,
    signals::{Forwarded, ForwardedSignals},
    terminal::{self, RawTerminal},
};
use crate::{error::failure, monitor::Request};

/// Exit status of a command that did not start, as Docker's of `exec`.
pub(super) fn status_of(reason: StartFailure) -> u8 {
    match reason {
        StartFailure::NotFound => 127,
        StartFailure::NotExecutable | StartFailure::Setup => 126,
    }
}

/// Runs a command to its end; gives its exit status.
pub fn exec_attached(
    session: Session,
    mut command: ProcessSpec,
    attachment: &Attachment,
) -> Result<Left> {
    let signals = ForwardedSignals::take()?;
    if attachment.terminal {
        command.terminal = Some(terminal::size().unwrap_or(WindowSize { rows: 24, columns: 80 }));
    }
    let process = session.exec(Work::Command(command))?;
    let session = Arc::new(session);
    let raw = if attachment.terminal { RawTerminal::enter()? } else { None };
    let copies = join_streams(&session, process, attachment)?;
    let monitor = Arc::new(session.monitor().try_clone().context("cannot keep the connection")?);
    let forwarder = signals.forward(monitor, move |what| {
        Some(match what {
            Forwarded::Signal(signal) => Request::SignalProcess { process, signal },
            Forwarded::Size(size) => Request::ResizeProcess { process, size },
        })
    })?;
    let ended = session.wait_for_or_leave(process)?;
    if let Some(Left::Exited(_)) = ended {
        forwarder.ended();
        for copy in copies {
            let _ = copy.join();
        }
    }
    forwarder.stop();
    drop(raw);
    ended.ok_or_else(|| failure(137, "the container has ended"))
}

/// Copies between the process's streams and the user's; the copies of output are to be waited for.
fn join_streams(
    session: &Arc<Session>,
    process: ProcessId,
    attachment: &Attachment,
) -> Result<Vec<JoinHandle<()>>> {
    let mut copies = Vec::new();
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    copies.push(copy_output(session, process, Stream::Stdout, stdout)?);
    if !attachment.terminal {
        let stderr = io::stderr().as_fd().try_clone_to_owned()?;
        copies.push(copy_output(session, process, Stream::Stderr, stderr)?);
    }
    if attachment.stdin {
        let socket = session.dial(process, Stream::Stdin)?;
        let keys = attachment.terminal.then(|| attachment.detach_keys.clone());
        let leave = Arc::clone(session);
        // Not waited for: it may stand in a read that never ends.
        spawn(move || {
            copy_stdin(OwnedFd::from(socket), keys, || drop(leave.send(&Request::Detach)));
        })?;
    }
    Ok(copies)
}

fn copy_output(
    session: &Session,
    process: ProcessId,
    stream: Stream,
    to: OwnedFd,
) -> Result<JoinHandle<()>> {
    let from = OwnedFd::from(session.dial(process, stream)?);
    // Where the user's side is closed, so is the connection, which the command feels.
    spawn(move || drop(io_copy::copy(&from, &to)))
}

fn spawn(body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new().spawn(body).context("cannot start a thread")
}
