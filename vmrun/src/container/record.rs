//! What a container is: settled when it is made, and not changed by running it. Only its name and
//! its restart policy can be given anew.

use std::collections::BTreeMap;

use agent_protocol::{Limit, Tmpfs};
use image_store::{ImageConfig, ImageId, RootKey};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ContainerId, ContainerName, HealthConfig, RestartPolicy, words};
use crate::{
    disk::{DiskSize, Durability},
    logs::LogConfig,
};

/// `config.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub id: ContainerId,
    pub name: ContainerName,
    pub created: Timestamp,
    pub image: ImageUse,
    pub command: Command,
    /// What the image says and what the options say instead, as Docker keeps it: what an image that
    /// is made of the container says.
    #[serde(default)]
    pub config: ImageConfig,
    pub hostname: String,
    pub resources: Resources,
    /// `--rm`: the container is removed when it ends.
    pub remove_on_exit: bool,
    /// The image's and its own.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub restart: RestartPolicy,
    /// Seconds that `stop` waits, where it is not told.
    #[serde(default)]
    pub stop_timeout: Option<u64>,
    #[serde(default)]
    pub health: Option<HealthConfig>,
    #[serde(default)]
    pub guest: GuestSettings,
    #[serde(default)]
    pub log: LogConfig,
    /// `--log-opt`, as they were given.
    #[serde(default)]
    pub log_options: BTreeMap<String, String>,
    /// Streams of whoever starts the container that are attached to it.
    #[serde(default)]
    pub attached: Attached,
}

/// Standard streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// How the guest is set up around the command.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct GuestSettings {
    /// `--read-only`
    pub read_only: bool,
    /// Size of `/dev/shm` in bytes.
    pub shm_bytes: u64,
    pub tmpfs: Vec<Tmpfs>,
    pub limits: Vec<Limit>,
    pub sysctls: Vec<(String, String)>,
    pub network: NetworkFiles,
    /// As they were given, for `inspect`; [`crate::capabilities`] says what they come to.
    pub cap_add: Vec<String>,
    pub cap_drop: Vec<String>,
    pub privileged: bool,
    /// `--init`: the agent reaps what is orphaned anyway.
    pub init: bool,
    /// `--pids-limit`, where it is one.
    pub pids_limit: Option<u64>,
    /// `--security-opt`, as they were given.
    pub security_options: Vec<String>,
}

impl Default for GuestSettings {
    fn default() -> Self {
        Self {
            read_only: false,
            shm_bytes: DEFAULT_SHM,
            tmpfs: Vec::new(),
            limits: Vec::new(),
            sysctls: Vec::new(),
            network: NetworkFiles::default(),
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            privileged: false,
            init: false,
            pids_limit: None,
            security_options: Vec::new(),
        }
    }
}

impl GuestSettings {
    /// `--security-opt no-new-privileges`
    pub fn no_new_privileges(&self) -> bool {
        const ON: &[&str] = &["no-new-privileges", "no-new-privileges=true"];
        let is_on = |option: &String| ON.contains(&option.replacen(':', "=", 1).as_str());
        self.security_options.iter().any(is_on)
    }
}

/// Docker's size of `/dev/shm` in bytes.
const DEFAULT_SHM: u64 = 64 << 20;

/// What the user wants in `/etc/hosts` and `/etc/resolv.conf`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkFiles {
    /// `--add-host`: names and addresses.
    pub hosts: Vec<(String, String)>,
    pub dns: Vec<String>,
    pub dns_search: Vec<String>,
    pub dns_options: Vec<String>,
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
    #[serde(with = "words")]
    pub args: Vec<Vec<u8>>,
    /// `NAME=value`, later ones winning.
    #[serde(with = "words")]
    pub env: Vec<Vec<u8>>,
    pub cwd: String,
    pub user: String,
    /// `--group-add`
    #[serde(default)]
    pub groups: Vec<String>,
    /// `-t`
    pub terminal: bool,
    /// `-i`
    pub stdin: bool,
    /// The command's stdin ends with that of the client that started it.
    #[serde(default)]
    pub stdin_once: bool,
    /// What `stop` sends first; a number from 1 to 64.
    pub stop_signal: u8,
}

/// The VM's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Guest memory in MiB; touched lazily.
    pub memory_mib: u64,
    pub vcpus: u8,
    /// `--cpus` in billionths, where it was given.
    #[serde(default)]
    pub nano_cpus: Option<u64>,
    pub disk: DiskSize,
    /// `--memory-reservation` in bytes; 0 where it was not given.
    #[serde(default)]
    pub memory_reservation: u64,
}
