//! The frame of a run: what the monitor sets up before the VM lives and leaves behind after it.

use std::{cell::Cell, io, os::fd::AsFd, path::Path, sync::mpsc};

use anyhow::{Context, Result};
use jiff::Timestamp;

use super::{
    CONTROL_SOCKET,
    clients::Clients,
    guest::Agent,
    life::{FAILED, Life, Milestone, Outcome},
    patience::Patience,
    protocol::{Connection, Event, Listener},
    vm::VmProcess,
};
use crate::{
    container::{Container, ContainerId, Containers, Exit, RunLock, State},
    paths::{GuestFiles, Paths, make_private},
    vm_process::VmSpec,
};

/// Events that may wait for the deciding thread. Who has more to tell waits: what a guest makes the
/// monitor hold is bounded.
const WAITING: usize = 64;

/// Runs a container from start to end. The first client is connected to stdin; it asks to attach
/// first, and is told of every failure from then on.
pub fn run(id: &str) -> Result<()> {
    let _ = rustix::process::setsid();
    let first = Connection::from(io::stdin().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    if let Err(error) = start_to_end(id, &first) {
        let message = format!("{error:#}");
        let _ = first.send(&Event::StartFailed { status: FAILED, message }, &[]);
    }
    Ok(())
}

/// Which container runs, and since when.
struct Run {
    containers: Containers,
    container: Container,
    lock: RunLock,
    /// When the monitor began, then when the command did.
    started: Cell<Timestamp>,
}

fn start_to_end(id: &str, first: &Connection) -> Result<()> {
    let paths = Paths::from_env()?;
    let guest = paths.guest()?;
    let containers = Containers::new(paths.clone());
    let container = containers.open(&ContainerId::try_from(id.to_owned())?)?;
    let lock = containers.begin_run(&container)?;
    let run = Run { containers, container, lock, started: Cell::new(Timestamp::now()) };

    let runtime = paths.runtime_of(id);
    make_private(&runtime)?;
    let lived = run.live(&paths, &guest, &runtime, first);
    let _ = std::fs::remove_dir_all(&runtime);
    match lived {
        Ok((clients, outcome)) => {
            run.settle(&outcome.exit);
            clients.tell(&outcome.event);
            Ok(())
        }
        Err(error) => {
            let message = format!("{error:#}");
            run.settle(&Exit { status: FAILED, oom_killed: false, error: Some(message) });
            Err(error)
        }
    }
}

impl Run {
    /// Starts the VM and lives with it; when this returns the VM has let go of the disk.
    fn live(
        &self,
        paths: &Paths,
        guest: &GuestFiles,
        runtime: &Path,
        first: &Connection,
    ) -> Result<(Clients, Outcome)> {
        let (happened, events) = mpsc::sync_channel(WAITING);
        let patience = Patience::default();
        let spec = self.vm_spec(paths, guest, runtime);
        let (vm, control) =
            VmProcess::start(&spec, &happened).context("cannot start the VM process")?;
        // While the guest boots:
        let agent = Agent::new(control, patience.send, happened.clone())
            .context("cannot start a thread")?;
        let mut clients = Clients::new(happened.clone());
        let listener = Listener::bind(runtime, CONTROL_SOCKET)
            .with_context(|| format!("cannot listen in {}", runtime.display()))?;
        clients.listen(listener).context("cannot start a thread")?;
        self.container.set_state(&State::Starting, &self.lock)?;
        // What the first client asks comes before all else, so that no output is lost.
        let first = clients.add_first(first)?;
        let record = self.container.record.clone();
        let mut life = Life::new(record, runtime, happened, clients, agent, vm, patience);
        let outcome = life.live(first, events, &|milestone| match milestone {
            Milestone::Started => self.record_start(),
            Milestone::Ended(exit) => self.record(&exit),
        })?;
        Ok((life.end(), outcome))
    }

    fn vm_spec(&self, paths: &Paths, guest: &GuestFiles, runtime: &Path) -> VmSpec {
        let record = &self.container.record;
        VmSpec {
            monitor_pid: rustix::process::getpid().as_raw_nonzero().get(),
            kernel: guest.kernel.clone(),
            initramfs: guest.initramfs.clone(),
            store: paths.data().to_owned(),
            root: record.image.root,
            disk: self.container.disk(),
            disk_bytes: record.resources.disk.bytes(),
            ephemeral: record.remove_on_exit,
            memory_mib: record.resources.memory_mib,
            vcpus: record.resources.vcpus,
            runtime: runtime.to_owned(),
        }
    }

    /// Records the end, or removes the container, and lets go of it: whoever hears of the end finds
    /// it free. A failure has nobody to be told to but the next one who looks at the container.
    fn settle(self, exit: &Exit) {
        if self.container.record.remove_on_exit {
            let _ = self.containers.remove_locked(&self.container, &self.lock);
        } else {
            self.record(exit);
        }
    }

    fn record_start(&self) {
        let started = Timestamp::now();
        self.started.set(started);
        let _ = self.container.set_state(&State::Running { started }, &self.lock);
    }

    fn record(&self, exit: &Exit) {
        let (started, finished) = (self.started.get(), Timestamp::now());
        let state = State::Exited { started, finished, exit: exit.clone() };
        let _ = self.container.set_state(&state, &self.lock);
    }
}
