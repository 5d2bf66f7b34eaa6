//! A running VM as its owner steers it: stopped, let go, and waited for.
//!
//! All of it happens on the thread that called [`crate::LockedVm::run`]: it sleeps until there is an
//! order or the end. So steering takes no thread of its own, and none has to be allowed more than
//! it needs for its work.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use thiserror::Error;

use crate::brake::Brake;
use crate::ending::Ending;
use crate::exit::VmExit;
use crate::throttle::Throttle;

/// What it takes to steer a VM could not be had.
#[derive(Debug, Error)]
pub enum ControlError {
    #[error("cannot make an event")]
    Event(#[source] io::Error),
    #[error("cannot handle the signal that stops vCPUs")]
    Signal(#[source] vmm_sys_util::errno::Error),
}

/// Where orders to a running VM come from.
///
/// Everything here happens under the system call filter of [`crate::confine::ThreadKind::Main`]:
/// reading and writing what is open, waiting, allocating.
pub trait Orders {
    /// Readable when there is something to obey, and when no more will come.
    fn descriptor(&self) -> BorrowedFd<'_>;

    /// Takes one order and carries it out; false when no more will come.
    fn obey(&mut self, controller: &Controller) -> bool;
}

/// Steers a running VM.
#[derive(Clone, Debug)]
pub struct Controller {
    pub(crate) brake: Arc<Brake>,
    pub(crate) ending: Arc<Ending>,
}

impl Controller {
    pub(crate) fn new(throttle: Option<Throttle>) -> Result<Self, ControlError> {
        Ok(Self {
            brake: Brake::new(throttle).map_err(ControlError::Signal)?,
            ending: Arc::new(Ending::new().map_err(ControlError::Event)?),
        })
    }

    /// Stops the guest: true when every vCPU has left it and stands, false when the VM ended
    /// instead. Devices finish what they have in flight. Stopping a stopped guest changes nothing.
    ///
    /// It waits for a vCPU that is about to reset a device until that device's I/O has ended.
    #[must_use]
    pub fn pause(&self) -> bool {
        self.brake.pause(|| self.ending.is_told())
    }

    /// Lets the guest go on; its clocks have gone on all the time. Harmless when it is not stopped.
    pub fn resume(&self) {
        self.brake.resume();
    }
}

/// Waits for the end of the VM, and obeys until then.
pub(crate) fn until_the_end(
    controller: &Controller,
    mut orders: Option<&mut dyn Orders>,
) -> VmExit {
    loop {
        let ordered = wait(&controller.ending, orders.as_ref().map(|orders| orders.descriptor()));
        if let Some(end) = controller.ending.first() {
            return end;
        }
        match ordered {
            Ok(true) if !orders.as_mut().is_some_and(|orders| orders.obey(controller)) => {
                orders = None;
            }
            Ok(_) | Err(Errno::INTR) => {}
            // It cannot be waited for any longer.
            Err(_) => return VmExit::ThreadEnded { thread: "main".to_owned() },
        }
    }
}

/// Sleeps until the end has been told, or there is an order: true.
fn wait(ending: &Ending, orders: Option<BorrowedFd<'_>>) -> rustix::io::Result<bool> {
    let interest = |fd| PollFd::from_borrowed_fd(fd, PollFlags::IN);
    let waited_for = [Some(ending.as_fd()), orders].into_iter().flatten();
    let mut waited_for: Vec<_> = waited_for.map(interest).collect();
    poll(&mut waited_for, None)?;
    Ok(waited_for.get(1).is_some_and(|orders| !orders.revents().is_empty()))
}
