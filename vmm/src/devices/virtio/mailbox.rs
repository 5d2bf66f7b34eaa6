//! How the driver-facing half of a device starts and stops its worker.
//!
//! ```text
//!              start              worker takes it            stop
//!   ┌▶ Idle ──────────▶ Starting ─────────────────▶ Running ─────▶ Stopping
//!   │   ▲                   │ stop                     │               │
//!   │   └───────────────────┘                          │ gives up      │ has ended
//!   └──────────────────────────────────────────────────┴───────────────┘
//!   either half dropped: Closed
//! ```
//!
//! `stop` returns in `Idle` or `Closed` only: then the worker holds no queue and no guest memory.
//! A worker that waits for kicks is woken by one: `stop` writes the kick of its first queue.

use super::{ActivateError, Activation};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use vmm_sys_util::eventfd::EventFd;

#[derive(Debug)]
enum Phase {
    Idle,
    Starting(Activation),
    Running(Arc<EventFd>),
    Stopping,
    Closed,
}

#[derive(Debug)]
struct Mailbox {
    phase: Mutex<Phase>,
    changed: Condvar,
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Phase> {
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, phase: Phase) {
        *self.lock() = phase;
        self.changed.notify_all();
    }
}

/// A device's hold on its worker.
#[derive(Debug)]
pub(super) struct WorkerHandle(Arc<Mailbox>);

/// A worker's end of the mailbox.
#[derive(Debug)]
pub(super) struct WorkerPort(Arc<Mailbox>);

/// Both ends, with the worker idle.
pub(super) fn worker() -> (WorkerHandle, WorkerPort) {
    let mailbox = Arc::new(Mailbox { phase: Mutex::new(Phase::Idle), changed: Condvar::new() });
    (WorkerHandle(Arc::clone(&mailbox)), WorkerPort(mailbox))
}

impl WorkerHandle {
    /// Hands the queues over.
    pub(super) fn start(&self, activation: Activation) -> Result<(), ActivateError> {
        let mut phase = self.0.lock();
        match *phase {
            Phase::Idle => {
                *phase = Phase::Starting(activation);
                self.0.changed.notify_all();
                Ok(())
            }
            Phase::Closed => Err(ActivateError::ThreadGone),
            Phase::Starting(_) | Phase::Running(_) | Phase::Stopping => Err(ActivateError::Active),
        }
    }

    /// Stops the worker and waits until it has let go of guest memory.
    pub(super) fn stop(&self) {
        let mut phase = self.0.lock();
        match &*phase {
            Phase::Idle | Phase::Closed => return,
            Phase::Starting(_) => {
                *phase = Phase::Idle;
                return;
            }
            Phase::Running(kick) => {
                // Cannot fail: the counter is nowhere near its end.
                let _ = kick.write(1);
                *phase = Phase::Stopping;
                self.0.changed.notify_all();
            }
            Phase::Stopping => {}
        }
        let stopped = self.0.changed.wait_while(phase, |phase| matches!(phase, Phase::Stopping));
        drop(stopped.unwrap_or_else(PoisonError::into_inner));
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        self.stop();
        self.0.set(Phase::Closed);
    }
}

impl WorkerPort {
    /// The body of a device's thread: calls `serve` for each activation until the device is
    /// dropped. `serve` returns soon after [`Self::stopping`] says so, or when it cannot go on.
    pub(super) fn run(self, mut serve: impl FnMut(Activation, &Self)) {
        while let Some(activation) = self.next() {
            serve(activation, &self);
            let mut phase = self.0.lock();
            if !matches!(*phase, Phase::Closed) {
                *phase = Phase::Idle;
            }
            self.0.changed.notify_all();
        }
    }

    fn next(&self) -> Option<Activation> {
        let idle = self.0.changed.wait_while(self.0.lock(), |phase| matches!(phase, Phase::Idle));
        let mut phase = idle.unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *phase, Phase::Closed) {
            Phase::Starting(activation) => {
                let kick = activation.queues.first().map(|first| Arc::clone(&first.kick));
                *phase = Phase::Running(kick?);
                Some(activation)
            }
            _ => None,
        }
    }

    /// Whether the worker must let go.
    pub(super) fn stopping(&self) -> bool {
        matches!(*self.0.lock(), Phase::Stopping | Phase::Closed)
    }

    /// Waits for `time`, less when the worker must let go; returns whether it must.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let waited = self
            .0
            .changed
            .wait_timeout_while(self.0.lock(), time, |phase| matches!(phase, Phase::Running(_)));
        let (phase, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !matches!(*phase, Phase::Running(_))
    }
}

impl Drop for WorkerPort {
    fn drop(&mut self) {
        self.0.set(Phase::Closed);
    }
}
