//! `vmrun start`

use anyhow::{Result, bail};

use super::{Host, each};
use crate::{
    cli::StartArgs,
    client::{self, Attachment},
    container::ContainerError,
};

pub fn start(args: &StartArgs) -> Result<u8> {
    let host = Host::open()?;
    host.paths.guest()?;
    super::doctor::check_kvm()?;
    if !args.attach && !args.interactive {
        return each(&args.containers, |name| {
            let container = host.containers.find(name)?;
            if !host.containers.status(&container)?.is_running() {
                client::start_detached(&container)?;
            }
            Ok(name.to_owned())
        });
    }
    let [name] = args.containers.as_slice() else {
        bail!("You cannot start and attach multiple containers at once.");
    };
    let container = host.containers.find(name)?;
    if host.containers.status(&container)?.is_running() {
        return Err(ContainerError::Running(container.record.id.clone()).into());
    }
    let command = &container.record.command;
    let attachment =
        Attachment { stdin: args.interactive && command.stdin, terminal: command.terminal };
    client::start_attached(&container, attachment)
}
