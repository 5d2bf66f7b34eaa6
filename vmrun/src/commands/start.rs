//! `vmrun start` and `vmrun attach`

use anyhow::{Result, bail};

use super::{Host, each};
use crate::{
    cli::{AttachArgs, StartArgs},
    client::{self, Attachment, Left},
    container::{Container, Status},
    error::failure,
};

pub fn start(args: &StartArgs) -> Result<u8> {
    let host = Host::open()?;
    host.paths.guest()?;
    super::doctor::check_kvm()?;
    if !args.attach && !args.interactive {
        let mut failed = Vec::new();
        let status = each(&args.containers, |name| {
            let started = host.containers.find(name).map_err(Into::into);
            let started = started.and_then(|container| start_one(&host, &container));
            started.inspect_err(|_| failed.push(name.to_owned())).map(|()| name.to_owned())
        })?;
        if !failed.is_empty() {
            eprintln!("vmrun: failed to start containers: {}", failed.join(", "));
        }
        return Ok(status);
    }
    let [name] = args.containers.as_slice() else {
        bail!("you cannot start and attach multiple containers at once");
    };
    let container = host.containers.find(name)?;
    let command = &container.record.command;
    let attachment = Attachment {
        stdin: args.interactive && command.stdin,
        terminal: command.terminal,
        proxy_signals: true,
        detach_keys: args.detach_keys.clone(),
        owns_output: true,
    };
    let left = match host.containers.status(&container)? {
        Status::Paused { .. } => return Err(paused()),
        Status::Running { .. } => client::attach_running(&host.paths, &container, &attachment)?,
        _ => client::start_attached(&container, &attachment, None)?,
    };
    status_of(left)
}

/// Starts a container in the background, if it does not run.
pub fn start_one(host: &Host, container: &Container) -> Result<()> {
    match host.containers.status(container)? {
        Status::Paused { .. } => Err(paused()),
        status if status.is_running() => Ok(()),
        _ => match client::start_detached(container, None) {
            // Somebody else was quicker.
            Err(_) if host.containers.status(container)?.is_running() => Ok(()),
            started => started,
        },
    }
}

fn paused() -> anyhow::Error {
    failure(1, "cannot start a paused container, try unpause instead")
}

pub fn attach(args: &AttachArgs) -> Result<u8> {
    let host = Host::open()?;
    let container = host.containers.find(&args.container)?;
    match host.containers.status(&container)? {
        Status::Running { .. } => {}
        Status::Paused { .. } => {
            bail!("You cannot attach to a paused container, unpause it first");
        }
        Status::Restarting { .. } => {
            bail!("You cannot attach to a restarting container, wait until it is running");
        }
        Status::Created | Status::Exited { .. } => {
            bail!("You cannot attach to a stopped container, start it first");
        }
    }
    let command = &container.record.command;
    let stdin = !args.no_stdin && command.stdin;
    if stdin && command.terminal && !client::stdin_is_terminal() {
        bail!("the input device is not a TTY");
    }
    let attachment = Attachment {
        stdin,
        terminal: command.terminal,
        proxy_signals: args.sig_proxy && !command.terminal,
        detach_keys: args.detach_keys.clone(),
        owns_output: false,
    };
    status_of(client::attach_running(&host.paths, &container, &attachment)?)
}

fn status_of(left: Left) -> Result<u8> {
    match left {
        Left::Exited(status) => Ok(status),
        Left::Detached => Err(failure(1, "read escape sequence")),
    }
}
