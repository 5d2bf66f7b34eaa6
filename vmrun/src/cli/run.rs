//! The words of `run` and `create`.

use std::{ffi::OsString, path::PathBuf, str::FromStr, time::Duration};

use agent_protocol::Limit;
use clap::{
    ArgAction, Args,
    builder::{OsStringValueParser, TypedValueParser},
};

use image_store::Platform;

use crate::{client::DetachKeys, container::RestartPolicy, disk::DiskSize, limits, size::ByteSize};

use super::{
    PullPolicy, TrustArgs, WithoutArgs,
    values::{self, ValueError},
};

#[derive(Debug, Args)]
pub struct RunArgs {
    /// Run in the background and print the container's id
    #[arg(short, long)]
    pub detach: bool,
    /// Pass signals on to the command; '--sig-proxy=false' keeps them here
    #[arg(
        long, default_value_t = true, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = ArgAction::Set
    )]
    pub sig_proxy: bool,
    /// Keys that leave the container running
    #[arg(long, value_name = "KEYS", default_value = "ctrl-p,ctrl-q")]
    pub detach_keys: DetachKeys,
    #[command(flatten)]
    pub container: ContainerArgs,
}

#[derive(Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    pub container: ContainerArgs,
}

/// What a container is to be.
#[derive(Debug, Args)]
pub struct ContainerArgs {
    /// Remove the container when it exits
    #[arg(long)]
    pub rm: bool,
    /// Keep standard input open
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal
    #[arg(short, long)]
    pub tty: bool,
    /// Streams to attach: stdin, stdout, stderr
    #[arg(short, long, value_name = "STREAM")]
    pub attach: Vec<AttachedStream>,
    /// Set an environment variable; without a value, pass it on from here
    #[arg(
        short, long, value_name = "NAME[=VALUE]",
        value_parser = OsStringValueParser::new().try_map(values::variable)
    )]
    pub env: Vec<OsString>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Working directory inside the container
    #[arg(short, long, value_name = "DIR")]
    pub workdir: Option<String>,
    /// User name or uid, and group or gid: USER[:GROUP]
    #[arg(short, long)]
    pub user: Option<String>,
    /// One more group of the user, by name or gid
    #[arg(long, value_name = "GROUP")]
    pub group_add: Vec<String>,
    /// Program to run in place of the image's entrypoint
    #[arg(long, value_name = "PROGRAM")]
    pub entrypoint: Option<OsString>,
    /// Name of the container [default: two words]
    #[arg(long)]
    pub name: Option<String>,
    /// Host name inside the container [default: the short id]
    #[arg(short = 'h', long)]
    pub hostname: Option<String>,
    /// Set a label
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = values::label)]
    pub label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    pub label_file: Vec<PathBuf>,
    /// Write the container's id to a new file
    #[arg(long, value_name = "FILE")]
    pub cidfile: Option<PathBuf>,
    /// Start again when it ends: no, on-failure[:MOST], always, unless-stopped
    #[arg(long, value_name = "POLICY", default_value = "no")]
    pub restart: RestartPolicy,
    /// Memory of the VM, used as it is touched, such as 512m or 2g
    #[arg(short, long, value_name = "SIZE")]
    pub memory: Option<ByteSize>,
    /// Accepted as in Docker; the VM's memory is taken as it is touched
    #[arg(long, value_name = "SIZE")]
    pub memory_reservation: Option<ByteSize>,
    /// Number of CPUs, 8 at most; parts of one are a share of its time
    #[arg(long, value_name = "NUMBER", value_parser = values::cpus, allow_negative_numbers = true)]
    pub cpus: Option<f64>,
    /// Size of the writable disk
    #[arg(long, value_name = "SIZE", default_value = "10g")]
    pub disk_size: DiskSize,
    /// Size of /dev/shm [default: 64m]
    #[arg(long, value_name = "SIZE")]
    pub shm_size: Option<ByteSize>,
    /// Mount the container's root read-only
    #[arg(long)]
    pub read_only: bool,
    /// Mount a file system in memory: PATH[:OPTIONS]
    #[arg(long, value_name = "PATH[:OPTIONS]")]
    pub tmpfs: Vec<String>,
    /// Set a limit: TYPE=SOFT[:HARD], such as nofile=1024:2048
    #[arg(long, value_name = "TYPE=SOFT[:HARD]", value_parser = limits::parse)]
    pub ulimit: Vec<Limit>,
    /// Set a setting of the guest's kernel, such as net.core.somaxconn=1024
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::sysctl)]
    pub sysctl: Vec<(String, String)>,
    /// Add a line to /etc/hosts: NAME:ADDRESS
    #[arg(long, value_name = "NAME:ADDRESS", value_parser = values::host)]
    pub add_host: Vec<(String, String)>,
    /// Name server in /etc/resolv.conf
    #[arg(long, value_name = "ADDRESS", value_parser = values::address)]
    pub dns: Vec<String>,
    /// Option in /etc/resolv.conf
    #[arg(long, alias = "dns-opt", value_name = "OPTION")]
    pub dns_option: Vec<String>,
    /// Search domain in /etc/resolv.conf
    #[arg(long, value_name = "DOMAIN")]
    pub dns_search: Vec<String>,
    /// Add a capability, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_add: Vec<String>,
    /// Drop a capability, or ALL
    #[arg(long, value_name = "CAPABILITY")]
    pub cap_drop: Vec<String>,
    /// All capabilities inside the guest, and nothing of its kernel hidden
    #[arg(long)]
    pub privileged: bool,
    /// Accepted as in Docker; orphans are reaped by the container's first process or the guest's
    #[arg(long)]
    pub init: bool,
    /// Where the output is kept: json-file, or none
    #[arg(long, value_name = "DRIVER")]
    pub log_driver: Option<String>,
    /// How much of it: max-size=10m, max-file=3
    #[arg(long, value_name = "NAME=VALUE")]
    pub log_opt: Vec<String>,
    /// Signal that 'stop' sends first
    #[arg(long, value_name = "SIGNAL")]
    pub stop_signal: Option<String>,
    /// Seconds that 'stop' waits before it kills
    #[arg(long, value_name = "SECONDS")]
    pub stop_timeout: Option<u64>,
    /// Command that tells by its exit status whether the container is healthy
    #[arg(long, value_name = "COMMAND")]
    pub health_cmd: Option<String>,
    /// Time between checks [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub health_interval: Option<Duration>,
    /// Time that a check may take [default: 30s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub health_timeout: Option<Duration>,
    /// Time at the start in which failures do not count [default: 0s]
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    pub health_start_period: Option<Duration>,
    /// Failures in a row that make the container unhealthy [default: 3]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub health_retries: Option<i32>,
    /// Ask for no health, whatever the image says
    #[arg(long)]
    pub no_healthcheck: bool,
    /// When to ask a registry for the image
    #[arg(long, value_name = "WHEN", default_value = "missing")]
    pub pull: PullPolicy,
    /// Platform of the image: a guest is linux/amd64
    #[arg(long)]
    pub platform: Option<Platform>,
    /// Say in the config that the command listens here: PORT[-PORT][/PROTOCOL]
    #[arg(long, value_name = "PORT")]
    pub expose: Vec<String>,
    /// A share of the CPUs as --cpus: microseconds in each period
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub cpu_quota: Option<i64>,
    /// The period of --cpu-quota [default: 100000]
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub cpu_period: Option<i64>,
    /// Accepted as in Docker; a guest has no swap. -1 for any
    #[arg(
        long, value_name = "SIZE", value_parser = values::memory_swap, allow_negative_numbers = true
    )]
    pub memory_swap: Option<u64>,
    /// Accepted as in Docker; a guest has no swap
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub memory_swappiness: Option<i64>,
    /// size=SIZE, the same as --disk-size SIZE
    #[arg(long, value_name = "NAME=VALUE", value_parser = values::storage)]
    pub storage_opt: Vec<DiskSize>,
    /// Most processes in the container; 0 or -1 for any number
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub pids_limit: Option<i64>,
    /// no-new-privileges, or what is so anyway: seccomp=unconfined, apparmor=unconfined, label=disable
    #[arg(long, value_name = "OPTION")]
    pub security_opt: Vec<String>,
    #[command(flatten)]
    pub trust: TrustArgs,
    #[command(flatten)]
    pub without: WithoutArgs,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    pub help: Option<bool>,
    /// Image, by name or id, and behind it a command and its arguments, in place of the image's: as in
    /// Docker, also what looks like an option
    // Of two arguments the second would begin with its first word that is no option.
    #[arg(required = true, trailing_var_arg = true, value_name = "IMAGE [COMMAND] [ARG]")]
    words: Vec<OsString>,
}

impl ContainerArgs {
    /// The image's name.
    pub fn image(&self) -> String {
        self.words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The command and its arguments; none for the image's.
    pub fn command(&self) -> &[OsString] {
        self.words.get(1..).unwrap_or_default()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachedStream {
    Stdin,
    Stdout,
    Stderr,
}

impl FromStr for AttachedStream {
    type Err = ValueError;

    fn from_str(text: &str) -> Result<Self, ValueError> {
        match text.to_ascii_lowercase().as_str() {
            "stdin" => Ok(Self::Stdin),
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            _ => Err(ValueError::Stream),
        }
    }
}
