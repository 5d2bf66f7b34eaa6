//! vmrun: runs a container image in a microVM of its own, for an ordinary user, without root and
//! without a daemon.
//!
//! The folders: [`commands`] has one file a command of the CLI; [`client`] is the foreground side of
//! a running container, [`monitor`] the process behind it, [`vm_process`] the VM itself;
//! [`container`] is what of it is on disk.

#![allow(unreachable_pub, reason = "in a binary, pub says what a module offers to the others")]
#![allow(missing_debug_implementations, reason = "nothing outside prints them")]

mod capabilities;
mod cli;
mod client;
mod commands;
mod container;
mod cpu_group;
mod descriptors;
mod disk;
mod error;
mod events;
mod journal;
mod limits;
mod logs;
mod monitor;
mod network;
mod paths;
mod random;
mod signals;
mod size;
mod template;
mod vm_process;

use std::{env, ffi::OsString, process::ExitCode};

use clap::Parser;
use cli::{Action, Cli, Word};

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    let action = match parse(&arguments) {
        Ok(action) => action,
        Err(status) => return status.into(),
    };
    let otherwise = match action {
        Action::Run(_) => error::RUN_FAILED,
        _ => 1,
    };
    match commands::run(action) {
        Ok(status) => status.into(),
        Err(error) => error::report(&error, otherwise).into(),
    }
}

/// Understands the command line; where that fails the user has been told, and the exit status is
/// given.
fn parse(arguments: &[OsString]) -> Result<Action, u8> {
    let mut arguments = arguments.to_vec();
    if let Some(word) = arguments.get(1).and_then(|word| word.to_str()) {
        // With words after it, -v is a volume of an image that is to be run.
        let version = word == "-v" && arguments.len() == 2;
        let global = version || matches!(word, "--help" | "-h" | "--version" | "-V");
        let image = if word.starts_with('-') { !global } else { image_meant(word)? };
        if version {
            arguments[1] = "--version".into();
        } else if word == "help" {
            arguments = help(&arguments)?;
        } else if image {
            arguments.insert(1, "run".into());
        }
    }
    loop {
        let error = match Cli::try_parse_from(&arguments) {
            Ok(cli) => return Ok(cli.action.ungrouped()),
            Err(error) => error,
        };
        if let Some(mended) = cli::without_value(&arguments, &error) {
            arguments = mended;
            continue;
        }
        return match cli::refusal(&arguments, &error) {
            Some((words, status)) => {
                eprint!("{words}");
                Err(status)
            }
            None => {
                let _ = error.print();
                Err(if error.use_stderr() { error::RUN_FAILED } else { 0 })
            }
        };
    }
}

/// `help run` is `run --help`.
fn help(arguments: &[OsString]) -> Result<Vec<OsString>, u8> {
    let words = arguments.get(2..).unwrap_or_default();
    let Some(unknown) = cli::unknown_words(words) else {
        let help = arguments.first().into_iter().chain(words).cloned();
        return Ok(help.chain(["--help".into()]).collect());
    };
    eprintln!("unknown help topic: {unknown}");
    Err(1)
}

/// Whether the first word is an image, not a command. A word that looks like a mistyped command is
/// an image only if there is one of that name.
fn image_meant(word: &str) -> Result<bool, u8> {
    match cli::classify(word) {
        _ if cli::is_internal(word) => Ok(false),
        Word::Command => Ok(false),
        Word::Image => Ok(true),
        Word::NotYet if commands::have_image(word) => Ok(true),
        Word::Mistyped(_) if commands::have_image(word) => Ok(true),
        Word::NotYet => {
            eprintln!("vmrun: vmrun has no '{word}' command yet; see 'vmrun --help'");
            Err(error::RUN_FAILED)
        }
        Word::Mistyped(meant) => {
            eprintln!(
                "vmrun: '{word}' is not a vmrun command, and there is no image of that name; \
                 did you mean '{meant}'? See 'vmrun --help'"
            );
            Err(error::RUN_FAILED)
        }
    }
}
