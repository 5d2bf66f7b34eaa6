//! Resource limits: those that a Docker container starts with where they are not the kernel's own,
//! then those that were asked for.

use agent_protocol::Limit;
use rustix::io;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::last_error;

/// Open files; also the most that the kernel allows (`fs.nr_open`).
const OPEN_FILES: u64 = 1 << 20;

/// Sets them; raising a limit takes root.
pub(super) fn apply(wanted: &[Limit]) -> io::Result<()> {
    let files = Rlimit { current: Some(OPEN_FILES), maximum: Some(OPEN_FILES) };
    let unlimited = Rlimit { current: None, maximum: None };
    setrlimit(Resource::Nofile, files)?;
    setrlimit(Resource::Nproc, unlimited)?;
    setrlimit(Resource::Core, unlimited)?;
    wanted.iter().try_for_each(set)
}

/// Sets one by the kernel's number, which need not be one that rustix has a name for.
fn set(limit: &Limit) -> io::Result<()> {
    let value = |limit: Option<u64>| limit.unwrap_or(libc::RLIM_INFINITY);
    let limits = libc::rlimit { rlim_cur: value(limit.soft), rlim_max: value(limit.hard) };
    // SAFETY: the call reads one `rlimit`, which outlives it; a number that names no resource is
    // refused by the kernel.
    match unsafe { libc::setrlimit(limit.resource.into(), &raw const limits) } {
        0 => Ok(()),
        _ => Err(last_error()),
    }
}
