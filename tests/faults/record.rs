//! The log of what a command does to the files in a folder.

use std::{
    collections::HashMap,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{
    calls,
    disk::Operation,
    trace::{Call, Role, Verdict, Watch},
};

/// Writes the log, and kills the command at a point if told so.
pub struct Recording {
    folder: PathBuf,
    /// The last process of a command whose calls are written down, by the order in which they come.
    last: Role,
    /// What a VM writes to.
    disk: Option<PathBuf>,
    pub log: Vec<Operation>,
    /// What the command itself made, and its monitor.
    pub counts: [Count; 2],
    /// Calls that were seen, the number of the one that the command is killed ahead of.
    pub seen: usize,
    pub kill: Option<usize>,
    /// What threads are about to do.
    under_way: HashMap<i32, Doing>,
}

/// Calls that a process made, and those of them that change files in the folder.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    pub calls: usize,
    pub changes: usize,
}

/// What a call is about to do; what it wrote is seen once it is there.
enum Doing {
    Done(Vec<Operation>),
    Write(PathBuf),
}

impl Recording {
    pub fn new(folder: &Path, last: Role) -> Self {
        Self {
            folder: folder.to_owned(),
            last,
            disk: None,
            log: Vec::new(),
            counts: Default::default(),
            seen: 0,
            kill: None,
            under_way: HashMap::new(),
        }
    }

    fn inside(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(&self.folder).ok().map(Path::to_owned)
    }

    /// What a VM is about to do. Once it is locked in nobody sees what it has open, so its disk is
    /// known from before: it has no other file that it could change.
    fn of_vm(&mut self, call: &Call) -> Option<Doing> {
        let number = |at: usize| usize::try_from(call.args[at]).unwrap();
        match call.number {
            libc::SYS_openat => {
                let path = call.path(Some(0), 1);
                if path.ends_with("disk.ext4") {
                    self.disk = self.inside(&path);
                }
                None
            }
            libc::SYS_pwritev => Some(Doing::Write(self.disk.clone()?)),
            libc::SYS_fdatasync => Some(Doing::Done(vec![Operation::Sync(self.disk.clone()?)])),
            libc::SYS_fallocate => {
                let zero = Operation::Zero(self.disk.clone()?, number(2), number(3));
                Some(Doing::Done(vec![zero]))
            }
            _ => self.of_others(call),
        }
    }

    fn of_others(&mut self, call: &Call) -> Option<Doing> {
        let path = self.inside(&calls::changed(call)?)?;
        if let Some(count) = self.counts.get_mut(call.role as usize) {
            count.changes += 1;
        }
        let done = |operation| Some(Doing::Done(vec![operation]));
        let number = |at: usize| usize::try_from(call.args[at]).unwrap();
        let mode = |at: usize| u32::try_from(call.args[at] & 0o7777).unwrap();
        match call.number {
            libc::SYS_write | libc::SYS_pwrite64 => Some(Doing::Write(path)),
            libc::SYS_ftruncate => done(Operation::Resize(path, number(1))),
            libc::SYS_fsync | libc::SYS_fdatasync => done(Operation::Sync(path)),
            libc::SYS_open => Some(Doing::Done(opened(path, call.args[1]))),
            libc::SYS_openat => Some(Doing::Done(opened(path, call.args[2]))),
            libc::SYS_mkdir => done(Operation::MakeFolder(path, mode(1))),
            libc::SYS_mkdirat => done(Operation::MakeFolder(path, mode(2))),
            libc::SYS_unlink | libc::SYS_unlinkat | libc::SYS_rmdir => {
                done(Operation::Remove(path))
            }
            libc::SYS_symlink | libc::SYS_symlinkat => done(Operation::Link(call.target(), path)),
            libc::SYS_rename => done(Operation::Rename(self.inside(&call.path(None, 0))?, path)),
            libc::SYS_renameat | libc::SYS_renameat2 => {
                done(Operation::Rename(self.inside(&call.path(Some(0), 1))?, path))
            }
            libc::SYS_bind => done(Operation::Create(path)),
            libc::SYS_fchmod | libc::SYS_chmod | libc::SYS_fchmodat => None,
            other => panic!("what {} does is not known here", calls::name(other)),
        }
    }
}

fn opened(path: PathBuf, flags: u64) -> Vec<Operation> {
    let has = |flag: i32| flags & u64::from(flag.cast_unsigned()) != 0;
    let mut operations = Vec::new();
    if has(libc::O_CREAT) {
        operations.push(Operation::Create(path.clone()));
    }
    if has(libc::O_TRUNC) {
        operations.push(Operation::Resize(path, 0));
    }
    operations
}

/// What a call has written to a file: where, and what. A file is written by one thread at a time.
fn written(call: &Call, path: &Path, length: usize) -> (usize, Vec<u8>) {
    let end = match call.number {
        libc::SYS_pwrite64 | libc::SYS_pwritev => usize::try_from(call.args[3]).unwrap() + length,
        _ => {
            let info = fs::read_to_string(call.proc(&format!("fdinfo/{}", call.args[0]))).unwrap();
            let position = info.lines().find_map(|line| line.strip_prefix("pos:")).unwrap();
            position.trim().parse().unwrap()
        }
    };
    let mut bytes = vec![0; length];
    let file = match call.role {
        Role::Vm => File::open(path),
        Role::Cli | Role::Monitor => File::open(call.proc(&format!("fd/{}", call.args[0]))),
    };
    let file = file.unwrap();
    file.read_exact_at(&mut bytes, (end - length) as u64).unwrap();
    (end - length, bytes)
}

impl Watch for Recording {
    fn wants(&self, role: Role) -> bool {
        role <= self.last
    }

    fn enter(&mut self, call: &Call) -> Verdict {
        if self.kill == Some(self.seen) {
            return Verdict::Kill;
        }
        self.seen += 1;
        if let Some(count) = self.counts.get_mut(call.role as usize) {
            count.calls += 1;
        }
        let doing = match call.role {
            Role::Vm => self.of_vm(call),
            Role::Cli | Role::Monitor => self.of_others(call),
        };
        if let Some(doing) = doing {
            self.under_way.insert(call.thread, doing);
        }
        Verdict::Go
    }

    fn leave(&mut self, call: &Call, result: i64) {
        match self.under_way.remove(&call.thread) {
            Some(Doing::Done(operations)) if result >= 0 => self.log.extend(operations),
            Some(Doing::Write(path)) if result > 0 => {
                let length = usize::try_from(result).unwrap();
                let (offset, bytes) = written(call, &self.folder.join(&path), length);
                self.log.push(Operation::Write(path, offset, bytes));
            }
            _ => {}
        }
    }
}
