//! The container's terminal: a pair of the container's own devpts, so that it has a name there.

use std::os::fd::OwnedFd;

use agent_protocol::WindowSize;
use rustix::ffi::CStr;
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use rustix::io;
use rustix::mount::mount_bind;
use rustix::process::ioctl_tiocsctty;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, ptsname, unlockpt};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::termios::{Winsize, tcsetwinsize};

const CONSOLE: &CStr = c"/dev/console";

/// Opens a terminal of the given size and makes it the session's and the standard streams; the
/// one of the image's command is shown as `/dev/console` too. Gives its master.
pub(super) fn take(size: WindowSize, console: bool) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let master = open(c"/dev/pts/ptmx", flags, Mode::empty())?;
    unlockpt(&master)?;
    resize(&master, size)?;
    let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let terminal = ioctl_tiocgptpeer(&master, peer)?;

    if console {
        mknodat(CWD, CONSOLE, FileType::RegularFile, Mode::from_bits_retain(0o600), 0)?;
        mount_bind(ptsname(&master, Vec::new())?.as_c_str(), CONSOLE)?;
    }

    ioctl_tiocsctty(&terminal)?;
    dup2_stdin(&terminal)?;
    dup2_stdout(&terminal)?;
    dup2_stderr(&terminal)?;
    Ok(master)
}

/// Sets the size of a terminal; the kernel tells its foreground processes.
pub(super) fn resize(terminal: &OwnedFd, size: WindowSize) -> io::Result<()> {
    let WindowSize { rows, columns } = size;
    tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })
}
