//! Resource limits and the dumpable flag of the process.
//!
//! No limit on processes: KVM (since Linux 6.13, and in 6.12's stable releases) starts a worker
//! thread of its own in this process when the first vCPU runs, and that would fail. Threads of the
//! VMM cannot start any, their filters see to it.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Guest memory is not written to a core file, nor read by the user's other processes.
pub(super) fn forbid_dumps() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}
