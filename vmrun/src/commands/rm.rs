//! `vmrun rm`

use std::time::Duration;

use anyhow::{Result, bail};

use super::{Host, each, kill};
use crate::{cli::RmArgs, container::ContainerError};

pub fn rm(args: &RmArgs) -> Result<u8> {
    let host = Host::open()?;
    each(&args.containers, |name| {
        let container = host.containers.find(name)?;
        if args.force {
            kill::end(&host, &container, Duration::ZERO)?;
        } else if host.containers.status(&container)?.is_running() {
            bail!(
                "You cannot remove a running container {}. Stop the container before \
                 attempting removal or force remove",
                container.record.id
            );
        }
        match host.containers.remove(&container) {
            // One made with --rm went by itself.
            Err(ContainerError::NotFound(_)) if container.record.remove_on_exit => {}
            other => other?,
        }
        Ok(name.to_owned())
    })
}
