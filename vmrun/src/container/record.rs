//! What a container is: settled when it is made, and not changed by running it.

use image_store::{ImageId, RootKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ContainerId, ContainerName};
use crate::disk::{DiskSize, Durability};

/// `config.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub id: ContainerId,
    pub name: ContainerName,
    pub created: Timestamp,
    pub image: ImageUse,
    pub command: Command,
    pub hostname: String,
    pub resources: Resources,
    /// `--rm`: the container is removed when it ends.
    pub remove_on_exit: bool,
}

impl Record {
    /// What is removed after its run need not survive a power cut.
    pub fn durability(&self) -> Durability {
        if self.remove_on_exit { Durability::Unsynced } else { Durability::Synced }
    }
}

/// The image a container was made from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImageUse {
    /// As the user named it.
    pub reference: String,
    pub id: ImageId,
    /// The root disk under the writable one; never regenerated differently while this names it.
    pub root: RootKey,
}

/// The process that the container runs, image config and options already put together.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Command {
    /// Entrypoint and command. Bytes, since arguments need not be UTF-8.
    pub args: Vec<Vec<u8>>,
    /// `NAME=value`, later ones winning.
    pub env: Vec<Vec<u8>>,
    pub cwd: String,
    pub user: String,
    /// `-t`
    pub terminal: bool,
    /// `-i`
    pub stdin: bool,
    /// What `stop` sends first; a number from 1 to 64.
    pub stop_signal: u8,
}

/// The VM's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Guest memory in MiB; touched lazily.
    pub memory_mib: u64,
    pub vcpus: u8,
    pub disk: DiskSize,
}
