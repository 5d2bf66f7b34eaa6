//! The foreground side of a container: starts its monitor, joins the terminal or the pipes of the
//! user to it, and comes back with the exit status. When this process is killed, the container runs
//! on.

mod io_copy;
mod terminal;

use std::{
    io::{self, IsTerminal},
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use agent_protocol::Stream;
use anyhow::{Context, Result};
use signal_hook::{consts::signal, iterator::Signals};

use crate::{
    container::Container,
    error::failure,
    monitor::{Connection, Event, Request},
};
use terminal::RawTerminal;

/// How many interrupts without effect kill the container.
const PATIENCE_OF_INTERRUPTS: u32 = 3;

/// Which streams of the user's to join to the container's.
#[derive(Clone, Copy, Debug)]
pub struct Attachment {
    pub stdin: bool,
    pub terminal: bool,
}

/// Starts the container in the background and comes back when its command runs.
pub fn start_detached(container: &Container) -> Result<()> {
    let monitor = start_monitor(container)?;
    let attach = Request::Attach { stdin: false, stdout: false, stderr: false, size: None };
    monitor.send(&attach, &[]).context("the container's monitor is gone")?;
    loop {
        match next(&monitor)? {
            Event::Started | Event::Exited { .. } => return Ok(()),
            Event::StartFailed { status, message } => return Err(failure(status, message)),
            Event::Notice(line) => eprintln!("vmrun: {line}"),
        }
    }
}

/// Starts the container and stays with it to its end; gives the exit status.
pub fn start_attached(container: &Container, attachment: Attachment) -> Result<u8> {
    let signals = Signals::new(forwarded()).context("cannot take signals")?;
    let monitor = Arc::new(start_monitor(container)?);
    let raw = if attachment.terminal { RawTerminal::enter()? } else { None };
    let copies = attach(&monitor, attachment)?;
    let handle = signals.handle();
    let ended = Arc::new(AtomicBool::new(false));
    let forwarder = {
        let (monitor, ended) = (Arc::clone(&monitor), Arc::clone(&ended));
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || forward(signals, &monitor, &ended))
            .context("cannot start a thread")?
    };
    let outcome = wait(&monitor, raw.is_some());
    ended.store(true, Ordering::Relaxed);
    for copy in copies {
        let _ = copy.join();
    }
    handle.close();
    let _ = forwarder.join();
    drop(raw);
    outcome
}

/// Starts the monitor, connected to this process by a socket that is its stdin.
fn start_monitor(container: &Container) -> Result<Connection> {
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
fn attach(monitor: &Arc<Connection>, attachment: Attachment) -> Result<Vec<JoinHandle<()>>> {
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
        let stdin = io::stdin().as_fd().try_clone_to_owned()?;
        // Not waited for: it may stand in a read that never ends.
        copy("stdin", move || drop(io_copy::copy(&stdin, &stdin_write)))?;
    }
    let stdout = io::stdout().as_fd().try_clone_to_owned()?;
    let stderr = io::stderr().as_fd().try_clone_to_owned()?;
    let outputs = [(Stream::Stdout, stdout_read, stdout), (Stream::Stderr, stderr_read, stderr)];
    outputs
        .into_iter()
        .map(|(stream, from, to)| {
            let monitor = Arc::clone(monitor);
            copy("output", move || {
                if io_copy::copy(&from, &to).is_err() {
                    let _ = monitor.send(&Request::Close(stream), &[]);
                }
            })
        })
        .collect()
}

fn copy(name: &str, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(body).context("cannot start a thread")
}

/// Waits for the container's end; notices are shown as they come.
fn wait(monitor: &Connection, raw: bool) -> Result<u8> {
    let end = if raw { "\r\n" } else { "\n" };
    loop {
        match next(monitor)? {
            Event::Started => {}
            Event::StartFailed { status, message } => return Err(failure(status, message)),
            Event::Notice(line) => eprint!("vmrun: {line}{end}"),
            Event::Exited { status, message } => {
                if let Some(message) = message {
                    eprint!("vmrun: {message}{end}");
                }
                return Ok(status);
            }
        }
    }
}

fn next(monitor: &Connection) -> Result<Event> {
    match monitor.receive() {
        Ok(Some((event, _))) => Ok(event),
        // As a shell has it of a killed process.
        _ => Err(failure(137, "the container's monitor was killed".to_owned())),
    }
}

/// Signals that are passed on to the command, and the one that tells of a new window size.
fn forwarded() -> [i32; 12] {
    [
        signal::SIGHUP,
        signal::SIGINT,
        signal::SIGQUIT,
        signal::SIGTERM,
        signal::SIGUSR1,
        signal::SIGUSR2,
        signal::SIGCONT,
        signal::SIGALRM,
        signal::SIGTTIN,
        signal::SIGTTOU,
        signal::SIGIO,
        signal::SIGWINCH,
    ]
}

fn forward(mut signals: Signals, monitor: &Connection, ended: &AtomicBool) {
    let mut interrupts = 0;
    for number in signals.forever() {
        let request = if number == signal::SIGWINCH {
            let Some(size) = terminal::size() else { continue };
            Request::Resize(size)
        } else {
            if matches!(number, signal::SIGINT | signal::SIGTERM) {
                interrupts += 1;
            }
            let number = if interrupts >= PATIENCE_OF_INTERRUPTS {
                eprintln!("vmrun: {interrupts} interrupts without effect: killing the container");
                signal::SIGKILL
            } else {
                number
            };
            Request::Signal(u8::try_from(number).unwrap_or_default())
        };
        if monitor.send(&request, &[]).is_err() {
            return;
        }
        if ended.load(Ordering::Relaxed) && interrupts > 0 {
            // Only the user's own reader is left to wait for, and the user will not.
            std::process::exit(130);
        }
    }
}

/// Whether `-t` has a terminal to work with.
pub fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}
