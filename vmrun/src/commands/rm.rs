//! `vmrun rm`, `vmrun rename` and `vmrun update`

use anyhow::{Context, Result, anyhow, bail};

use super::{Host, each, kill, refuse};
use crate::{
    cli::{RenameArgs, RmArgs, UpdateArgs},
    container::{ContainerError, ContainerName, NameError, RestartPolicy, Status},
    error::failure,
    events::{self, Event},
};

pub fn rm(args: &RmArgs) -> Result<u8> {
    let host = Host::open()?;
    each(&args.containers, |name| {
        let found = host.containers.find(name).and_then(|container| {
            let status = host.containers.status(&container)?;
            Ok((container, status))
        });
        let (container, status) = match found {
            Err(ContainerError::Damaged { id, .. }) => {
                host.containers.remove_damaged(&id)?;
                return Ok(name.to_owned());
            }
            // What is not to be there is not: worth a word, and no failure.
            Err(error @ ContainerError::NotFound(_)) if args.force => {
                return Err(failure(0, error.to_string()));
            }
            found => found?,
        };
        if args.link {
            // Docker's words: there are no other links here.
            bail!("Conflict, cannot remove the default link name of the container");
        }
        let id = &container.record.id;
        if args.force {
            kill::kill_now(&host, &container);
        } else {
            match status {
                Status::Running { .. } => bail!(
                    "You cannot remove a running container {id}. Stop the container before \
                     attempting removal or force remove"
                ),
                Status::Paused { .. } => bail!(
                    "You cannot remove a paused container {id}. Unpause and then stop the \
                     container before attempting removal or force remove"
                ),
                Status::Restarting { .. } => bail!(
                    "You cannot remove a restarting container {id}. Stop the container before \
                     attempting removal or force remove"
                ),
                Status::Created | Status::Exited { .. } => {}
            }
        }
        match host.containers.remove(&container) {
            // One made with --rm went by itself.
            Err(ContainerError::NotFound(_)) if container.record.remove_on_exit => {}
            other => {
                other?;
                events::record(&host.paths, Event::of_container(&container.record, "destroy"));
            }
        }
        Ok(name.to_owned())
    })
}

pub fn rename(args: &RenameArgs) -> Result<()> {
    if args.container.is_empty() || args.name.is_empty() {
        bail!("Neither old nor new names may be empty");
    }
    let host = Host::open()?;
    rename_to(&host, args)
        .inspect_err(|error| {
            crate::error::report(error, 1);
        })
        .map_err(|_| anyhow!("failed to rename container named {}", args.container))
}

fn rename_to(host: &Host, args: &RenameArgs) -> Result<()> {
    const WHILE: &str = "Error when allocating new name";
    let container = host.containers.find(&args.container)?;
    // Docker names the name with a slash here.
    let name = args.name.parse::<ContainerName>();
    let name = name.map_err(|_| NameError::Name(format!("/{}", args.name))).context(WHILE)?;
    if container.record.name == name {
        bail!("Renaming a container with the same name as its current name");
    }
    let renamed = host.containers.rename(&container, name).context(WHILE)?;
    let event = Event::of_container(&renamed.record, "rename")
        .with("oldName", format!("/{}", container.record.name));
    events::record(&host.paths, event);
    Ok(())
}

pub fn update(args: &UpdateArgs) -> Result<u8> {
    refuse(args.fixed.refused())?;
    let host = Host::open()?;
    let Some(restart) = args.restart else {
        bail!("you must provide one or more flags when using this command");
    };
    each(&args.containers, |name| {
        let container = host.containers.find(name)?;
        if container.record.remove_on_exit && restart != RestartPolicy::No {
            bail!(
                "Cannot update container {}: Restart policy cannot be updated because AutoRemove \
                 is enabled for the container",
                container.record.id
            );
        }
        let updated =
            host.containers.update(&container.record.id, |record| record.restart = restart)?;
        events::record(&host.paths, Event::of_container(&updated.record, "update"));
        Ok(name.to_owned())
    })
}
