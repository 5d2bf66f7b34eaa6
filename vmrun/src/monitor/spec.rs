//! From a container's record to what its guest is told.

use agent_protocol::{ContainerSpec, ProcessSpec, WindowSize};
use anyhow::Result;

use crate::{capabilities, container::Record, network, random};

/// A terminal whose user has not said how large it is.
const DEFAULT_SIZE: WindowSize = WindowSize { rows: 24, columns: 80 };

/// Bytes of entropy for a guest.
const ENTROPY: usize = 64;

/// The container, with a terminal of this size if it has one.
pub fn container(record: &Record, size: Option<WindowSize>) -> Result<ContainerSpec> {
    let (command, guest) = (&record.command, &record.guest);
    Ok(ContainerSpec {
        hostname: record.hostname.clone(),
        hosts: network::hosts(&record.hostname, &guest.network),
        resolv_conf: network::resolv_conf(&guest.network),
        entropy: entropy(),
        grow_disk: record.resources.disk.grows(),
        ephemeral: record.remove_on_exit,
        process: ProcessSpec {
            args: command.args.clone(),
            env: command.env.clone(),
            cwd: command.cwd.clone().into_bytes(),
            user: command.user.clone(),
            groups: command.groups.clone(),
            terminal: command.terminal.then(|| size.unwrap_or(DEFAULT_SIZE)),
            stdin: command.stdin,
            output: true,
        },
        read_only: guest.read_only,
        shm_bytes: guest.shm_bytes,
        tmpfs: guest.tmpfs.clone(),
        limits: guest.limits.clone(),
        sysctls: guest.sysctls.clone(),
        capabilities: capabilities::of(guest)?,
        privileged: guest.privileged,
        pids_max: guest.pids_limit,
        no_new_privileges: guest.no_new_privileges(),
    })
}

/// Fresh random bytes for a guest.
pub fn entropy() -> Vec<u8> {
    let mut seed = vec![0; ENTROPY];
    random::fill(&mut seed);
    seed
}
