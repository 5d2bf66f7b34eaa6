//! Tries to get out of a VMM that has locked itself in.
//!
//! ```text
//! locked_in VMLINUX
//! ```
//!
//! For each kind of thread and each way out (open a file, connect a socket, execute a program), a
//! process of its own builds a VM, locks itself in and tries it: on the main thread of the VMM, or
//! on a thread with the filter of that kind. Each is killed by `SIGSYS` if the lock holds. Exit
//! status: 0 if all were. The guest never runs.

mod support;

use std::fs::File;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};
use std::sync::mpsc::channel;
use std::thread;

use support::{Fault, bare_config, build, chain};
use vmm::confine::{ThreadKind, filter_thread};

/// A way out, and what tries it; it returns if nothing stops it.
const ESCAPES: [(&str, fn()); 3] = [
    ("open", || drop(File::open("/etc/hostname"))),
    ("connect", || drop(TcpStream::connect("127.0.0.1:1"))),
    ("execve", || drop(std::os::unix::process::CommandExt::exec(&mut Command::new("/bin/true")))),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [kernel] => try_all(kernel),
        [kernel, kind, escape] => try_one(kernel, kind, escape),
        _ => Err("usage: locked_in VMLINUX".into()),
    };
    result.unwrap_or_else(|fault| {
        eprintln!("locked_in: {}", chain(&*fault));
        ExitCode::FAILURE
    })
}

fn try_all(kernel: &str) -> Result<ExitCode, Fault> {
    let mut all_killed = true;
    for kind in ThreadKind::ALL.map(|kind| format!("{kind:?}")) {
        for (escape, _) in ESCAPES {
            let status = Command::new("/proc/self/exe").args([kernel, &kind, escape]).status()?;
            let killed = status.signal() == Some(libc::SIGSYS);
            println!("{kind} {escape}: {}", if killed { "killed by SIGSYS" } else { "ESCAPED" });
            all_killed &= killed;
        }
    }
    Ok(if all_killed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn try_one(kernel: &str, kind: &str, escape: &str) -> Result<ExitCode, Fault> {
    let by_name = |of: &ThreadKind| format!("{of:?}") == kind;
    let kind = ThreadKind::ALL.into_iter().find(by_name).ok_or("unknown kind of thread")?;
    let (_, escape) =
        ESCAPES.into_iter().find(|(name, _)| *name == escape).ok_or("unknown way out")?;
    let null = File::options().write(true).open("/dev/null")?;
    let config = bare_config(File::open(kernel)?, File::open("/dev/null")?, null.into())?;
    let vm = build(config)?;
    if kind == ThreadKind::Main {
        let _locked = vm.lock()?;
        escape();
        return Ok(ExitCode::SUCCESS);
    }
    let (go, start) = channel();
    let (filtered, is_filtered) = channel();
    let thread = thread::spawn(move || {
        let result = filter_thread(kind);
        let _ = filtered.send(result.is_ok());
        if start.recv().is_ok() {
            escape();
        }
    });
    if !is_filtered.recv()? {
        return Err("the filter could not be installed".into());
    }
    let _locked = vm.lock()?;
    go.send(())?;
    let _ = thread.join();
    Ok(ExitCode::SUCCESS)
}
