//! Which system calls change files, and which files.

use std::path::PathBuf;

use libc::c_long;

use crate::trace::Call;

/// The file or folder that a call is about to change or to make durable; `None` for calls that do
/// neither, or that have to do with no file.
pub fn changed(call: &Call) -> Option<PathBuf> {
    match call.number {
        libc::SYS_write
        | libc::SYS_writev
        | libc::SYS_pwrite64
        | libc::SYS_pwritev
        | libc::SYS_pwritev2
        | libc::SYS_sendfile
        | libc::SYS_ftruncate
        | libc::SYS_fallocate
        | libc::SYS_fsync
        | libc::SYS_fdatasync
        | libc::SYS_fchmod => call.file(0),
        libc::SYS_copy_file_range => call.file(2),
        libc::SYS_open if opens_to_change(call.args[1]) => Some(call.path(None, 0)),
        libc::SYS_openat if opens_to_change(call.args[2]) => Some(call.path(Some(0), 1)),
        libc::SYS_mkdir | libc::SYS_rmdir | libc::SYS_unlink | libc::SYS_chmod => {
            Some(call.path(None, 0))
        }
        libc::SYS_mkdirat | libc::SYS_unlinkat | libc::SYS_fchmodat => Some(call.path(Some(0), 1)),
        libc::SYS_rename | libc::SYS_link | libc::SYS_symlink => Some(call.path(None, 1)),
        libc::SYS_renameat | libc::SYS_renameat2 | libc::SYS_linkat => Some(call.path(Some(2), 3)),
        libc::SYS_symlinkat => Some(call.path(Some(1), 2)),
        libc::SYS_bind => call.socket(),
        _ => None,
    }
}

fn opens_to_change(flags: u64) -> bool {
    let change = libc::O_CREAT | libc::O_TRUNC;
    flags & u64::from(change.cast_unsigned()) != 0
}

/// How a call is named in messages.
pub fn name(number: c_long) -> String {
    let known = [
        (libc::SYS_write, "write"),
        (libc::SYS_pwrite64, "pwrite64"),
        (libc::SYS_ftruncate, "ftruncate"),
        (libc::SYS_fsync, "fsync"),
        (libc::SYS_openat, "openat"),
        (libc::SYS_mkdir, "mkdir"),
        (libc::SYS_rename, "rename"),
        (libc::SYS_unlink, "unlink"),
        (libc::SYS_unlinkat, "unlinkat"),
        (libc::SYS_rmdir, "rmdir"),
        (libc::SYS_bind, "bind"),
    ];
    let known = known.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| format!("system call {number}"), |(_, name)| (*name).to_owned())
}
