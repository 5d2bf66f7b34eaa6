//! Runs a command and asks at each of its system calls what is to become of it: `ptrace`, so it works
//! for any program and any way of making calls. Threads and child processes are followed, as far as
//! they are wanted. A command is traced by the thread that runs it; several threads may do so at once.

use std::{
    collections::HashMap,
    fs::File,
    io,
    mem::{MaybeUninit, size_of},
    os::unix::{fs::FileExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    ptr, thread,
    time::Duration,
};

use libc::{c_int, c_long, c_uint, pid_t};
use rustix::thread::CpuSet;

/// No command here takes nearly as long, traced or not, on a loaded machine made of software.
const PATIENCE: Duration = Duration::from_secs(240);

/// What marks the stop of a system call among stops by SIGTRAP (`PTRACE_O_TRACESYSGOOD`).
const CALL_STOP: c_int = libc::SIGTRAP | 0x80;

/// What a process of vmrun's is; each is started by the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    Cli,
    Monitor,
    Vm,
}

/// A system call, seen before it is made.
#[derive(Clone, Debug)]
pub struct Call {
    /// The thread that makes it.
    pub thread: pid_t,
    /// Its process. One that has not executed its program yet is what started it.
    pub role: Role,
    pub number: c_long,
    pub args: [u64; 6],
}

/// What is to become of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Go,
    /// It is not made, and fails with this error.
    Fail(c_int),
    /// Its process is killed before it is made.
    Kill,
}

/// Is asked, and told.
pub trait Watch {
    /// Whose calls it is asked of.
    fn wants(&self, role: Role) -> bool {
        role == Role::Cli
    }

    fn enter(&mut self, call: &Call) -> Verdict;

    /// A call was made, and gave this.
    fn leave(&mut self, _call: &Call, _result: i64) {}
}

/// How a command came out.
#[derive(Debug)]
pub struct Ended {
    /// `None` for one that was killed.
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A command that ended with this.
impl Ended {
    #[track_caller]
    pub fn succeeds(self) -> String {
        assert_eq!((self.status, self.stderr.as_str()), (Some(0), ""), "{}", self.stdout);
        self.stdout
    }
}

/// Runs a command to its end, without input, each of its calls being watched. It has one processor, so
/// that it makes the same calls each time, as far as that can be.
pub fn run(mut command: Command, watch: &mut dyn Watch) -> Ended {
    let (stdout, stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    command.stdin(Stdio::null());
    command.stdout(stdout.try_clone().unwrap()).stderr(stderr.try_clone().unwrap());
    let mut processor = CpuSet::new();
    processor.set(rustix::thread::sched_getcpu());
    let prepare = move || {
        rustix::thread::sched_setaffinity(None, &processor)?;
        request(libc::PTRACE_TRACEME, 0, ptr::null_mut(), 0).map(drop)
    };
    // SAFETY: runs between fork and exec and makes two system calls, nothing else.
    #[allow(clippy::zombie_processes, reason = "the tracer waits for it, with all its threads")]
    let child = unsafe { command.pre_exec(prepare) }.spawn().expect("the command starts");
    let first = pid_t::try_from(child.id()).unwrap();
    let (done, waiting) = std::sync::mpsc::channel::<()>();
    let tracer = rustix::thread::gettid().as_raw_nonzero().get();
    let watchdog = thread::spawn(move || {
        let late =
            waiting.recv_timeout(PATIENCE) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        if late {
            processes()
                .filter(|process| numbered(*process, "TracerPid:").ok() == Some(tracer))
                .for_each(kill);
        }
        late
    });
    let roles = HashMap::from([(first, Role::Cli)]);
    let status = Tracer { watch, under_way: HashMap::new(), roles, first, status: None }.run();
    drop(done);
    assert!(!watchdog.join().unwrap(), "{command:?} did not end");
    Ended { status, stdout: text(&stdout), stderr: text(&stderr) }
}

fn text(file: &File) -> String {
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    String::from_utf8(bytes).unwrap()
}

struct Tracer<'a> {
    watch: &'a mut dyn Watch,
    /// Calls that were entered and not left, by thread, and the error each is to give.
    under_way: HashMap<pid_t, (Call, Option<c_int>)>,
    /// Of processes and threads.
    roles: HashMap<pid_t, Role>,
    first: pid_t,
    status: Option<i32>,
}

impl Tracer<'_> {
    /// Serves stops until no traced thread is left; the exit status of the first process.
    fn run(mut self) -> Option<i32> {
        while let Some((thread, status)) = wait() {
            if libc::WIFSTOPPED(status) {
                // A thread may be killed at any moment, so that it is not there any more.
                let (how, signal) = self.stopped(thread, status).unwrap_or((libc::PTRACE_CONT, 0));
                let _ = request(how, thread, ptr::null_mut(), signal);
                continue;
            }
            // Another may get its number.
            self.roles.remove(&thread);
            self.under_way.remove(&thread);
            if thread == self.first && libc::WIFEXITED(status) {
                self.status = Some(libc::WEXITSTATUS(status));
            }
        }
        self.status
    }

    /// Serves one stop; how the thread is to go on, and the signal that it is to get.
    fn stopped(&mut self, thread: pid_t, status: c_int) -> io::Result<(c_uint, c_int)> {
        let mut signal = 0;
        match (libc::WSTOPSIG(status), status >> 16) {
            (CALL_STOP, _) => self.call(thread)?,
            (libc::SIGTRAP, event) => {
                // It has executed the command, or is of one that has; or forked, cloned, …
                let options = libc::PTRACE_O_EXITKILL
                    | libc::PTRACE_O_TRACESYSGOOD
                    | libc::PTRACE_O_TRACECLONE
                    | libc::PTRACE_O_TRACEFORK
                    | libc::PTRACE_O_TRACEVFORK
                    | libc::PTRACE_O_TRACEEXEC;
                request(libc::PTRACE_SETOPTIONS, thread, ptr::null_mut(), options)?;
                if event == libc::PTRACE_EVENT_EXEC {
                    let role = role_of_program(thread)?;
                    self.roles.insert(thread, role);
                    let last = [Role::Vm, Role::Monitor, Role::Cli];
                    let last = last.into_iter().find(|role| self.watch.wants(*role));
                    if last.is_some_and(|last| role > last) {
                        return Ok((libc::PTRACE_DETACH, 0));
                    }
                }
            }
            // How a new thread begins.
            (libc::SIGSTOP, _) => {}
            (other, _) => signal = other,
        }
        let role = self.role(thread)?;
        let how = if self.watch.wants(role) { libc::PTRACE_SYSCALL } else { libc::PTRACE_CONT };
        Ok((how, signal))
    }

    /// What a thread is of.
    fn role(&mut self, thread: pid_t) -> io::Result<Role> {
        if let Some(role) = self.roles.get(&thread) {
            return Ok(*role);
        }
        // Of a process that is known, or of a new one, which is what its parent is.
        let process = numbered(thread, "Tgid:")?;
        let parent = if process == thread { numbered(thread, "PPid:")? } else { process };
        let role = self.roles.get(&parent).copied().unwrap_or(Role::Cli);
        self.roles.insert(thread, role);
        Ok(role)
    }

    fn call(&mut self, thread: pid_t) -> io::Result<()> {
        let info = call_info(thread)?;
        if u32::from(info.op) == u32::from(libc::PTRACE_SYSCALL_INFO_ENTRY) {
            // SAFETY: the kernel says that it filled this member of the union.
            let entry = unsafe { info.u.entry };
            let number = c_long::try_from(entry.nr).unwrap();
            let call = Call { thread, role: self.role(thread)?, number, args: entry.args };
            let error = match self.watch.enter(&call) {
                Verdict::Go => None,
                Verdict::Fail(error) => Some(error),
                Verdict::Kill => {
                    kill(process_of(thread)?);
                    return Ok(());
                }
            };
            if error.is_some() {
                // No call has this number, so none is made.
                change_registers(thread, |registers| registers.orig_rax = u64::MAX)?;
            }
            self.under_way.insert(thread, (call, error));
            return Ok(());
        }
        match self.under_way.remove(&thread) {
            Some((_, Some(error))) => {
                let result = (-i64::from(error)).cast_unsigned();
                change_registers(thread, |registers| registers.rax = result)
            }
            Some((call, None)) => {
                // SAFETY: not an entry, so a call's end: no other kind of stop comes here.
                let result = unsafe { info.u.exit.sval };
                self.watch.leave(&call, result);
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Call {
    /// The path in an argument, taken from the folder in another one if that is given.
    pub fn path(&self, folder: Option<usize>, at: usize) -> PathBuf {
        let path = PathBuf::from(self.text(self.args[at]));
        if path.is_absolute() {
            return path;
        }
        #[allow(clippy::cast_possible_truncation, reason = "the kernel takes 32 bits of it")]
        let base = match folder.map(|folder| self.args[folder] as c_int) {
            Some(descriptor) if descriptor != libc::AT_FDCWD => {
                self.link(&format!("fd/{descriptor}"))
            }
            _ => self.link("cwd"),
        };
        base.unwrap_or_default().join(path)
    }

    /// Where the symbolic link that it makes leads.
    pub fn target(&self) -> PathBuf {
        PathBuf::from(self.text(self.args[0]))
    }

    /// The path of the unix socket that it makes; `None` for another address.
    pub fn socket(&self) -> Option<PathBuf> {
        let mut family = [0; 2];
        let memory = File::open(self.proc("mem")).ok()?;
        memory.read_exact_at(&mut family, self.args[1]).ok()?;
        let is_unix = i32::from(u16::from_ne_bytes(family)) == libc::AF_UNIX;
        let path = is_unix.then(|| PathBuf::from(self.text(self.args[1] + 2)))?;
        // By way of a descriptor of its folder (vmrun/src/monitor/protocol.rs).
        match path.strip_prefix("/proc/self/fd") {
            Ok(below) => {
                let (folder, name) = (below.parent()?, below.file_name()?);
                Some(self.link(&format!("fd/{}", folder.display()))?.join(name))
            }
            Err(_) => Some(path).filter(|path| path.is_absolute()),
        }
    }

    /// The file behind the descriptor in an argument; `None` for one that has no name.
    pub fn file(&self, at: usize) -> Option<PathBuf> {
        let path = self.link(&format!("fd/{}", self.args[at]))?;
        let named = path.is_absolute() && !path.to_string_lossy().ends_with(" (deleted)");
        named.then_some(path)
    }

    /// Something of the thread's in /proc.
    pub fn proc(&self, name: &str) -> PathBuf {
        Path::new("/proc").join(self.thread.to_string()).join(name)
    }

    fn link(&self, name: &str) -> Option<PathBuf> {
        std::fs::read_link(self.proc(name)).ok()
    }

    /// The string at an address.
    fn text(&self, address: u64) -> String {
        let memory = File::open(self.proc("mem")).unwrap();
        let mut bytes = Vec::new();
        loop {
            // Never past the end of a page, for the next may not be there.
            let mut page =
                vec![0; usize::try_from(4096 - (address + bytes.len() as u64) % 4096).unwrap()];
            memory.read_exact_at(&mut page, address + bytes.len() as u64).unwrap();
            let end = page.iter().position(|&byte| byte == 0);
            bytes.extend_from_slice(&page[..end.unwrap_or(page.len())]);
            if end.is_some() {
                return String::from_utf8(bytes).unwrap();
            }
        }
    }
}

/// Waits for a thread that this one traces; `None` if there is none any more.
fn wait() -> Option<(pid_t, c_int)> {
    let mut status = 0;
    loop {
        // SAFETY: the status is valid for the call.
        let thread =
            unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL | libc::__WNOTHREAD) };
        match thread {
            -1 if io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {}
            -1 => return None,
            thread => return Some((thread, status)),
        }
    }
}

fn request(
    what: c_uint,
    thread: pid_t,
    address: *mut libc::c_void,
    data: impl Into<c_long>,
) -> io::Result<c_long> {
    // SAFETY: the requests made here take no address (null), or one that `data` bytes can be
    // written to or the whole of a register set read from; see the callers.
    let result = unsafe { libc::ptrace(what, thread, address, data.into()) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn call_info(thread: pid_t) -> io::Result<libc::ptrace_syscall_info> {
    let mut info = MaybeUninit::<libc::ptrace_syscall_info>::zeroed();
    let size = c_long::try_from(size_of::<libc::ptrace_syscall_info>()).unwrap();
    // SAFETY: the kernel writes no more than `size` bytes to where as many are; they are plain numbers,
    // for which zeros are good too.
    unsafe {
        let address = info.as_mut_ptr().cast::<libc::c_void>();
        if libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, thread, size, address) == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(info.assume_init())
    }
}

fn change_registers(
    thread: pid_t,
    change: impl FnOnce(&mut libc::user_regs_struct),
) -> io::Result<()> {
    let mut registers = MaybeUninit::<libc::user_regs_struct>::zeroed();
    // SAFETY: the kernel reads or writes one register set, whose members are plain numbers.
    unsafe {
        let address = registers.as_mut_ptr();
        let none = ptr::null_mut::<libc::c_void>();
        if libc::ptrace(libc::PTRACE_GETREGS, thread, none, address) == -1 {
            return Err(io::Error::last_os_error());
        }
        change(&mut *address);
        if libc::ptrace(libc::PTRACE_SETREGS, thread, none, address) == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// The process that a thread is of.
fn process_of(thread: pid_t) -> io::Result<pid_t> {
    numbered(thread, "Tgid:")
}

/// What /proc says of a thread under this name.
fn numbered(thread: pid_t, name: &str) -> io::Result<pid_t> {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|id| id.trim().parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

/// All processes there are.
pub fn processes() -> impl Iterator<Item = pid_t> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// What a process is that has just executed its program.
fn role_of_program(process: pid_t) -> io::Result<Role> {
    let line = std::fs::read(format!("/proc/{process}/cmdline"))?;
    Ok(match line.split(|byte| *byte == 0).nth(1) {
        Some(b"monitor") => Role::Monitor,
        Some(b"vmm") => Role::Vm,
        _ => Role::Cli,
    })
}

fn kill(process: pid_t) {
    // SAFETY: takes numbers only. The process is not reaped before its tracer is told of its end.
    unsafe { libc::kill(process, libc::SIGKILL) };
}
