//! `vmrun exec`

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use agent_protocol::{ProcessSpec, Work};
use anyhow::{Result, bail};

use super::{Host, run::env::Variables};
use crate::{
    cli::ExecArgs,
    client::{self, Attachment, Left, Session},
    container::{Record, Status},
    error::failure,
};

pub fn exec(args: ExecArgs) -> Result<u8> {
    let host = Host::open()?;
    if args.tty && args.interactive && !args.detach && !client::stdin_is_terminal() {
        return Err(failure(1, "the input device is not a TTY"));
    }
    if args.privileged {
        eprintln!("vmrun: --privileged is ignored: a command has the rights of its container");
    }
    let container = host.containers.find(&args.container)?;
    let id = &container.record.id;
    match host.containers.status(&container)? {
        Status::Running { .. } => {}
        Status::Paused { .. } => {
            bail!("Container {} is paused, unpause the container before exec", args.container);
        }
        Status::Restarting { .. } => {
            bail!("Container {id} is restarting, wait until the container is running");
        }
        Status::Created | Status::Exited { .. } => bail!("Container {id} is not running"),
    }
    let detach = args.detach;
    let attachment = Attachment {
        stdin: args.interactive && !detach,
        terminal: args.tty && !detach,
        proxy_signals: true,
        detach_keys: args.detach_keys.clone(),
        owns_output: true,
    };
    let command = command(args, &container.record)?;
    let session = Session::with_running(&host.paths, &container)?;
    if detach {
        // Nobody waits for a status of the command's own.
        session.exec(Work::Command(command)).map_err(|error| failure(1, format!("{error:#}")))?;
        return Ok(0);
    }
    Ok(match client::exec_attached(session, command, &attachment)? {
        Left::Exited(status) => status,
        Left::Detached => 0,
    })
}

/// The command, in the container's environment.
fn command(args: ExecArgs, record: &Record) -> Result<ProcessSpec> {
    let mut variables = Variables::default();
    if args.tty {
        variables.set(b"TERM=xterm".to_vec());
    }
    record.command.env.iter().for_each(|entry| variables.set(entry.clone()));
    for file in &args.env_file {
        variables.read_file(file)?;
    }
    for entry in args.env {
        variables.set_or_pass_on(entry.into_vec())?;
    }
    let cwd = args.workdir.unwrap_or_else(|| record.command.cwd.clone());
    if !cwd.starts_with('/') {
        return Err(failure(126, "Cwd must be an absolute path"));
    }
    let words: Vec<Vec<u8>> = args.command.into_iter().map(OsString::into_vec).collect();
    let env = variables.into_entries();
    if words.iter().chain(&env).any(|word| word.contains(&0)) || cwd.contains('\0') {
        bail!("a NUL character is in the command, its environment or its working directory");
    }
    Ok(ProcessSpec {
        args: words,
        env,
        cwd: cwd.into_bytes(),
        user: args.user.unwrap_or_else(|| record.command.user.clone()),
        groups: record.command.groups.clone(),
        terminal: None,
        stdin: args.interactive && !args.detach,
        output: !args.detach,
    })
}
