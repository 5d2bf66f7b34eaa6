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
    trace::{Call, Verdict, Watch},
};

/// Writes the log, and kills the command at a point if told so.
pub struct Recording {
    folder: PathBuf,
    pub log: Vec<Operation>,
    /// Calls that were seen, the number of the one that the command is killed ahead of.
    pub seen: usize,
    pub kill: Option<usize>,
    /// What threads are about to do.
    under_way: HashMap<i32, Doing>,
}

/// What a call is about to do; what it wrote is seen once it is there.
enum Doing {
    Done(Vec<Operation>),
    Write(PathBuf),
}

impl Recording {
    pub fn new(folder: &Path) -> Self {
        let (log, under_way) = (Vec::new(), HashMap::new());
        Self { folder: folder.to_owned(), log, seen: 0, kill: None, under_way }
    }

    fn inside(&self, path: &Path) -> Option<PathBuf> {
        path.strip_prefix(&self.folder).ok().map(Path::to_owned)
    }

    fn doing(&self, call: &Call) -> Option<Doing> {
        let path = self.inside(&calls::changed(call)?)?;
        let done = |operation| Some(Doing::Done(vec![operation]));
        let number = |at: usize| usize::try_from(call.args[at]).unwrap();
        match call.number {
            libc::SYS_write | libc::SYS_pwrite64 => Some(Doing::Write(path)),
            libc::SYS_ftruncate => done(Operation::Resize(path, number(1))),
            libc::SYS_fsync | libc::SYS_fdatasync => done(Operation::Sync(path)),
            libc::SYS_open => Some(Doing::Done(opened(path, call.args[1]))),
            libc::SYS_openat => Some(Doing::Done(opened(path, call.args[2]))),
            libc::SYS_mkdir | libc::SYS_mkdirat => done(Operation::MakeFolder(path)),
            libc::SYS_unlink | libc::SYS_unlinkat | libc::SYS_rmdir => {
                done(Operation::Remove(path))
            }
            libc::SYS_symlink | libc::SYS_symlinkat => done(Operation::Link(call.target(), path)),
            libc::SYS_rename => done(Operation::Rename(self.inside(&call.path(None, 0))?, path)),
            libc::SYS_renameat | libc::SYS_renameat2 => {
                done(Operation::Rename(self.inside(&call.path(Some(0), 1))?, path))
            }
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

/// What a call has written: where, and what. A file is written by one thread at a time.
fn written(call: &Call, length: usize) -> (usize, Vec<u8>) {
    let end = match call.number {
        libc::SYS_pwrite64 => usize::try_from(call.args[3]).unwrap() + length,
        _ => {
            let info = fs::read_to_string(call.proc(&format!("fdinfo/{}", call.args[0]))).unwrap();
            let position = info.lines().find_map(|line| line.strip_prefix("pos:")).unwrap();
            position.trim().parse().unwrap()
        }
    };
    let mut bytes = vec![0; length];
    let file = File::open(call.proc(&format!("fd/{}", call.args[0]))).unwrap();
    file.read_exact_at(&mut bytes, (end - length) as u64).unwrap();
    (end - length, bytes)
}

impl Watch for Recording {
    fn enter(&mut self, call: &Call) -> Verdict {
        if self.kill == Some(self.seen) {
            return Verdict::Kill;
        }
        self.seen += 1;
        if let Some(doing) = self.doing(call) {
            self.under_way.insert(call.thread, doing);
        }
        Verdict::Go
    }

    fn leave(&mut self, call: &Call, result: i64) {
        match self.under_way.remove(&call.thread) {
            Some(Doing::Done(operations)) if result >= 0 => self.log.extend(operations),
            Some(Doing::Write(path)) if result > 0 => {
                let (offset, bytes) = written(call, usize::try_from(result).unwrap());
                self.log.push(Operation::Write(path, offset, bytes));
            }
            _ => {}
        }
    }
}
