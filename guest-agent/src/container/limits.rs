//! Resource limits that a Docker container starts with where they are not the kernel's own.

use rustix::io;
use rustix::process::{Resource, Rlimit, setrlimit};

/// Open files; also the most that the kernel allows (`fs.nr_open`).
const OPEN_FILES: u64 = 1 << 20;

/// Sets them; raising a limit takes root.
pub(super) fn apply() -> io::Result<()> {
    let files = Rlimit { current: Some(OPEN_FILES), maximum: Some(OPEN_FILES) };
    let unlimited = Rlimit { current: None, maximum: None };
    setrlimit(Resource::Nofile, files)?;
    setrlimit(Resource::Nproc, unlimited)?;
    setrlimit(Resource::Core, unlimited)
}
