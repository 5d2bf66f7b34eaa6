//! The guest agent: PID 1 of a vmrun guest. It mounts the image and the writable disk, sets up the
//! container, starts its command in it, carries its streams, and tells the host how it ended.
//!
//! It is not a service manager, not a shell, and no part of the wall between guest and host: the
//! container's kernel is the agent's own, and the host trusts neither.
//!
//! # The way of a boot
//! The agent listens for streams, dials the host (without waiting), mounts everything that does not
//! depend on the container's settings, and enters its loop (`agent.rs`). The host asks for the
//! container with one message; from then on the agent only reacts.
//!
//! # One thread
//! The agent has a single thread and one epoll loop, and never a second thread. So a plain fork of
//! it (`clone.rs`) is a whole, sound process: the container's first process may allocate and use std
//! on its way to `execve`, with no lock held by a thread that is not there. Everything the loop
//! touches is non-blocking; the one thing that must wait for the disk, unmounting it, is done in a
//! forked process (`shutdown.rs`).
//!
//! # Memory
//! Nothing of the agent can be swapped or dropped: its file lies in the initramfs, which has no
//! disk behind it, and the guest has no swap. So `mlockall` would gain nothing. The OOM killer
//! never picks the guest's PID 1, and the container's memory limit leaves a reserve
//! (`container/cgroup.rs`).
//!
//! # Faults
//! A container that cannot be set up is an answer to the host. A fault of the agent itself, or of
//! the control connection, is one line on the serial port, and the end of the VM.

mod agent;
mod boot;
mod clone;
mod container;
mod control;
pub mod files;
pub mod layer;
mod poll;
mod processes;
mod reaper;
mod serial;
mod shutdown;
mod stats;
mod stream;
mod tasks;
mod trim;
mod vsock;

use std::error::Error;
use std::ffi::c_int;

use rustix::io::Errno;

/// Runs the agent until the VM ends. Returns only where the VM cannot be ended, with the exit
/// status for the process: as PID 1, that is a kernel panic.
#[must_use]
pub fn run() -> c_int {
    serial::report_panics();
    let Err(error) = agent::Agent::boot().and_then(agent::Agent::serve);
    if !error.is_host_gone() {
        serial::report(&describe(&error));
    }
    shutdown::restart();
    1
}

/// The error of the system call that has just failed.
fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

/// An error and its causes in one line.
fn describe(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        line.push_str(": ");
        line.push_str(&error.to_string());
        cause = error.source();
    }
    line
}
