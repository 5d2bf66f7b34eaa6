//! A process of the container, from its birth to its command. It runs in a fork of the agent, in
//! the container's cgroup, and never returns. The first one is in new namespaces, which it fills;
//! those after it join them.
//!
//! The order matters: descriptors go first, so that no name of the image (`/proc/self/fd/7` as
//! working directory) leads to something of the agent's; what needs root comes before the user;
//! the command is looked up as the user, as `execve` will see it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::panic;

use agent_protocol::{ContainerSpec, ProcessSpec, StartFailure};
use rustix::fs::{Gid, Mode, Uid};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, chdir, set_dumpable_behavior, setsid, umask};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::system::sethostname;
use rustix::thread::{
    ThreadNameSpaceType, UnshareFlags, move_into_thread_name_spaces, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid, unshare_unsafe,
};

use super::command::{Command, CommandError};
use super::environment::{Environment, EnvironmentError};
use super::identity_files::IdentityFiles;
use super::rootfs::RootfsError;
use super::sysctl::SysctlError;
use super::user::{Identity, UserError};
use super::{
    Rights, Stdio, capabilities, channel, dev, limits, paths, rootfs, sysctl, terminal, tmpfs,
};
use crate::reaper::unblock_signals;
use crate::serial::exit;

/// File mode mask of the command.
const UMASK: Mode = Mode::from_bits_retain(0o022);

/// What a joining process shares with the container's first one. Its pid namespace it was born into,
/// and the network is the guest's.
const CONTAINER_NAMESPACES: ThreadNameSpaceType = ThreadNameSpaceType::MOUNT
    .union(ThreadNameSpaceType::CONTROL_GROUP)
    .union(ThreadNameSpaceType::HOST_NAME_AND_NIS_DOMAIN_NAME)
    .union(ThreadNameSpaceType::INTER_PROCESS_COMMUNICATION);

/// Why the command could not be reached.
#[derive(Debug, thiserror::Error)]
enum ChildError {
    #[error("cannot {what}")]
    Kernel {
        what: &'static str,
        #[source]
        cause: Errno,
    },
    #[error(transparent)]
    Rootfs(#[from] RootfsError),
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    #[error("cannot enter the working directory {path}")]
    WorkingDirectory {
        path: String,
        #[source]
        cause: Errno,
    },
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    #[error(transparent)]
    Command(#[from] CommandError),
}

impl ChildError {
    fn reason(&self) -> StartFailure {
        match self {
            Self::Command(error) => error.reason(),
            _ => StartFailure::Setup,
        }
    }
}

fn kernel(what: &'static str) -> impl FnOnce(Errno) -> ChildError {
    move |cause| ChildError::Kernel { what, cause }
}

/// Sets the container up and becomes its command; on failure tells the agent why, and gives
/// an exit status.
pub(super) fn run(spec: &ContainerSpec, stdio: &Stdio, channel: BorrowedFd<'_>) -> i32 {
    become_command(channel, || set_up(spec, stdio, channel))
}

/// Joins the container of the process that `init` refers to, and becomes a command in it.
pub(super) fn join(
    process: &ProcessSpec,
    rights: &Rights,
    init: BorrowedFd<'_>,
    stdio: &Stdio,
    channel: BorrowedFd<'_>,
) -> i32 {
    become_command(channel, || {
        // Until its `execve` it is a copy of the agent, in sight of the container's processes.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .and_then(|()| move_into_thread_name_spaces(init, CONTAINER_NAMESPACES))
            .map_err(kernel("join the container"))?;
        take_descriptors(stdio, channel).map_err(kernel("arrange descriptors"))?;
        setsid().map_err(kernel("make a session"))?;
        umask(UMASK);
        become_user(process, rights, channel, false)
    })
}

fn become_command(
    channel: BorrowedFd<'_>,
    set_up: impl FnOnce() -> Result<Command, ChildError>,
) -> i32 {
    // The serial port is out of sight in the container: a panic goes through the channel too.
    let fd = channel.as_raw_fd();
    panic::set_hook(Box::new(move |panic| {
        // SAFETY: the channel is open until `execve` or the end of this process.
        let channel = unsafe { BorrowedFd::borrow_raw(fd) };
        let _ = channel::send_failure(channel, StartFailure::Setup, &panic.to_string());
        exit(1)
    }));
    let error = match set_up() {
        Ok(command) => match channel::send_executing(channel) {
            Ok(()) => command.execute().into(),
            Err(cause) => kernel("tell the agent")(cause),
        },
        Err(error) => error,
    };
    let _ = channel::send_failure(channel, error.reason(), &crate::describe(&error));
    1
}

fn set_up(
    spec: &ContainerSpec,
    stdio: &Stdio,
    channel: BorrowedFd<'_>,
) -> Result<Command, ChildError> {
    take_descriptors(stdio, channel).map_err(kernel("arrange descriptors"))?;
    umask(Mode::empty());
    setsid().map_err(kernel("make a session"))?;
    // SAFETY: descriptors stay shared with nobody; the process has one thread.
    unsafe { unshare_unsafe(UnshareFlags::NEWCGROUP) }
        .map_err(kernel("make a cgroup namespace"))?;
    sethostname(spec.hostname.as_bytes()).map_err(kernel("set the host name"))?;

    let files = IdentityFiles::create(spec)?;
    rootfs::enter()?;
    rootfs::mount_all(spec)?;
    dev::populate()?;
    files.mount()?;
    spec.tmpfs.iter().try_for_each(tmpfs::mount_one)?;
    rootfs::set_network_limits();
    sysctl::apply(&spec.sysctls)?;
    make_working_directory(&spec.process.cwd)?;
    if !spec.privileged {
        rootfs::protect_kernel_files()?;
    }
    if spec.read_only {
        rootfs::make_root_read_only()?;
    }
    umask(UMASK);
    become_user(&spec.process, &Rights::of(spec), channel, true)
}

/// Everything that depends on the process rather than on the container.
fn become_user(
    process: &ProcessSpec,
    rights: &Rights,
    channel: BorrowedFd<'_>,
    first: bool,
) -> Result<Command, ChildError> {
    let identity = Identity::look_up(&process.user, &process.groups)?;
    take_terminal(process, &identity, channel, first)?;
    chdir(&*from_root(&process.cwd)).map_err(working_directory_error(&process.cwd))?;
    let environment = Environment::prepare(&process.env, &identity.home)?;
    limits::apply(&rights.limits).map_err(kernel("set resource limits"))?;
    capabilities::bound(rights.capabilities).map_err(kernel("bound capabilities"))?;
    switch_user(&identity).map_err(kernel("become the user"))?;
    if identity.uid == 0 {
        capabilities::reduce(rights.capabilities).map_err(kernel("reduce capabilities"))?;
    }
    if rights.no_new_privileges {
        set_no_new_privs(true).map_err(kernel("give up new privileges"))?;
    }
    unblock_signals();
    Ok(Command::look_up(&process.args, environment)?)
}

/// Puts the streams at 0–2 and closes everything else but the channel.
fn take_descriptors(stdio: &Stdio, channel: BorrowedFd<'_>) -> Result<(), Errno> {
    dup2_stdin(&stdio.stdin)?;
    dup2_stdout(&stdio.stdout)?;
    dup2_stderr(&stdio.stderr)?;
    let keep = channel.as_raw_fd().unsigned_abs();
    if keep > 3 {
        close_range(3, keep - 1)?;
    }
    close_from(keep + 1)
}

/// Closes this descriptor and all above it, in a forked process.
pub(crate) fn close_from(first: u32) -> Result<(), Errno> {
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: the objects that own descriptors in this range are copies, in a process that never
    // returns to their owners: none is used or closed again.
    match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
        0 => Ok(()),
        _ => Err(crate::last_error()),
    }
}

/// Gives the standard streams to the user, so that it may open them again by name
/// (`/dev/stdout`); with a terminal, opens that and makes it the streams.
fn take_terminal(
    process: &ProcessSpec,
    identity: &Identity,
    channel: BorrowedFd<'_>,
    console: bool,
) -> Result<(), ChildError> {
    if let Some(size) = process.terminal {
        let master = terminal::take(size, console).map_err(kernel("open a terminal"))?;
        channel::send_terminal(channel, &master).map_err(kernel("send the terminal"))?;
    }
    if identity.uid == 0 {
        return Ok(());
    }
    let mut streams = vec![rustix::stdio::stdout(), rustix::stdio::stderr()];
    if process.stdin || process.terminal.is_some() {
        streams.push(rustix::stdio::stdin());
    }
    let owner = Some(Uid::from_raw(identity.uid));
    for stream in streams {
        rustix::fs::fchown(stream.as_fd(), owner, None).map_err(kernel("give away a stream"))?;
    }
    Ok(())
}

/// Makes the working directory if it is missing. All names are resolved in the container's root,
/// as that is this process's root by now (CVE-2026-55686).
fn make_working_directory(path: &[u8]) -> Result<(), ChildError> {
    umask(UMASK);
    let made = paths::make_directories(&from_root(path)).map_err(working_directory_error(path));
    umask(Mode::empty());
    made
}

fn from_root(path: &[u8]) -> Vec<u8> {
    match path {
        [b'/', ..] => path.to_vec(),
        relative => [b"/", relative].concat(),
    }
}

fn working_directory_error(path: &[u8]) -> impl FnOnce(Errno) -> ChildError {
    let path = String::from_utf8_lossy(path).into_owned();
    move |cause| ChildError::WorkingDirectory { path, cause }
}

fn switch_user(identity: &Identity) -> Result<(), Errno> {
    let groups: Vec<Gid> = identity.groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    set_thread_groups(&groups)?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}
