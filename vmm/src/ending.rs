//! The end of the VM: told by whoever meets it, on any thread. The first one told is the one.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::exit::VmExit;

/// Shared by the threads that may meet the end and the one that waits for it.
#[derive(Debug)]
pub(crate) struct Ending {
    first: Mutex<Option<VmExit>>,
    told: OwnedFd,
}

impl Ending {
    pub(crate) fn new() -> io::Result<Self> {
        let told = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Self { first: Mutex::new(None), told })
    }

    /// Tells of an end; what comes after the first goes unheard.
    pub(crate) fn tell(&self, exit: VmExit) {
        let mut first = self.lock();
        if first.is_none() {
            *first = Some(exit);
            // The first write to a counter cannot fail.
            let _ = rustix::io::write(&self.told, &1_u64.to_ne_bytes());
        }
    }

    /// The end, once there is one.
    pub(crate) fn first(&self) -> Option<VmExit> {
        self.lock().clone()
    }

    pub(crate) fn is_told(&self) -> bool {
        self.lock().is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Option<VmExit>> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AsFd for Ending {
    /// Readable from the first end on, for ever.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }
}
