//! The words of commands on images and on what is stored, and Docker's grouped spellings.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use image_store::Platform;

use super::{
    Action, AttachArgs, CommitArgs, ContainersArgs, CpArgs, CreateArgs, DiffArgs, EventsArgs,
    ExecArgs, ExportArgs, Filter, InfoArgs, KillArgs, Later, LoadArgs, LogsArgs, PortArgs, PsArgs,
    PullArgs, PushArgs, RenameArgs, RmArgs, RunArgs, StartArgs, StatsArgs, StopArgs, TopArgs,
    UpdateArgs,
};

#[derive(Debug, Args)]
pub struct ImagesArgs {
    /// All images; here there are no others
    #[arg(short, long)]
    pub all: bool,
    /// Ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub no_trunc: bool,
    /// Show the manifests' digests
    #[arg(long)]
    pub digests: bool,
    /// Only some: dangling=, reference=, label=, before=, since=, until=
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub filter: Vec<Filter>,
    #[command(flatten)]
    pub output: OutputArgs,
    /// Only of this name, which may have wildcards
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub reference: Option<String>,
}

/// How a list is shown.
#[derive(Debug, Args)]
pub struct OutputArgs {
    /// Go template for each line, 'table TEMPLATE', or 'json'
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

impl OutputArgs {
    pub fn format(&self) -> Option<&str> {
        if self.json { Some("json") } else { self.format.as_deref() }
    }
}

#[derive(Debug, Args)]
pub struct RmiArgs {
    /// Remove an image that has several names, or that a stopped container was made from
    #[arg(short, long)]
    pub force: bool,
    /// Accepted as in Docker: there are no untagged parents here
    #[arg(long)]
    pub no_prune: bool,
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

#[derive(Debug, Args)]
pub struct TagArgs {
    #[arg(value_name = "SOURCE_IMAGE[:TAG]")]
    pub source: String,
    #[arg(value_name = "TARGET_IMAGE[:TAG]")]
    pub target: String,
}

#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// Sizes and dates in words; '--human=false' for bytes and points in time
    #[arg(
        short = 'H', long, default_value_t = true, default_missing_value = "true",
        num_args = 0..=1, require_equals = true, action = clap::ArgAction::Set
    )]
    pub human: bool,
    /// Ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    pub no_trunc: bool,
    /// Go template for each line, 'table TEMPLATE', or 'json'
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    pub image: String,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// What the names stand for: container, or image
    #[arg(long = "type", value_name = "TYPE", default_value = "", hide_default_value = true)]
    pub kind: String,
    #[command(flatten)]
    pub of: InspectOf,
}

#[derive(Debug, Args)]
pub struct InspectOf {
    /// Go template for each, or 'json'
    #[arg(short, long, value_name = "TEMPLATE")]
    pub format: Option<String>,
    /// Show what containers take on disk
    #[arg(short, long)]
    pub size: bool,
    #[arg(required = true, value_name = "NAME|ID")]
    pub names: Vec<String>,
}

#[derive(Debug, Args)]
pub struct SaveArgs {
    /// File to write, in place of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    #[arg(required = true, value_name = "IMAGE")]
    pub images: Vec<String>,
}

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Apply a Dockerfile instruction, such as 'CMD ["sh"]'
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// Say in the image's history what this is
    #[arg(short, long)]
    pub message: Option<String>,
    /// Platform of the image: a guest is linux/amd64
    #[arg(long)]
    pub platform: Option<Platform>,
    /// Archive of a root file system, here or at an http or https URL; '-' for standard input
    #[arg(value_name = "FILE|URL|-")]
    pub file: PathBuf,
    /// Name for the image
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub name: Option<String>,
}

#[derive(Debug, Args)]
pub struct ImagePruneArgs {
    /// All images that no container was made from, not only those without a name
    #[arg(short, long)]
    pub all: bool,
    #[command(flatten)]
    pub prune: PruneArgs,
}

#[derive(Debug, Args)]
pub struct SystemPruneArgs {
    #[command(flatten)]
    pub images: ImagePruneArgs,
    /// Accepted as in Docker: there are no volumes
    #[arg(long)]
    pub volumes: bool,
}

#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Do not ask
    #[arg(short, long)]
    pub force: bool,
    /// Only some: until=, label=, label!=
    #[arg(long, value_name = "NAME=VALUE")]
    pub filter: Vec<Filter>,
}

#[derive(Debug, Args)]
pub struct DfArgs {
    /// Each image and container
    #[arg(short, long)]
    pub verbose: bool,
    /// Go template for each line, 'table TEMPLATE', or 'json'
    #[arg(long, value_name = "TEMPLATE")]
    pub format: Option<String>,
}

#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Make anew what can be made anew, remove what is damaged beyond that
    #[arg(long)]
    pub repair: bool,
}

impl InspectOf {
    fn of_kind(self, kind: &str) -> Later<InspectArgs> {
        InspectArgs { kind: kind.into(), of: self }.into()
    }
}

/// `vmrun image …`
#[derive(Debug, Subcommand)]
pub enum ImageAction {
    /// List images
    #[command(visible_alias = "list")]
    Ls(Later<ImagesArgs>),
    /// Remove one or more images
    #[command(visible_alias = "remove")]
    Rm(Later<RmiArgs>),
    /// Give an image another name
    Tag(Later<TagArgs>),
    /// Show how an image came to be
    History(Later<HistoryArgs>),
    /// Show all that is known of one or more images
    Inspect(Later<InspectOf>),
    /// Pull an image from a registry
    Pull(Later<PullArgs>),
    /// Push an image to a registry
    Push(Later<PushArgs>),
    /// Write one or more images to an archive
    Save(Later<SaveArgs>),
    /// Load images from an archive
    Load(Later<LoadArgs>),
    /// Make an image of a root file system in a tar archive
    Import(Later<ImportArgs>),
    /// Remove images that nothing uses
    Prune(Later<ImagePruneArgs>),
}

/// `vmrun container …`
#[derive(Debug, Subcommand)]
pub enum ContainerAction {
    /// List containers
    #[command(visible_aliases = ["list", "ps"])]
    Ls(Later<PsArgs>),
    /// Create and run a new container from an image
    #[command(disable_help_flag = true)]
    Run(Later<RunArgs>),
    /// Create a new container from an image, without starting it
    #[command(disable_help_flag = true)]
    Create(Later<CreateArgs>),
    /// Start one or more stopped containers
    Start(Later<StartArgs>),
    /// Restart one or more containers
    Restart(Later<StopArgs>),
    /// Pause all processes of one or more containers
    Pause(Later<ContainersArgs>),
    /// Let one or more paused containers go on
    Unpause(Later<ContainersArgs>),
    /// Wait until one or more containers stop, and print their exit statuses
    Wait(Later<ContainersArgs>),
    /// Give a container another name
    Rename(Later<RenameArgs>),
    /// Change the settings of one or more containers
    Update(Later<UpdateArgs>),
    /// Join standard input, output and error to a running container
    Attach(Later<AttachArgs>),
    /// Make an image of what a container has changed
    Commit(Later<CommitArgs>),
    /// List what a container has changed in its files
    Diff(Later<DiffArgs>),
    /// Copy files between a container, running or not, and here
    Cp(Later<CpArgs>),
    /// Write all files of a container, running or not, to a tar archive
    Export(Later<ExportArgs>),
    /// Run a command in a running container
    Exec(Later<ExecArgs>),
    /// Stop one or more running containers
    Stop(Later<StopArgs>),
    /// Kill one or more running containers
    Kill(Later<KillArgs>),
    /// Show what a container has printed
    Logs(Later<LogsArgs>),
    /// Show what containers use
    Stats(Later<StatsArgs>),
    /// Show what runs in a container
    Top(Later<TopArgs>),
    /// List the ports of a container that are published
    Port(Later<PortArgs>),
    /// Remove one or more containers
    #[command(visible_alias = "remove")]
    Rm(Later<RmArgs>),
    /// Show all that is known of one or more containers
    Inspect(Later<InspectOf>),
    /// Remove all stopped containers
    Prune(Later<PruneArgs>),
}

/// `vmrun system …`
#[derive(Debug, Subcommand)]
pub enum SystemAction {
    /// Show what images and containers take on disk
    Df(Later<DfArgs>),
    /// Remove stopped containers, and images that nothing uses
    Prune(Later<SystemPruneArgs>),
    /// Show what there is on this host
    Info(Later<InfoArgs>),
    /// Show what happens to containers and images, as it happens
    Events(Later<EventsArgs>),
    /// Start containers with a restart policy when your session starts
    #[command(subcommand)]
    Service(Later<ServiceAction>),
    /// Verify all that is in the store
    #[command(after_help = "Exit status 1 if something is damaged, or needs to be loaded again.")]
    Check(Later<CheckArgs>),
}

/// `vmrun system service …`
#[derive(Debug, Subcommand)]
pub enum ServiceAction {
    /// Install a unit of your systemd that does it
    #[command(after_help = "Example:\n  vmrun system service install")]
    Install,
    /// Remove the unit
    Uninstall,
    /// Start what is to run always, or unless it was stopped
    Start,
    /// Stop all that runs, to be started again with the next session
    Stop,
}

impl From<ImageAction> for Action {
    fn from(action: ImageAction) -> Self {
        match action {
            ImageAction::Ls(args) => Self::Images(args),
            ImageAction::Rm(args) => Self::Rmi(args),
            ImageAction::Tag(args) => Self::Tag(args),
            ImageAction::History(args) => Self::History(args),
            ImageAction::Inspect(of) => Self::Inspect(of.into_inner().of_kind("image")),
            ImageAction::Pull(args) => Self::Pull(args),
            ImageAction::Push(args) => Self::Push(args),
            ImageAction::Save(args) => Self::Save(args),
            ImageAction::Load(args) => Self::Load(args),
            ImageAction::Import(args) => Self::Import(args),
            ImageAction::Prune(args) => Self::ImagePrune(args),
        }
    }
}

impl From<ContainerAction> for Action {
    fn from(action: ContainerAction) -> Self {
        match action {
            ContainerAction::Ls(args) => Self::Ps(args),
            ContainerAction::Run(args) => Self::Run(args),
            ContainerAction::Create(args) => Self::Create(args),
            ContainerAction::Start(args) => Self::Start(args),
            ContainerAction::Restart(args) => Self::Restart(args),
            ContainerAction::Pause(args) => Self::Pause(args),
            ContainerAction::Unpause(args) => Self::Unpause(args),
            ContainerAction::Wait(args) => Self::Wait(args),
            ContainerAction::Rename(args) => Self::Rename(args),
            ContainerAction::Update(args) => Self::Update(args),
            ContainerAction::Attach(args) => Self::Attach(args),
            ContainerAction::Commit(args) => Self::Commit(args),
            ContainerAction::Diff(args) => Self::Diff(args),
            ContainerAction::Cp(args) => Self::Cp(args),
            ContainerAction::Export(args) => Self::Export(args),
            ContainerAction::Exec(args) => Self::Exec(args),
            ContainerAction::Stop(args) => Self::Stop(args),
            ContainerAction::Kill(args) => Self::Kill(args),
            ContainerAction::Logs(args) => Self::Logs(args),
            ContainerAction::Stats(args) => Self::Stats(args),
            ContainerAction::Top(args) => Self::Top(args),
            ContainerAction::Port(args) => Self::Port(args),
            ContainerAction::Rm(args) => Self::Rm(args),
            ContainerAction::Inspect(of) => Self::Inspect(of.into_inner().of_kind("container")),
            ContainerAction::Prune(args) => Self::ContainerPrune(args),
        }
    }
}
