//! A VM from the moment it is built until its guest ends.
//!
//! ```text
//!   Vm::build ──▶ Vm ──lock──▶ LockedVm ──run──▶ VmExit
//!                     threads wait        guest runs
//! ```

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use kvm_ioctls::VmFd;

use crate::confine::{self, Filters, LockError, LockReport, LockedThreads, Starter, ThreadKind};
use crate::devices::legacy::Serial;
use crate::devices::virtio::DeviceThread;
use crate::exit::VmExit;
use crate::vcpu::Vcpu;

/// A VM could not be run.
pub type RunError = LockError;

/// A VM that is ready to run. [`Vm::build`] makes it.
#[derive(Debug)]
pub struct Vm {
    pub(crate) fd: VmFd,
    pub(crate) vcpus: Vec<Vcpu>,
    pub(crate) device_threads: Vec<DeviceThread>,
    pub(crate) serial: Arc<Serial>,
    pub(crate) ends: (Sender<VmExit>, Receiver<VmExit>),
}

impl Vm {
    /// Locks the process in and runs the guest until it ends.
    ///
    /// It returns while other threads may still run: the caller reports and exits the process.
    ///
    /// # Errors
    /// As [`Vm::lock`].
    pub fn run(self) -> Result<VmExit, RunError> {
        Ok(self.lock()?.run())
    }

    /// Starts all threads and locks the process in, as [`confine`] says; the guest does not run yet.
    ///
    /// # Errors
    /// When a restriction that this kernel has is refused, or a thread cannot be started. The
    /// process may be locked in partly then: exit it.
    pub fn lock(self) -> Result<LockedVm, LockError> {
        let filters = Arc::new(Filters::compile()?);
        let (landlock, descriptors) = confine::restrict_process()?;
        let (end, ends) = self.ends;
        let mut starter = Starter::new(filters.clone());
        for DeviceThread { name, kind, body } in self.device_threads {
            let guard = EndGuard { thread: name.clone(), end: end.clone() };
            let guarded = move || {
                let _guard = guard;
                body();
            };
            starter.spawn(&name, kind.into(), guarded)?;
        }
        for mut vcpu in self.vcpus {
            let name = format!("vcpu{}", vcpu.id);
            let guard = EndGuard { thread: name.clone(), end: end.clone() };
            let run = move || {
                // A receiver that is gone has heard of another end. Only then may the vCPU be
                // dropped, and with the last one the devices: their threads end with them.
                let _ = guard.end.send(vcpu.run());
                drop(vcpu);
            };
            starter.spawn(&name, ThreadKind::Vcpu, run)?;
        }
        let threads = starter.finish()?;
        filters.install(ThreadKind::Main)?;
        let report = LockReport { landlock, threads: threads.count() + 1, descriptors };
        Ok(LockedVm { _fd: self.fd, threads, serial: self.serial, ends, report })
    }
}

/// A VM in a process that is locked in.
#[derive(Debug)]
pub struct LockedVm {
    /// The irqfds and ioeventfds of the VM live as long as it.
    _fd: VmFd,
    threads: LockedThreads,
    serial: Arc<Serial>,
    ends: Receiver<VmExit>,
    report: LockReport,
}

impl LockedVm {
    /// What the lock achieved.
    #[must_use]
    pub fn report(&self) -> &LockReport {
        &self.report
    }

    /// Runs the guest until it ends. Other threads may still run then: exit the process.
    #[must_use]
    pub fn run(self) -> VmExit {
        self.threads.open_gate();
        let end = self
            .ends
            .recv()
            .unwrap_or_else(|_| VmExit::ThreadEnded { thread: "of every kind".to_owned() });
        match (end, self.serial.finish()) {
            (VmExit::Reset, Some(message)) => VmExit::Panic { message },
            (end, _) => end,
        }
    }
}

/// Ends the VM when its thread ends, for whatever reason: a guest without one of its devices would
/// hang. After the end of the VM nobody listens.
struct EndGuard {
    thread: String,
    end: Sender<VmExit>,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        let _ = self.end.send(VmExit::ThreadEnded { thread: std::mem::take(&mut self.thread) });
    }
}
