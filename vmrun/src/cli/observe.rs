//! The words of commands that watch containers.

use std::{convert::Infallible, str::FromStr};

use clap::Args;

use super::{Filter, OutputArgs};

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Show what comes, too, until the container stops
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last lines, as many as this, or 'all'
    #[arg(
        short = 'n',
        long,
        value_name = "NUMBER",
        default_value = "all",
        allow_negative_numbers = true
    )]
    pub tail: Tail,
    /// Only lines since a point in time (2026-01-31T12:00:00Z), or since how long ago (42m)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Only lines until a point in time, or until how long ago
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Show when each line was written
    #[arg(short, long)]
    pub timestamps: bool,
    /// Show the details that come with a line: none here, but for the space after them
    #[arg(long)]
    pub details: bool,
    pub container: String,
}

/// How many lines from the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tail(pub Option<u64>);

impl FromStr for Tail {
    type Err = Infallible;

    /// What is no number, or a negative one, is all of them, as in Docker.
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Self(text.parse().ok()))
    }
}

#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Past events, too, since a point in time (2026-01-31T12:00:00Z) or since how long ago (42m)
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// End at a point in time
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
    /// Only some: container=, event=, image=, label=, type=
    #[arg(short, long, value_name = "NAME=VALUE")]
    pub filter: Vec<Filter>,
    #[command(flatten)]
    pub output: OutputArgs,
}

#[derive(Debug, Args)]
pub struct PortArgs {
    pub container: String,
    /// Only where this port of the container's is published
    #[arg(value_name = "PRIVATE_PORT[/PROTO]")]
    pub port: Option<String>,
}

#[derive(Debug, Args)]
pub struct InfoArgs {
    /// Go template, or 'json'
    #[arg(short, long, value_name = "TEMPLATE")]
    pub format: Option<String>,
}

#[derive(Debug, Args)]
pub struct StatsArgs {
    /// All containers, not only the running ones
    #[arg(short, long)]
    pub all: bool,
    /// Show it once, not again and again
    #[arg(long)]
    pub no_stream: bool,
    /// Do not shorten ids
    #[arg(long)]
    pub no_trunc: bool,
    #[command(flatten)]
    pub output: OutputArgs,
    #[arg(value_name = "CONTAINER")]
    pub containers: Vec<String>,
}

#[derive(Debug, Args)]
pub struct TopArgs {
    pub container: String,
    /// As 'ps' takes them: -ef, aux, -o pid,user,args
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ps OPTIONS")]
    pub options: Vec<String>,
}
