//! `vmrun vmm`: the process that is the VM. Started by the monitor only.
//!
//! It is told what to run in one frame on stdin; the rest of that socket becomes the control
//! connection with the agent. Stdout is a socket too: reports leave by it and commands come in, one
//! frame each. Stderr is the guest's serial console and, before the guest runs, this process's own
//! words. It opens all it needs, then hands itself to [`vmm::Vm::lock`], which locks it in.

use std::{
    fs::{File, TryLockError},
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use agent_protocol::CONTROL_PORT;
use anyhow::{Context, Result, anyhow, bail};
use image_store::{RootKey, Store};
use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};
use vmm::{
    Controller, CpuQuota, DiskConfig, Orders, Vm, VmConfig,
    devices::virtio::{
        block::{Extent, FlushPolicy, HostEvents},
        vsock::{Cid, VsockConfig},
    },
    probe,
};

/// Name of the socket, in the container's runtime folder, by which the monitor dials the agent.
pub const VSOCK_SOCKET: &str = "vsock.sock";

/// Where KVM is.
pub const KVM: &str = "/dev/kvm";

/// The context id of every guest: each VM has a vsock of its own, so they need not differ.
const GUEST_CID: u64 = 3;

/// How long to wait for the disk to be let go by a VM whose monitor was killed.
const DISK_PATIENCE: Duration = Duration::from_secs(5);

/// What to run; the first frame on stdin.
#[derive(Debug, Serialize, Deserialize)]
pub struct VmSpec {
    pub monitor_pid: i32,
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    pub store: PathBuf,
    pub root: RootKey,
    pub disk: PathBuf,
    pub disk_bytes: u64,
    /// The disk is deleted after the run: flushes need not reach the host's disk.
    pub ephemeral: bool,
    pub memory_mib: u64,
    pub vcpus: u8,
    /// CPU time for all vCPUs together, in billionths of a CPU.
    pub nano_cpus: Option<u64>,
    pub runtime: PathBuf,
}

/// Told by the VM process.
#[derive(Debug, Serialize, Deserialize)]
pub enum VmReport {
    /// The host's disk is full; a request of the guest waits for room.
    DiskFull,
    /// There is room again.
    DiskResumed,
    /// Done as told by [`VmCommand::Pause`]: no vCPU runs any more.
    Paused,
    /// Done as told by [`VmCommand::Resume`].
    Resumed,
    /// The VM is over, for this reason; the process exits.
    Ended(String),
}

/// Told to the VM process while the guest runs.
#[derive(Debug, Serialize, Deserialize)]
pub enum VmCommand {
    /// Stop the guest. Answered unless the VM ends instead.
    Pause,
    /// Let the guest go on.
    Resume,
}

/// Runs the VM to its end.
pub fn run() -> Result<()> {
    let mut control = UnixStream::from(take_stdin()?);
    let spec: VmSpec =
        agent_protocol::read_frame(&mut control)?.context("nothing to run was given")?;
    die_with(spec.monitor_pid)?;
    let reports = Reports::new(io::stdout().as_fd().try_clone_to_owned()?);
    let ended = match boot(&spec, control, &reports) {
        Ok(exit) => exit,
        Err(error) => format!("{error:#}"),
    };
    reports.send(&VmReport::Ended(ended));
    Ok(())
}

fn boot(spec: &VmSpec, control: UnixStream, reports: &Reports) -> Result<String> {
    let kvm = probe::open_kvm(Path::new(KVM))?;
    let mut commands = Commands::new(reports.clone())?;
    let store = Store::open(&spec.store)?;
    let config = VmConfig {
        vcpus: spec.vcpus.try_into()?,
        cpu_quota: spec.nano_cpus.map(CpuQuota::try_from).transpose()?,
        memory: spec.memory_mib.try_into()?,
        kernel: open(&spec.kernel)?,
        initramfs: open(&spec.initramfs)?,
        cmdline: String::new(),
        disks: vec![root_disk(&store, &spec.root)?, writable_disk(spec)?],
        vsock: VsockConfig {
            guest_cid: Cid::try_from(GUEST_CID)?,
            listener: listen(&spec.runtime)?,
            guest_ports: vec![(CONTROL_PORT, control)],
        },
        serial: io::stderr().as_fd().try_clone_to_owned()?,
        events: Arc::new(reports.clone()),
        kept_open: vec![reports.descriptor(), commands.from.as_raw_fd()],
    };
    let vm = Vm::build(kvm, config)?.lock()?;
    Ok(vm.run_obeying(Some(&mut commands)).to_string())
}

fn root_disk(store: &Store, key: &RootKey) -> Result<DiskConfig> {
    let root = store.open_root(key)?;
    let extents = root.extents.into_iter().map(|extent| Extent {
        start: extent.start,
        length: extent.length,
        file: Arc::new(extent.file),
        offset: extent.offset,
    });
    Ok(DiskConfig::ReadOnly { extents: extents.collect(), size: root.size })
}

/// Opens the writable disk and locks it: whatever becomes of monitors, a disk has one VM.
fn writable_disk(spec: &VmSpec) -> Result<DiskConfig> {
    let path = &spec.disk;
    let cannot = || format!("cannot open the writable disk {}", path.display());
    let file = File::options().read(true).write(true).open(path).with_context(cannot)?;
    let deadline = Instant::now() + DISK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => {
                bail!("the writable disk {} is in use by another VM", path.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(cannot),
        }
    }
    let flush = if spec.ephemeral { FlushPolicy::Ignore } else { FlushPolicy::Durable };
    Ok(DiskConfig::Writable { file, size: spec.disk_bytes, flush })
}

fn listen(runtime: &Path) -> Result<UnixListener> {
    let path = runtime.join(VSOCK_SOCKET);
    let _ = std::fs::remove_file(&path);
    crate::monitor::bind(runtime, VSOCK_SOCKET)
        .with_context(|| format!("cannot listen at {}", path.display()))
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("cannot open {}", path.display()))
}

/// Takes the socket that is stdin away from it, so that it closes when its new owner closes it.
fn take_stdin() -> Result<OwnedFd> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    Ok(socket)
}

/// Sees to it that this process does not outlive its monitor.
fn die_with(monitor: i32) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // It may have died before the line above.
    if rustix::process::getppid() != Pid::from_raw(monitor) {
        return Err(anyhow!("the monitor is gone"));
    }
    Ok(())
}

/// Sends reports; shared with the devices' threads.
#[derive(Clone, Debug)]
struct Reports(Arc<Mutex<File>>);

impl Reports {
    fn new(to: OwnedFd) -> Self {
        Self(Arc::new(Mutex::new(File::from(to))))
    }

    fn descriptor(&self) -> i32 {
        self.0.lock().map_or(-1, |file| file.as_raw_fd())
    }

    /// A monitor that is gone hears nothing, and ends this process anyway.
    fn send(&self, report: &VmReport) {
        if let (Ok(mut file), Ok(frame)) = (self.0.lock(), agent_protocol::encode(report)) {
            let _ = file.write_all(&frame);
        }
    }
}

impl HostEvents for Reports {
    fn disk_full(&self, _disk: &str) {
        self.send(&VmReport::DiskFull);
    }

    fn disk_resumed(&self, _disk: &str) {
        self.send(&VmReport::DiskResumed);
    }
}

/// Obeys the commands that come in where the reports go out.
#[derive(Debug)]
struct Commands {
    from: File,
    reports: Reports,
}

impl Commands {
    fn new(reports: Reports) -> io::Result<Self> {
        Ok(Self { from: File::from(io::stdout().as_fd().try_clone_to_owned()?), reports })
    }
}

impl Orders for Commands {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.from.as_fd()
    }

    fn obey(&mut self, controller: &Controller) -> bool {
        let Ok(Some(command)) = agent_protocol::read_frame(&mut self.from) else { return false };
        match command {
            VmCommand::Pause if controller.pause() => self.reports.send(&VmReport::Paused),
            // It has ended, which is reported next.
            VmCommand::Pause => {}
            VmCommand::Resume => {
                controller.resume();
                self.reports.send(&VmReport::Resumed);
            }
        }
        true
    }
}
