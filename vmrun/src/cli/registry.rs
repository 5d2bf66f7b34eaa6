//! Command lines that have to do with registries.

use clap::{Args, ValueEnum};
use image_store::Platform;

use super::TrustArgs;

/// When `run` asks a registry for the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PullPolicy {
    /// Each time
    Always,
    /// When the image is not here
    Missing,
    /// Not at all
    Never,
}

#[derive(Debug, Args)]
pub struct PullArgs {
    /// Pull all tags of the repository
    #[arg(short, long)]
    pub all_tags: bool,
    /// Platform of the image, where it has several: linux/ARCHITECTURE[/VARIANT]
    #[arg(long)]
    pub platform: Option<Platform>,
    /// Print the image's name alone
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub trust: TrustArgs,
    /// Image: NAME[:TAG], or NAME@DIGEST
    #[arg(value_name = "IMAGE")]
    pub image: String,
}

#[derive(Debug, Args)]
pub struct PushArgs {
    /// Push all tags of the repository
    #[arg(short, long)]
    pub all_tags: bool,
    /// Print the image's name alone
    #[arg(short, long)]
    pub quiet: bool,
    #[command(flatten)]
    pub trust: TrustArgs,
    /// Image: NAME[:TAG]
    #[arg(value_name = "IMAGE")]
    pub image: String,
}

#[derive(Debug, Args)]
pub struct LoginArgs {
    /// User name
    #[arg(short, long)]
    pub username: Option<String>,
    /// Password; others on this host can see it
    #[arg(short, long, conflicts_with = "password_stdin")]
    pub password: Option<String>,
    /// Read the password from standard input
    #[arg(long)]
    pub password_stdin: bool,
    /// Registry: HOST[:PORT]; Docker's own if not given
    pub server: Option<String>,
}

#[derive(Debug, Args)]
pub struct LogoutArgs {
    /// Registry: HOST[:PORT]; Docker's own if not given
    pub server: Option<String>,
}
