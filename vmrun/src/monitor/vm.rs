//! The VM process as the monitor sees it: started, heard, ended.

use std::{
    collections::VecDeque,
    io::{self, Read},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    process::{Child, ChildStderr, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::Duration,
};

use agent_protocol::{FrameError, write_frame};

use super::life::{Happened, Teller};
use crate::{
    cpu_group::CpuGroup,
    vm_process::{VmCommand, VmReport, VmSpec},
};

/// How much of the guest's console is kept: enough for a panic, whatever the guest writes.
const CONSOLE_KEPT: usize = 16 << 10;

/// How long the VM process, which reads at once unless it is broken, has to take a command.
const COMMAND_PATIENCE: Duration = Duration::from_secs(1);

/// Longest line of the console that is shown, in characters.
const MAX_LINE: usize = 300;

/// A VM process. Dropping it kills it.
#[derive(Debug)]
pub struct VmProcess {
    child: Child,
    /// Reports come in, commands go out.
    socket: UnixStream,
    console: Arc<Mutex<VecDeque<u8>>>,
    readers: Vec<JoinHandle<()>>,
    group: Option<CpuGroup>,
}

impl VmProcess {
    /// Starts the process, in this cgroup if there is one; gives the control connection with the
    /// agent too. Its reports arrive as [`Happened::Report`], its end as [`Happened::VmGone`].
    pub fn start(
        spec: &VmSpec,
        group: Option<CpuGroup>,
        happened: &Teller,
    ) -> io::Result<(Self, UnixStream)> {
        let (mut control, theirs) = UnixStream::pair()?;
        let mut command = Command::new("/proc/self/exe");
        let mut vm = Self::spawn(command.arg("vmm").stdin(OwnedFd::from(theirs)), happened)?;
        // This end of the guest's socket is to be the last one.
        drop(command);
        // It does nothing before it is told what to run.
        vm.group = group.filter(|group| group.admit(vm.child.id()).is_ok());
        write_frame(&mut control, spec).map_err(io::Error::other)?;
        Ok((vm, control))
    }

    /// Starts a command as the VM process, and listens to it.
    pub(super) fn spawn(command: &mut Command, happened: &Teller) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_write_timeout(Some(COMMAND_PATIENCE))?;
        let reports = socket.try_clone()?;
        let child = command.stdout(OwnedFd::from(theirs)).stderr(Stdio::piped()).spawn()?;
        // Their end is to be closed when the process ends.
        command.stdout(Stdio::null());
        let console = Arc::default();
        let mut vm =
            Self { child, socket, console: Arc::clone(&console), readers: Vec::new(), group: None };
        if let Some(stderr) = vm.child.stderr.take() {
            vm.readers.push(reader("console", move || keep_console(stderr, &console))?);
        }
        let happened = happened.clone();
        vm.readers.push(reader("reports", move || read_reports(reports, &happened))?);
        Ok(vm)
    }

    /// Has the guest stopped; [`VmReport::Paused`] tells when it is. A VM that ends instead tells
    /// only that.
    pub fn pause(&self) -> Result<(), FrameError> {
        self.command(&VmCommand::Pause)
    }

    /// Has the guest go on; [`VmReport::Resumed`] tells when it does.
    pub fn resume(&self) -> Result<(), FrameError> {
        self.command(&VmCommand::Resume)
    }

    fn command(&self, command: &VmCommand) -> Result<(), FrameError> {
        write_frame(&mut &self.socket, command)
    }

    /// Ends the process, if it has not ended, and waits for it.
    pub fn end(&mut self) -> io::Result<ExitStatus> {
        self.child.kill()?;
        let status = self.child.wait()?;
        self.group = None;
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        Ok(status)
    }

    /// Why the VM ended: by what the process reported, the guest's panic, or the signal that killed
    /// it. To be asked after [`Self::end`].
    pub fn cause(&self, status: ExitStatus, reported: Option<String>) -> String {
        let console = self.console.lock().map(|kept| kept.iter().copied().collect::<Vec<_>>());
        let console = String::from_utf8_lossy(&console.unwrap_or_default()).into_owned();
        if let Some(panic) = panic(&console) {
            return format!("the guest's kernel gave up: {panic}");
        }
        let last = console.lines().rfind(|line| !line.trim().is_empty()).map(printable);
        match (reported, status.signal(), last) {
            (Some(cause), _, None) => cause,
            (Some(cause), _, Some(last)) => format!("{cause}; last on its console: {last}"),
            (None, Some(signal), None) => format!("the VM process was killed by signal {signal}"),
            (None, Some(signal), Some(last)) => {
                format!("the VM process was killed by signal {signal}; its last words: {last}")
            }
            (None, None, last) => {
                format!("the VM process ended: {}", last.unwrap_or_else(|| status.to_string()))
            }
        }
    }
}

impl Drop for VmProcess {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// The panic of a kernel that tells of one, and what came before it: the fault, and where.
fn panic(console: &str) -> Option<String> {
    let line = |mark: &str| console.lines().find(|line| line.contains(mark)).map(printable);
    let panic = line("Kernel panic")?;
    // An oops says only "Fatal exception" at its end.
    let before = [line("BUG: "), line("Oops: "), line("RIP: ")];
    Some(before.into_iter().flatten().fold(panic, |all, line| format!("{all}; {line}")))
}

/// One line of a guest's text, fit for a terminal: no control characters, and not long.
pub fn printable(text: &str) -> String {
    let shown = text.trim().chars().take(MAX_LINE);
    shown.map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn reader(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(body)
}

fn keep_console(mut from: ChildStderr, kept: &Mutex<VecDeque<u8>>) {
    let mut chunk = [0; 1024];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        let Ok(mut kept) = kept.lock() else { return };
        kept.extend(&chunk[..count]);
        let excess = kept.len().saturating_sub(CONSOLE_KEPT);
        kept.drain(..excess);
    }
}

fn read_reports(mut from: UnixStream, happened: &Teller) {
    while let Ok(Some(report)) = agent_protocol::read_frame::<VmReport>(&mut from) {
        if happened.send(Happened::Report(report)).is_err() {
            return;
        }
    }
    let _ = happened.send(Happened::VmGone);
}

#[cfg(test)]
mod tests {
    use super::panic;

    #[test]
    fn panic_is_told_with_the_fault_before_it() {
        let console = "BUG: kernel NULL pointer dereference, address: 0000000000000008\r\n\
                       #PF: supervisor read access in kernel mode\r\n\
                       Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI\r\n\
                       RIP: 0010:some_function+0x12/0x40\r\n\
                       RIP: 0010:another+0x1/0x2\r\n\
                       Kernel panic - not syncing: Fatal exception\r\n";
        assert_eq!(
            panic(console).unwrap(),
            "Kernel panic - not syncing: Fatal exception; \
             BUG: kernel NULL pointer dereference, address: 0000000000000008; \
             Oops: Oops: 0000 [#1] PREEMPT SMP NOPTI; RIP: 0010:some_function+0x12/0x40"
        );
        assert_eq!(
            panic("Kernel panic - not syncing: no init\r\n").unwrap(),
            "Kernel panic - not syncing: no init"
        );
        assert_eq!(panic("BUG: soft lockup\r\n"), None);
    }
}
