//! A conversation with the monitor of a container: what is asked of it, one thing at a time.

use std::{
    io::{self, Read},
    net::Shutdown,
    os::unix::net::UnixStream,
    path::PathBuf,
    thread::{self, JoinHandle},
    time::Duration,
};

use agent_protocol::{ExitStatus, ProcessId, Stream, Task, Work};
use anyhow::{Context, Result, bail};

use super::{Left, connect, next, start_monitor};
use crate::{
    container::{Container, Containers},
    error::failure,
    monitor::{self, Connection, Event, Request, printable},
    paths::Paths,
};

/// Longest complaint of a task that is shown, in bytes.
const MAX_COMPLAINT: u64 = 4096;

/// Tries at getting hold of a container that is being started or ended by somebody else.
const TRIES: u32 = 300;
const PAUSE: Duration = Duration::from_millis(100);

/// A connection that is kept. What it was opened for ends with it.
#[derive(Debug)]
pub struct Session {
    monitor: Connection,
    runtime: PathBuf,
}

impl Session {
    /// With a container that runs.
    pub fn with_running(paths: &Paths, container: &Container) -> Result<Self> {
        let runtime = paths.runtime_of(container.record.id.as_str());
        Ok(Self { monitor: connect(paths, container)?, runtime })
    }

    /// With the files of a container, whether it runs or not: one that does not has its VM booted
    /// without its command, for as long as this is kept.
    pub fn with_files(
        paths: &Paths,
        containers: &Containers,
        container: &Container,
    ) -> Result<Self> {
        let runtime = paths.runtime_of(container.record.id.as_str());
        for _ in 0..TRIES {
            let monitor = match connect(paths, container) {
                Ok(monitor) => monitor,
                // It is about to end, or to be started again.
                Err(_) if containers.status(container)?.is_running() => {
                    thread::sleep(PAUSE);
                    continue;
                }
                Err(_) => start_monitor(container)?,
            };
            let session = Self { monitor, runtime: runtime.clone() };
            if session.hold()? {
                return Ok(session);
            }
            thread::sleep(PAUSE);
        }
        bail!("container {} is in use all the time", container.record.id.short())
    }

    /// Asks for the container's files; whether they can be had of this monitor. One that ends has
    /// none any more, one that does not come to be has been forestalled.
    fn hold(&self) -> Result<bool> {
        if self.send(&Request::Hold).is_err() {
            return Ok(false);
        }
        loop {
            match self.monitor.receive() {
                Ok(Some((Event::Done, _))) => return Ok(true),
                Ok(Some((Event::StartFailed { status, message }, _))) => {
                    return Err(failure(status, message));
                }
                Ok(Some((Event::Refused(_) | Event::Exited { .. }, _)) | None) | Err(_) => {
                    return Ok(false);
                }
                Ok(Some(_)) => {}
            }
        }
    }

    /// Asks for something that is done or refused.
    pub fn ask(&self, request: &Request) -> Result<()> {
        self.send(request)?;
        loop {
            match next(&self.monitor)? {
                Event::Done => return Ok(()),
                Event::Refused(why) => bail!("{why}"),
                Event::StartFailed { status, message } => return Err(failure(status, message)),
                Event::Exited { .. } => bail!("the container has ended"),
                _ => {}
            }
        }
    }

    /// Tells without waiting for an answer.
    pub fn send(&self, request: &Request) -> Result<()> {
        self.monitor.send(request, &[]).context("the container's monitor is gone")
    }

    /// Waits for the end of the container; gives its exit status.
    pub fn wait(&self) -> Result<u8> {
        loop {
            match next(&self.monitor)? {
                Event::Exited { status, .. } | Event::StartFailed { status, .. } => {
                    return Ok(status);
                }
                Event::Refused(why) => bail!("{why}"),
                _ => {}
            }
        }
    }

    /// Starts a process beside the command; an error has Docker's exit status.
    pub fn exec(&self, work: Work) -> Result<ProcessId> {
        self.send(&Request::Exec(Box::new(work)))?;
        loop {
            match next(&self.monitor)? {
                Event::ExecStarted { process } => return Ok(process),
                Event::ExecFailed { reason, message } => {
                    return Err(failure(super::exec::status_of(reason), message));
                }
                Event::Exited { .. } => bail!("the container has ended"),
                _ => {}
            }
        }
    }

    /// Waits for the end of a process; none if the container ended first.
    pub fn wait_for(&self, process: ProcessId) -> Result<Option<ExitStatus>> {
        loop {
            match next(&self.monitor)? {
                Event::ExecEnded { process: ended, status } if ended == process => {
                    return Ok(Some(status));
                }
                Event::Exited { .. } => return Ok(None),
                _ => {}
            }
        }
    }

    /// Dials a stream of a process.
    pub fn dial(&self, process: ProcessId, stream: Stream) -> Result<UnixStream> {
        let dialled = monitor::dial(&self.runtime, process, stream).and_then(|mut socket| {
            monitor::read_answer(&mut socket)?;
            Ok(socket)
        });
        dialled.context("cannot reach the guest")
    }

    /// Waits for the end of a process, or until the user leaves it by the detach keys; none if the
    /// container ended first.
    pub(super) fn wait_for_or_leave(&self, process: ProcessId) -> Result<Option<Left>> {
        loop {
            match next(&self.monitor)? {
                Event::ExecEnded { process: ended, status } if ended == process => {
                    return Ok(Some(Left::Exited(status.cause.shell_status())));
                }
                Event::Done => return Ok(Some(Left::Detached)),
                Event::Exited { .. } => return Ok(None),
                _ => {}
            }
        }
    }

    pub fn monitor(&self) -> &Connection {
        &self.monitor
    }

    /// Begins a task whose output is to be read.
    pub fn read(&self, task: Task) -> Result<TaskOutput<'_>> {
        let process = self.exec(Work::Task(task))?;
        let stdout = self.dial(process, Stream::Stdout)?;
        let complaint = self.complaint(process)?;
        Ok(TaskOutput { session: self, process, stdout, complaint: Some(complaint) })
    }

    /// Performs a task that reads what is given.
    pub fn write(&self, task: Task, input: &mut dyn Read) -> Result<()> {
        let process = self.exec(Work::Task(task))?;
        let mut stdin = self.dial(process, Stream::Stdin)?;
        let stdout = self.dial(process, Stream::Stdout)?;
        let complaint = self.complaint(process)?;
        let copied = io::copy(input, &mut stdin);
        let _ = stdin.shutdown(Shutdown::Write);
        drop(stdout);
        // A task that has given up reads no more; its own complaint says more than that.
        self.finish(process, complaint)?;
        copied.context("cannot send what is to be written")?;
        Ok(())
    }

    /// Reads what a task complains of.
    fn complaint(&self, process: ProcessId) -> Result<JoinHandle<String>> {
        let stderr = self.dial(process, Stream::Stderr)?;
        let read = move || {
            let mut text = Vec::new();
            let _ = stderr.take(MAX_COMPLAINT).read_to_end(&mut text);
            printable(&String::from_utf8_lossy(&text))
        };
        thread::Builder::new().spawn(read).context("cannot start a thread")
    }

    fn finish(&self, process: ProcessId, complaint: JoinHandle<String>) -> Result<()> {
        let status = self.wait_for(process)?;
        let complaint = complaint.join().unwrap_or_default();
        match status.map(|status| status.cause.shell_status()) {
            Some(0) => Ok(()),
            Some(_) if !complaint.is_empty() => bail!("{complaint}"),
            Some(status) => bail!("the guest failed with status {status}"),
            None => bail!("the container has ended"),
        }
    }
}

/// What a task writes; its failure is one of reading the end.
#[derive(Debug)]
pub struct TaskOutput<'a> {
    session: &'a Session,
    process: ProcessId,
    stdout: UnixStream,
    complaint: Option<JoinHandle<String>>,
}

impl Read for TaskOutput<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let count = match self.stdout.read(into) {
            // A VM that has ended resets what it had open.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
            other => other?,
        };
        if count == 0
            && let Some(complaint) = self.complaint.take()
        {
            // The guest keeps the connection until this side is closed, too.
            let _ = self.stdout.shutdown(Shutdown::Both);
            self.session.finish(self.process, complaint).map_err(io::Error::other)?;
        }
        Ok(count)
    }
}
