//! The command line. `vmrun [OPTIONS] IMAGE …` is `vmrun run [OPTIONS] IMAGE …`.

mod changes;
mod container;
mod copy;
mod filter;
mod images;
mod later;
mod observe;
mod refusal;
mod registry;
mod run;
mod switches;
pub mod values;
mod without;

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

pub use changes::*;
pub use container::*;
pub use copy::*;
pub use filter::Filter;
pub use images::*;
pub use later::Later;
pub use observe::*;
pub use refusal::refusal;
pub use registry::*;
pub use run::*;
pub use switches::without_value;
pub use without::*;

/// Commands of Docker's that people type and vmrun does not have: named, so that they are neither
/// looked for as images nor guessed at.
const NOT_YET: &[&str] = &["build", "network", "search", "volume"];

/// More of those, that nobody types by mistake for another. Not `node`: that is an image.
const NOT_AT_ALL: &[&str] = &[
    "builder", "buildx", "compose", "config", "context", "manifest", "plugin", "secret", "service",
    "stack", "swarm", "trust",
];

/// Commands that vmrun starts itself with.
const INTERNAL: &[&str] = &["monitor", "vmm"];

#[derive(Debug, Parser)]
#[command(
    name = "vmrun",
    version,
    about = "Runs a container image in a microVM of its own, without root and without a daemon",
    override_usage = "vmrun [OPTIONS] IMAGE [COMMAND] [ARG...]\n       vmrun COMMAND",
    after_help = "Examples:\n  \
        vmrun load -i debian.tar        put an image archive into the store\n  \
        vmrun -it debian bash           run a shell in it\n  \
        vmrun --rm debian cat /etc/os-release\n\n\
        Options of 'vmrun IMAGE' are those of 'vmrun run'; see 'vmrun run --help'.",
    disable_help_subcommand = true,
    subcommand_required = true
)]
pub struct Cli {
    #[command(subcommand)]
    pub action: Action,
}

#[derive(Debug, Subcommand)]
pub enum Action {
    /// Create and run a new container from an image
    #[command(
        disable_help_flag = true,
        override_usage = "vmrun run [OPTIONS] IMAGE [COMMAND] [ARG...]",
        after_help = "Examples:\n  \
        vmrun run -it --rm debian bash\n  \
        vmrun run --name db -m 1g --cpus 2 postgres\n  \
        echo hello | vmrun run -i --rm debian cat"
    )]
    Run(Later<RunArgs>),
    /// Create a new container from an image, without starting it
    #[command(
        disable_help_flag = true,
        override_usage = "vmrun create [OPTIONS] IMAGE [COMMAND] [ARG...]",
        after_help = "Example:\n  vmrun start -ai $(vmrun create -it debian bash)"
    )]
    Create(Later<CreateArgs>),
    /// Start one or more stopped containers
    #[command(after_help = "Example:\n  vmrun start -a web")]
    Start(Later<StartArgs>),
    /// Stop one or more running containers
    #[command(after_help = "Example:\n  vmrun stop -t 2 web")]
    Stop(Later<StopArgs>),
    /// Kill one or more running containers
    #[command(after_help = "Example:\n  vmrun kill -s HUP web")]
    Kill(Later<KillArgs>),
    /// Restart one or more containers
    #[command(after_help = "Example:\n  vmrun restart -t 2 web")]
    Restart(Later<StopArgs>),
    /// Pause all processes of one or more containers
    #[command(after_help = "Example:\n  vmrun pause web")]
    Pause(Later<ContainersArgs>),
    /// Let one or more paused containers go on
    #[command(after_help = "Example:\n  vmrun unpause web")]
    Unpause(Later<ContainersArgs>),
    /// Wait until one or more containers stop, and print their exit statuses
    #[command(after_help = "Example:\n  vmrun wait web")]
    Wait(Later<ContainersArgs>),
    /// Give a container another name
    #[command(after_help = "Example:\n  vmrun rename web old-web")]
    Rename(Later<RenameArgs>),
    /// Change the settings of one or more containers
    #[command(after_help = "Example:\n  vmrun update --restart unless-stopped web")]
    Update(Later<UpdateArgs>),
    /// Join standard input, output and error to a running container
    #[command(after_help = "Example:\n  vmrun attach web      leave it with Ctrl-P Ctrl-Q")]
    Attach(Later<AttachArgs>),
    /// Copy files between a container, running or not, and here
    #[command(after_help = "Examples:\n  vmrun cp web:/etc/nginx/nginx.conf .\n  \
        vmrun cp site/. web:/srv\n  vmrun cp web:/var/log - | tar t")]
    Cp(Later<CpArgs>),
    /// List what a container has changed in its files
    #[command(after_help = "Example:\n  vmrun diff web      A is added, C changed, D deleted")]
    Diff(Later<DiffArgs>),
    /// Make an image of a container and what it has changed
    #[command(
        after_help = "Example:\n  vmrun commit -m 'with curl' -c 'CMD [\"curl\"]' web mine:1"
    )]
    Commit(Later<CommitArgs>),
    /// Write all files of a container, running or not, to a tar archive
    #[command(after_help = "Examples:\n  vmrun export -o web.tar web\n  \
        vmrun export web | vmrun import - flat:1")]
    Export(Later<ExportArgs>),
    /// Run a command in a running container
    #[command(after_help = "Examples:\n  vmrun exec -it web sh\n  vmrun exec db pg_dump app")]
    Exec(Later<ExecArgs>),
    /// List containers
    #[command(after_help = "Example:\n  vmrun ps -a")]
    Ps(Later<PsArgs>),
    /// Remove one or more containers
    #[command(after_help = "Example:\n  vmrun rm -f web")]
    Rm(Later<RmArgs>),
    /// Show what a container has printed
    #[command(after_help = "Example:\n  vmrun logs -f --tail 10 web")]
    Logs(Later<LogsArgs>),
    /// Show what happens to containers and images, as it happens
    #[command(after_help = "Example:\n  vmrun events --since 1h --filter event=die")]
    Events(Later<EventsArgs>),
    /// Show what containers use
    #[command(after_help = "Example:\n  vmrun stats --no-stream")]
    Stats(Later<StatsArgs>),
    /// Show what runs in a container
    #[command(after_help = "Example:\n  vmrun top web -o pid,user,args")]
    Top(Later<TopArgs>),
    /// List the ports of a container that are published
    #[command(after_help = "Example:\n  vmrun port web 80")]
    Port(Later<PortArgs>),
    /// Show what there is on this host
    #[command(after_help = "Example:\n  vmrun info")]
    Info(Later<InfoArgs>),
    /// Load images from an archive: an OCI layout or archive, or what 'docker save' writes
    #[command(
        after_help = "Examples:\n  vmrun load -i debian.tar\n  docker save alpine | vmrun load"
    )]
    Load(Later<LoadArgs>),
    /// List images
    #[command(after_help = "Example:\n  vmrun images")]
    Images(Later<ImagesArgs>),
    /// Remove one or more images
    #[command(after_help = "Example:\n  vmrun rmi debian:demo")]
    Rmi(Later<RmiArgs>),
    /// Pull an image from a registry
    #[command(
        after_help = "Examples:\n  vmrun pull debian\n  vmrun pull localhost:5000/me/tool:1\n\n\
        Mirrors, private CAs and registries without TLS are named in\n\
        ~/.config/vmrun/registries.toml:\n\n  \
        [registry.\"images.lan:5000\"]\n  \
        mirrors = [\"mirror.lan\"]\n  \
        ca = \"/etc/ssl/lan-ca.pem\"   # or: plain-http = true"
    )]
    Pull(Later<PullArgs>),
    /// Push an image to a registry
    #[command(after_help = "Example:\n  vmrun push localhost:5000/me/tool:1")]
    Push(Later<PushArgs>),
    /// Log in to a registry
    #[command(
        after_help = "Example:\n  vmrun login -u me --password-stdin localhost:5000 < password"
    )]
    Login(Later<LoginArgs>),
    /// Log out of a registry
    #[command(after_help = "Example:\n  vmrun logout localhost:5000")]
    Logout(Later<LogoutArgs>),
    /// Give an image another name
    #[command(after_help = "Example:\n  vmrun tag debian:demo mine:1")]
    Tag(Later<TagArgs>),
    /// Show how an image came to be
    #[command(after_help = "Example:\n  vmrun history --no-trunc debian")]
    History(Later<HistoryArgs>),
    /// Show all that is known of containers and images
    #[command(after_help = "Examples:\n  vmrun inspect web\n  \
        vmrun inspect -f '{{.Config.Env}}' debian")]
    Inspect(Later<InspectArgs>),
    /// Write one or more images to an archive that 'docker load' reads too
    #[command(after_help = "Example:\n  vmrun save -o images.tar debian alpine:3")]
    Save(Later<SaveArgs>),
    /// Make an image of a root file system in a tar archive
    #[command(after_help = "Example:\n  vmrun import -c 'CMD [\"sh\"]' rootfs.tar mine:1")]
    Import(Later<ImportArgs>),
    /// Commands on images, as Docker groups them
    #[command(subcommand)]
    Image(Later<ImageAction>),
    /// Commands on containers, as Docker groups them
    #[command(subcommand)]
    Container(Later<ContainerAction>),
    /// Disk space, and whether the store is sound
    #[command(subcommand)]
    System(Later<SystemAction>),
    #[command(skip)]
    ImagePrune(Later<ImagePruneArgs>),
    #[command(skip)]
    ContainerPrune(Later<PruneArgs>),
    /// Tell whether this host can run microVMs, and what to do where it cannot
    #[command(after_help = "Example:\n  vmrun doctor")]
    Doctor,
    /// Show the version
    #[command(after_help = "Example:\n  vmrun version -f '{{.Client.Version}}'")]
    Version(Later<InfoArgs>),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  vmrun completion bash > ~/.local/share/bash-completion/completions/vmrun"
    )]
    Completion { shell: Shell },
    #[command(hide = true)]
    Monitor { id: String },
    #[command(hide = true)]
    Vmm,
}

#[derive(Debug, Args)]
pub struct PsArgs {
    /// All containers, not only the running ones
    #[arg(short, long)]
    pub all: bool,
    /// Ids only
    #[arg(short, long)]
    pub quiet: bool,
    /// Do not shorten ids and commands
    #[arg(long)]
    pub no_trunc: bool,
    /// Only some: id=, name=, label=, status=, exited=, ancestor=, before=, since=, health=, network=
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub filter: Vec<Filter>,
    /// The newest containers, as many as this, running or not
    #[arg(short = 'n', long, value_name = "NUMBER", allow_negative_numbers = true)]
    pub last: Option<i64>,
    /// The newest container, running or not
    #[arg(short, long)]
    pub latest: bool,
    /// Show what they take on disk
    #[arg(short, long)]
    pub size: bool,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct LoadArgs {
    /// Archive or OCI layout folder to read; '-' or nothing for standard input
    #[arg(short, long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Show no progress
    #[arg(short, long)]
    pub quiet: bool,
}

impl Action {
    /// The same action by its short spelling: `image ls` is `images`.
    pub fn ungrouped(self) -> Self {
        match self {
            Self::Image(action) => action.into_inner().into(),
            Self::Container(action) => action.into_inner().into(),
            other => other,
        }
    }
}

/// What the first word of a command line is, when it is not an option.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    /// A command of vmrun's.
    Command,
    /// A command of Docker's that vmrun does not have.
    NotYet,
    /// Looks like a command with a typing error: what may have been meant.
    Mistyped(String),
    /// Anything else: an image.
    Image,
}

/// Tells commands from images.
pub fn classify(word: &str) -> Word {
    if Action::has_subcommand(word) || word == "help" {
        return Word::Command;
    }
    if NOT_YET.contains(&word) || NOT_AT_ALL.contains(&word) {
        return Word::NotYet;
    }
    let cli = Cli::command();
    let known = cli.get_subcommands().filter(|command| !command.is_hide_set());
    let mut candidates: Vec<&str> = known.map(|command| command.get_name()).collect();
    candidates.extend(NOT_YET);
    let near = candidates.into_iter().map(|name| (distance(word, name), name));
    match near.min_by_key(|&(distance, _)| distance) {
        // Two errors in a word of three letters leave nothing of it.
        Some((1, name)) if word.len() > 1 => Word::Mistyped(name.to_owned()),
        Some((2, name)) if word.len() > 4 => Word::Mistyped(name.to_owned()),
        _ => Word::Image,
    }
}

/// Optimal string alignment: insertions, deletions, replacements and swapped neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(row[j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// What of some words is no command's name, from the first such word on.
pub fn unknown_words(words: &[OsString]) -> Option<String> {
    let mut command = Cli::command();
    command.build();
    for (at, word) in words.iter().enumerate() {
        let next = command.find_subcommand(word).filter(|next| !next.is_hide_set()).cloned();
        let Some(next) = next else {
            let rest: Vec<_> = words[at..].iter().map(|word| word.to_string_lossy()).collect();
            return Some(rest.join(" "));
        };
        command = next;
    }
    None
}

/// Whether a word is one of the commands that vmrun starts itself with.
pub fn is_internal(word: &str) -> bool {
    INTERNAL.contains(&word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_end_behind_the_image() {
        for (line, image, command) in [
            ("run --rm py -m http.server -e --name", "py", "-m http.server -e --name"),
            ("run -it --name aa img -i", "img", "-i"),
            ("create -m 1g img --rm=true x -h --help", "img", "--rm=true x -h --help"),
            ("container run -dm1g img --rm", "img", "--rm"),
            ("run --net none -vx:y img -v -- x", "img", "-v -- x"),
            ("run img -- x", "img", "-- x"),
            ("run -- img -x", "img", "-x"),
            ("run --name xx -it img ls", "img", "ls"),
            ("run img", "img", ""),
        ] {
            let words = ["vmrun"].into_iter().chain(line.split(' '));
            let args = match Cli::try_parse_from(words).unwrap().action.ungrouped() {
                Action::Run(args) => args.into_inner().container,
                Action::Create(args) => args.into_inner().container,
                other => panic!("{other:?}"),
            };
            assert_eq!(args.image(), image, "{line}");
            assert_eq!(args.command().join(" ".as_ref()), command, "{line}");
        }
        assert!(Cli::try_parse_from(["vmrun", "run", "--nosuch", "img"]).is_err());
        assert!(Cli::try_parse_from(["vmrun", "run", "--rm"]).is_err());
    }

    #[test]
    fn help_is_there_for_commands() {
        let unknown = |line: &str| {
            let words: Vec<OsString> = line.split_whitespace().map(Into::into).collect();
            unknown_words(&words)
        };
        for known in ["", "run", "container ls", "system prune", "system service install"] {
            assert_eq!(unknown(known), None, "{known}");
        }
        assert_eq!(unknown("nosuch").as_deref(), Some("nosuch"));
        assert_eq!(unknown("container nosuch more").as_deref(), Some("nosuch more"));
        assert_eq!(unknown("monitor").as_deref(), Some("monitor"));
    }

    #[test]
    fn typing_errors_are_told_from_images() {
        for (word, expected) in [
            ("run", Word::Command),
            ("exec", Word::Command),
            ("build", Word::NotYet),
            ("compose", Word::NotYet),
            ("slack", Word::Image),
            ("node", Word::Image),
            ("stpo", Word::Mistyped("stop".into())),
            ("iamges", Word::Mistyped("images".into())),
            ("strat", Word::Mistyped("start".into())),
            ("psu", Word::Mistyped("ps".into())),
            ("alpine", Word::Image),
            ("debian", Word::Image),
            ("busybox", Word::Image),
            ("postgres", Word::Image),
            ("python", Word::Image),
            ("nginx", Word::Image),
            ("redis", Word::Image),
            ("library/stpo", Word::Image),
        ] {
            assert_eq!(classify(word), expected, "{word}");
        }
    }
}
