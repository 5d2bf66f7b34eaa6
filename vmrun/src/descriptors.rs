//! Descriptors that a process was started with and does not want.

use std::io;

/// Closes every descriptor but stdin, stdout and stderr: whatever a shell, an editor or a test left
/// open for its children is not the business of a process that outlives them.
///
/// To be called as the first thing a process does.
pub fn close_inherited() -> io::Result<()> {
    const FIRST: libc::c_uint = 3;
    // SAFETY: the process has just begun and has one thread; nothing in it has opened or been
    // given a descriptor above stderr yet, so none that is closed here has an owner.
    match unsafe { libc::close_range(FIRST, libc::c_uint::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
