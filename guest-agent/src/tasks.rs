//! Tasks: the agent's own work on the container's files, each in a process of its own, so that it
//! may take its time. Its input and output are streams like those of a command; what goes wrong is
//! one line on its stderr, and exit status 1.

use std::error::Error;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::panic;
use std::path::Path;

use agent_protocol::{Task, write_frame};
use rustix::fs::{Mode, OFlags, open, syncfs};
use rustix::process::{chdir, chroot, umask};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::boot::mounts::MERGED;
use crate::clone::{Child, Namespaces, fork};
use crate::container::cgroup::ContainerCgroup;
use crate::container::{Process, StartError, Stdio, close_from, user_names};
use crate::files::Files;
use crate::layer::{self, Trees};
use crate::reaper::unblock_signals;
use crate::serial::exit;
use crate::stats;
use crate::stream::End;

/// Where the container's files are to be found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Place<'a> {
    /// In the running container of this process, with everything that is mounted there.
    Container(&'a Process),
    /// On the disks alone: there is no container.
    Disk,
}

/// Starts a task; gives the agent's ends of its streams.
pub(crate) fn begin(task: &Task, place: Place<'_>) -> Result<(Child, Vec<End>), StartError> {
    let (stdio, ends) = Stdio::pipes(task.reads(), true).map_err(StartError::Streams)?;
    let child = fork(Namespaces::default(), None, || run(task, place, &stdio));
    Ok((child.map_err(StartError::Clone)?, ends))
}

fn run(task: &Task, place: Place<'_>, stdio: &Stdio) -> i32 {
    panic::set_hook(Box::new(|panic| {
        complain(&panic.to_string());
        exit(1)
    }));
    unblock_signals();
    match perform(task, place, stdio) {
        Ok(()) => 0,
        Err(error) => {
            complain(&crate::describe(&*error));
            1
        }
    }
}

fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{}", line.replace('\n', " "));
}

fn perform(task: &Task, place: Place<'_>, stdio: &Stdio) -> Result<(), Box<dyn Error>> {
    dup2_stdin(&stdio.stdin)?;
    dup2_stdout(&stdio.stdout)?;
    dup2_stderr(&stdio.stderr)?;
    umask(Mode::empty());
    let mut out = io::stdout().lock();
    match task {
        Task::Stat { path } => container_files(place)?.stat(path, &mut out)?,
        Task::Archive { path } => container_files(place)?.archive(path, &mut out)?,
        Task::Extract { folder } => {
            container_files(place)?.extract(folder, &mut io::stdin().lock())?;
            // Nobody waits for the end of a VM that was booted for this: what is told is safe.
            if matches!(place, Place::Disk) {
                syncfs(open("/", OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty())?)?;
            }
        }
        Task::Changes => layer::changes(&trees()?, &mut out)?,
        Task::Layer => layer::archive(&trees()?, &mut out)?,
        Task::Stats => {
            let (cgroup, proc) = (ContainerCgroup::reopen()?, stats::open_proc()?);
            write_frame(&mut out, &stats::gather(cgroup.as_fd(), proc.as_fd()))?;
        }
        Task::Processes => {
            let proc = stats::open_proc()?;
            enter_root(place)?;
            stats::processes(proc.as_fd(), &user_names(), &mut out)?;
        }
    }
    // The process ends without a look at what is buffered.
    Ok(out.flush()?)
}

/// The files as the container sees them.
fn container_files(place: Place<'_>) -> Result<Files, Box<dyn Error>> {
    enter_root(place)?;
    close_from(3)?;
    Ok(Files::open(Path::new("/"))?)
}

/// The image, the writable layer and the overlay of one on the other, as the agent sees them.
fn trees() -> rustix::io::Result<Trees<'static>> {
    close_from(3)?;
    Ok(Trees {
        lower: Path::new("/image"),
        upper: Path::new("/disk/upper"),
        merged: Path::new("/merged"),
    })
}

/// Makes the container's root this process's own.
fn enter_root(place: Place<'_>) -> rustix::io::Result<()> {
    match place {
        Place::Container(init) => {
            move_into_thread_name_spaces(init.as_fd(), ThreadNameSpaceType::MOUNT)
        }
        Place::Disk => chdir(MERGED).and_then(|()| chroot(c".")).and_then(|()| chdir(c"/")),
    }
}
