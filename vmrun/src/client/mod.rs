//! The foreground side of a container: starts its monitor, joins the terminal or the pipes of the
//! user to it, and comes back with the exit status. When this process is killed, the container runs
//! on. What is asked of a container that is there already goes through a [`Session`].

mod detach;
mod exec;
mod io_copy;
mod session;
mod signals;
mod terminal;

pub use detach::{DetachKeys, KeysError};
pub use exec::exec_attached;
pub use session::Session;
pub use signals::ForwardedSignals;

use std::{
    io::{self, IsTerminal},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Command, Stdio},
    sync::Arc,
    thread::{self, JoinHandle},
};

use agent_protocol::Stream;
use anyhow::{Context, Result};

use crate::{
    container::Container,
    error::failure,
    monitor::{CONTROL_SOCKET, Connection, Event, Request},
    paths::Paths,
};
use detach::{Typed, Watch};
use signals::Forwarded;
use terminal::RawTerminal;

/// Which streams of the user's to join to the container's.
#[derive(Clone, Debug)]
pub struct Attachment {
    pub stdin: bool,
    pub terminal: bool,
    /// Signals are passed on to the command.
    pub proxy_signals: bool,
    pub detach_keys: DetachKeys,
    /// The end of the user's stdout is one for the command too, as in a pipe.
    pub owns_output: bool,
}

/// How an attachment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    Exited(u8),
    /// By the detach keys; the container runs on.
    Detached,
}

/// Starts the container in the background and comes back when its command runs. Signals that were
/// taken have their usual effect again once the container has a monitor that knows what to do.
pub fn start_detached(container: &Container, signals: Option<ForwardedSignals>) -> Result<()> {
    let monitor = start_monitor(container)?;
    let attach = Request::Attach { stdin: false, stdout: false, stderr: false, size: None };
    monitor.send(&attach, &[]).context("the container's monitor is gone")?;
    if let Some(signals) = signals {
        signals.give_back()?;
    }
    loop {
        match next(&monitor)? {
            Event::Started | Event::Exited { .. } => return Ok(()),
            Event::StartFailed { status, message } => return Err(failure(status, message)),
            Event::Notice(line) => eprintln!("vmrun: {line}"),
            _ => {}
        }
    }
}

/// Starts the container and stays with it; signals that were taken before are its own.
pub fn start_attached(
    container: &Container,
    attachment: &Attachment,
    signals: Option<ForwardedSignals>,
) -> Result<Left> {
    let signals = signals.map_or_else(ForwardedSignals::take, Ok)?;
    stay(start_monitor(container)?, attachment, signals)
}

/// Joins a container that runs, and stays with it.
pub fn attach_running(
    paths: &Paths,
    container: &Container,
    attachment: &Attachment,
) -> Result<Left> {
    let signals = ForwardedSignals::take()?;
    stay(connect(paths, container)?, attachment, signals)
}

/// Connects to the monitor of a container that runs.
pub fn connect(paths: &Paths, container: &Container) -> Result<Connection> {
    let folder = paths.runtime_of(container.record.id.as_str());
    Connection::connect(&folder, CONTROL_SOCKET).with_context(|| {
        format!("cannot reach the monitor of container {}", container.record.id.short())
    })
}

fn stay(monitor: Connection, attachment: &Attachment, signals: ForwardedSignals) -> Result<Left> {
    let monitor = Arc::new(monitor);
    let raw = if attachment.terminal { RawTerminal::enter()? } else { None };
    let copies = attach(&monitor, attachment)?;
    let proxy = attachment.proxy_signals;
    let forwarder = signals.forward(Arc::clone(&monitor), move |number| match number {
        Forwarded::Signal(number) => proxy.then_some(Request::Signal(number)),
        Forwarded::Size(size) => Some(Request::Resize(size)),
    })?;
    let outcome = wait(&monitor, raw.is_some());
    // Who leaves by the keys does not wait for output, which goes on.
    if !matches!(outcome, Ok(Left::Detached)) {
        forwarder.ended();
        for copy in copies {
            let _ = copy.join();
        }
    }
    forwarder.stop();
    drop(raw);
    outcome
}

/// Starts the monitor, connected to this process by a socket that is its stdin.
pub fn start_monitor(container: &Container) -> Result<Connection> {
    let (ours, theirs) = Connection::pair().context("cannot make a socket")?;
    Command::new("/proc/self/exe")
        .arg0("vmrun")
        .args(["monitor", container.record.id.as_str()])
        .current_dir("/")
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start the container's monitor")?;
    Ok(ours)
}

/// Gives the monitor pipes for the streams and copies between them and the user's; the copies of
/// output are to be waited for.
fn attach(monitor: &Arc<Connection>, attachment: &Attachment) -> Result<Vec<JoinHandle<()>>> {
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    let (stdin_read, stdin_write) = pipe().context("cannot make a pipe")?;
    let (stdout_read, stdout_write) = pipe().context("cannot make a pipe")?;
    let (stderr_read, stderr_write) = pipe().context("cannot make a pipe")?;
    let request = Request::Attach {
        stdin: attachment.stdin,
        stdout: true,
        stderr: true,
        size: if attachment.terminal { terminal::size() } else { None },
    };
    let mut fds = vec![stdout_write.as_fd(), stderr_write.as_fd()];
    if attachment.stdin {
        fds.insert(0, stdin_read.as_fd());
    }
    monitor.send(&request, &fds).context("the container's monitor is gone")?;

    if attachment.stdin {
        let keys = attachment.terminal.then(|| attachment.detach_keys.clone());
        let monitor = Arc::clone(monitor);
        let leave = move || drop(monitor.send(&Request::Detach, &[]));
        // Not waited for: it may stand in a read that never ends.
        copy("stdin", move || copy_stdin(stdin_write, keys, leave))?;
    }
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    let stderr = io::stderr().as_fd().try_clone_to_owned()?;
    let outputs = [(Stream::Stdout, stdout_read, stdout), (Stream::Stderr, stderr_read, stderr)];
    let owns_output = attachment.owns_output;
    outputs
        .into_iter()
        .map(|(stream, from, to)| {
            let monitor = Arc::clone(monitor);
            copy("output", move || {
                if io_copy::copy(&from, &to).is_err() && owns_output {
                    let _ = monitor.send(&Request::Close(stream), &[]);
                }
            })
        })
        .collect()
}

/// Copies the user's stdin until its end, which closes `to`, or until the keys are typed: then it
/// stays open until this process ends, which is soon.
fn copy_stdin(to: OwnedFd, keys: Option<DetachKeys>, leave: impl FnOnce()) {
    let Ok(stdin) = io::stdin().as_fd().try_clone_to_owned() else { return };
    let Some(keys) = keys else {
        let _ = io_copy::copy(&stdin, &to);
        return;
    };
    let mut watch = Watch::new(keys);
    let mut left = false;
    let _ = io_copy::read_all(&stdin, |bytes| match watch.take(bytes) {
        Typed::Input(input) => io_copy::write_all(&to, &input),
        Typed::Leave(input) => {
            let _ = io_copy::write_all(&to, &input);
            left = true;
            Err(io::ErrorKind::Interrupted.into())
        }
    });
    if left {
        leave();
        std::mem::forget(to);
    }
}

fn copy(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(body).context("cannot start a thread")
}

/// Waits for the container's end; notices are shown as they come.
fn wait(monitor: &Connection, raw: bool) -> Result<Left> {
    let end = if raw { "\r\n" } else { "\n" };
    loop {
        match next(monitor)? {
            Event::StartFailed { status, message } => return Err(failure(status, message)),
            Event::Refused(message) => return Err(failure(1, message)),
            Event::Notice(line) => eprint!("vmrun: {line}{end}"),
            Event::Exited { status, message } => {
                if let Some(message) = message {
                    eprint!("vmrun: {message}{end}");
                }
                return Ok(Left::Exited(status));
            }
            // The answer to the keys.
            Event::Done => return Ok(Left::Detached),
            _ => {}
        }
    }
}

/// The next event; an error where the monitor is gone.
pub fn next(monitor: &Connection) -> Result<Event> {
    match monitor.receive() {
        Ok(Some((event, _))) => Ok(event),
        // As a shell has it of a killed process.
        _ => Err(failure(137, "the container's monitor was killed".to_owned())),
    }
}

/// Whether `-t` has a terminal to work with.
pub fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}
