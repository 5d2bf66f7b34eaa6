//! Starts threads that lock themselves in and then wait, until all are locked in, for the guest to
//! begin.
//!
//! ```text
//!   Starter::spawn ──▶ prepare ──▶ filter ──▶ ready ──▶ wait at the gate ──▶ body
//!   Starter::finish    collects every ready
//!   LockedThreads::open_gate                        opens it
//! ```

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use super::LockError;
use super::seccomp::{Filters, ThreadKind};

/// What a thread tells when it has, or could not get, its filter.
type Ready = Result<(), LockError>;

/// Starts the threads of a VM.
#[derive(Debug)]
pub(crate) struct Starter {
    filters: Arc<Filters>,
    gate: Arc<Gate>,
    ready: (Sender<Ready>, Receiver<Ready>),
    started: usize,
}

impl Starter {
    /// Threads started here get their filters from `filters`.
    pub(crate) fn new(filters: Arc<Filters>) -> Self {
        Self { filters, gate: Arc::default(), ready: channel(), started: 0 }
    }

    /// Starts a thread that installs the filter of its kind before anything else but `prepare`,
    /// which may still do what the filter will not allow.
    pub(crate) fn spawn(
        &mut self,
        name: &str,
        kind: ThreadKind,
        prepare: impl FnOnce() -> io::Result<()> + Send + 'static,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), LockError> {
        let (filters, gate) = (self.filters.clone(), self.gate.clone());
        let ready = self.ready.0.clone();
        let lost = |name: &str| {
            let name = name.to_owned();
            move |source| LockError::Spawn { name, source }
        };
        let unprepared = lost(name);
        let locked_body = move || {
            let prepared = prepare().map_err(unprepared);
            let installed = prepared.and_then(|()| Ok(filters.install(kind)?));
            let locked_in = installed.is_ok();
            // The receiver is gone only when the VM is given up.
            let told = ready.send(installed).is_ok();
            drop((ready, filters));
            if locked_in && told {
                gate.wait();
                body();
            }
        };
        let spawned = thread::Builder::new().name(name.to_owned()).spawn(locked_body);
        spawned.map_err(lost(name))?;
        self.started += 1;
        Ok(())
    }

    /// Waits until every thread is locked in.
    pub(crate) fn finish(self) -> Result<LockedThreads, LockError> {
        let (sender, ready) = self.ready;
        drop(sender);
        for _ in 0..self.started {
            ready.recv().map_err(|_| LockError::ThreadLost)??;
        }
        Ok(LockedThreads { gate: self.gate, count: self.started })
    }
}

/// Threads that are locked in and wait.
#[derive(Debug)]
pub(crate) struct LockedThreads {
    gate: Arc<Gate>,
    count: usize,
}

impl LockedThreads {
    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Lets all of them go.
    pub(crate) fn open_gate(&self) {
        *self.gate.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.gate.opened.notify_all();
    }
}

#[derive(Debug, Default)]
struct Gate {
    open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn wait(&self) {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = self.opened.wait_while(open, |open| !*open);
        drop(opened.unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn bodies_wait_for_the_gate_under_their_filters() {
        let filters = Arc::new(Filters::compile().unwrap());
        let mut starter = Starter::new(filters);
        let (sender, results) = channel();
        for name in ["one", "two"] {
            let sender = sender.clone();
            let body = move || sender.send(name).unwrap();
            starter.spawn(name, ThreadKind::Plain, || Ok(()), body).unwrap();
        }
        let threads = starter.finish().unwrap();
        assert_eq!(threads.count(), 2);
        assert!(results.recv_timeout(Duration::from_millis(20)).is_err());
        threads.open_gate();
        let mut ran: Vec<_> = results.iter().take(2).collect();
        ran.sort_unstable();
        assert_eq!(ran, ["one", "two"]);
    }
}
