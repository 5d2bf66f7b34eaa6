//! The words of commands on what a container has changed.

use clap::{ArgAction, Args, builder::BoolishValueParser};

#[derive(Debug, Args)]
pub struct DiffArgs {
    #[arg(value_name = "CONTAINER")]
    pub container: String,
}

#[derive(Debug, Args)]
pub struct CommitArgs {
    /// Who made the image, such as 'Ada Lovelace <ada@example.org>'
    #[arg(short, long)]
    pub author: Option<String>,
    /// Dockerfile instruction to apply: CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL,
    /// USER, VOLUME, WORKDIR
    #[arg(short, long, value_name = "INSTRUCTION")]
    pub change: Vec<String>,
    /// What was done, for the history
    #[arg(short, long)]
    pub message: Option<String>,
    /// Whether the container stands still meanwhile
    #[arg(
        short,
        long,
        action = ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_value = "true",
        default_missing_value = "true",
        value_parser = BoolishValueParser::new()
    )]
    pub pause: bool,
    #[arg(value_name = "CONTAINER")]
    pub container: String,
    /// Name of the image; without one it has none
    #[arg(value_name = "REPOSITORY[:TAG]")]
    pub name: Option<String>,
}
