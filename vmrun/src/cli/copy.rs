//! Options of `vmrun cp`.

use std::ffi::OsString;

use clap::Args;

#[derive(Debug, Args)]
pub struct CpArgs {
    /// Keep the owners of the source
    #[arg(short, long)]
    pub archive: bool,
    /// Copy what a symbolic link at the source leads to
    #[arg(short = 'L', long)]
    pub follow_link: bool,
    /// Show no progress; nothing is shown either where stdout is no terminal
    #[arg(short, long)]
    pub quiet: bool,
    /// CONTAINER:PATH, or a local path, or '-' for a tar archive on stdin
    pub source: OsString,
    /// CONTAINER:PATH, or a local path, or '-' for a tar archive on stdout
    pub destination: OsString,
}
