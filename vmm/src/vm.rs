//! A VM from the moment it is built until its guest ends.
//!
//! ```text
//!   Vm::build ──▶ Vm ──lock──▶ LockedVm ──run──▶ VmExit
//!                     threads wait        guest runs
//! ```

use std::sync::Arc;

use kvm_ioctls::VmFd;

use crate::brake::tick_each;
use crate::confine::{self, Filters, LockError, LockReport, LockedThreads, Starter, ThreadKind};
use crate::control::{self, Controller, Orders};
use crate::devices::legacy::Serial;
use crate::devices::virtio::DeviceThread;
use crate::ending::Ending;
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
    pub(crate) controller: Controller,
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
        let ending = self.controller.ending.clone();
        let mut starter = Starter::new(filters.clone());
        for DeviceThread { name, kind, body } in self.device_threads {
            let guard = EndGuard { thread: name.clone(), ending: ending.clone() };
            let guarded = move || {
                let _guard = guard;
                body();
            };
            starter.spawn(&name, kind.into(), || Ok(()), guarded)?;
        }
        for mut vcpu in self.vcpus {
            let name = format!("vcpu{}", vcpu.id);
            let guard = EndGuard { thread: name.clone(), ending: ending.clone() };
            let tick = vcpu.seat.tick();
            let run = move || {
                guard.ending.tell(vcpu.run());
                // Only then: with the last vCPU go the devices, and their threads tell of that.
                drop(vcpu);
            };
            let prepare = move || tick.map_or(Ok(()), tick_each);
            starter.spawn(&name, ThreadKind::Vcpu, prepare, run)?;
        }
        let threads = starter.finish()?;
        filters.install(ThreadKind::Main)?;
        let report = LockReport { landlock, threads: threads.count() + 1, descriptors };
        let Self { fd, serial, controller, .. } = self;
        Ok(LockedVm { _fd: fd, threads, serial, controller, report })
    }
}

/// A VM in a process that is locked in.
#[derive(Debug)]
pub struct LockedVm {
    /// The irqfds and ioeventfds of the VM live as long as it.
    _fd: VmFd,
    threads: LockedThreads,
    serial: Arc<Serial>,
    controller: Controller,
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
        self.run_obeying(None)
    }

    /// As [`Self::run`], and meanwhile takes orders from outside, on this thread.
    #[must_use]
    pub fn run_obeying(self, orders: Option<&mut dyn Orders>) -> VmExit {
        self.threads.open_gate();
        match (control::until_the_end(&self.controller, orders), self.serial.finish()) {
            (VmExit::Reset, Some(message)) => VmExit::Panic { message },
            (end, _) => end,
        }
    }
}

/// Ends the VM when its thread ends, for whatever reason: a guest without one of its devices would
/// hang. After the end of the VM nobody listens.
struct EndGuard {
    thread: String,
    ending: Arc<Ending>,
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.ending.tell(VmExit::ThreadEnded { thread: std::mem::take(&mut self.thread) });
    }
}
