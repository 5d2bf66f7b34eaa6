//! Command lines that are not understood, refused in Docker's words and with its exit statuses: 125
//! for options, 1 for arguments too few or too many.

use std::{error::Error as _, ffi::OsString, num::ParseIntError};

use clap::{
    Arg, ArgAction, Command, CommandFactory,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::Cli;
use crate::{client::KeysError, container::PolicyError};

const BAD_OPTION: u8 = 125;
const BAD_ARGUMENTS: u8 = 1;

/// The values of an option that is on or off, as clap has them.
const SWITCH: &[&str] = &["true", "false"];

/// What to print on stderr, and the exit status; nothing for what Docker has no words for.
pub fn refusal(arguments: &[OsString], error: &clap::Error) -> Option<(String, u8)> {
    if !error.use_stderr() {
        return None;
    }
    let (command, path) = meant(arguments);
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let shown = context(ContextKind::InvalidArg).unwrap_or_default();
    let name = shown.split([' ', '=', '[']).next().unwrap_or_default();
    let value = context(ContextKind::InvalidValue).unwrap_or_default();
    let words = match error.kind() {
        // Docker shows the help of a group alone, and that is no failure.
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return Some((error.render().to_string(), 0));
        }
        ErrorKind::InvalidSubcommand => {
            let word = context(ContextKind::InvalidSubcommand).unwrap_or_default();
            let words = format!("vmrun: '{word}' is not a vmrun command.\nSee '{path} --help'\n");
            return Some((words, BAD_ARGUMENTS));
        }
        ErrorKind::UnknownArgument if name.starts_with("--") => format!("unknown flag: {name}"),
        ErrorKind::UnknownArgument if name.starts_with('-') => {
            format!("unknown shorthand flag: '{}' in {name}", name.trim_start_matches('-'))
        }
        ErrorKind::InvalidValue if value.is_empty() => match typed_short(arguments, name, &command)
        {
            Some(short) => format!("flag needs an argument: '{short}' in -{short}"),
            None => format!("flag needs an argument: {name}"),
        },
        ErrorKind::ValueValidation
            if let Some((words, status)) = left_to_the_daemon(error, &path) =>
        {
            return Some((format!("vmrun: {words}\n"), status));
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::TooManyValues => {
            let why = why(error, value);
            format!("invalid argument \"{value}\" for \"{}\" flag: {why}", flag(&command, name))
        }
        ErrorKind::UnknownArgument | ErrorKind::MissingRequiredArgument => {
            let wanted = wanted(&command);
            let usage = command.clone().bin_name(&path).render_usage();
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            return Some((
                format!("\"{path}\" {wanted}.\nSee '{path} --help'.\n\n{usage}\n\n{about}\n"),
                BAD_ARGUMENTS,
            ));
        }
        _ => return None,
    };
    Some((format!("{words}\nSee '{path} --help'.\n"), BAD_OPTION))
}

/// The command of the line, and its whole name.
pub(super) fn meant(arguments: &[OsString]) -> (Command, String) {
    let mut command = Cli::command();
    command.build();
    let mut path = command.get_name().to_owned();
    for word in arguments.iter().skip(1).filter_map(|word| word.to_str()) {
        let Some(next) = command.find_subcommand(word).cloned() else { break };
        path = format!("{path} {}", next.get_name());
        command = next;
    }
    (command, path)
}

/// The letter of an option that was given by it, as the last word of the line.
fn typed_short(arguments: &[OsString], name: &str, command: &Command) -> Option<char> {
    let typed = arguments.last()?.to_str()?;
    let short = option(command, name)?.get_short()?;
    (!typed.starts_with("--") && typed.ends_with(short)).then_some(short)
}

fn option<'a>(command: &'a Command, name: &str) -> Option<&'a Arg> {
    let long = name.trim_start_matches('-');
    command.get_arguments().find(|option| option.get_long() == Some(long))
}

/// An option with its letter, if it has one.
fn flag(command: &Command, name: &str) -> String {
    match option(command, name).and_then(Arg::get_short) {
        Some(short) => format!("-{short}, {name}"),
        None => name.to_owned(),
    }
}

/// What Docker's CLI does not look at when it reads the line: its daemon refuses it later, without a
/// word on the option; the exit status is that of any failure of the command.
fn left_to_the_daemon(error: &clap::Error, path: &str) -> Option<(String, u8)> {
    let source = error.source()?;
    let status =
        match source.downcast_ref() {
            Some(PolicyError::Count) => BAD_OPTION,
            _ if source.is::<PolicyError>() || source.is::<KeysError>() => {
                if path.ends_with(" run") { BAD_OPTION } else { BAD_ARGUMENTS }
            }
            _ => return None,
        };
    Some((source.to_string(), status))
}

/// What is wrong with a value. Of numbers and of switches Docker says what Go says.
fn why(error: &clap::Error, value: &str) -> String {
    match (error.source(), error.get(ContextKind::ValidValue)) {
        (Some(source), _) if source.is::<ParseIntError>() => {
            format!("strconv.ParseInt: parsing \"{value}\": invalid syntax")
        }
        (Some(source), _) => source.to_string(),
        (None, Some(ContextValue::Strings(values))) if values != SWITCH => {
            format!("it is one of {}", values.join(", "))
        }
        _ => format!("strconv.ParseBool: parsing \"{value}\": invalid syntax"),
    }
}

/// How many arguments a command wants.
fn wanted(command: &Command) -> String {
    let positionals = || command.get_positionals();
    let least = positionals().filter(|argument| argument.is_required_set()).count();
    let endless = positionals().any(|argument| matches!(argument.get_action(), ArgAction::Append));
    let most = positionals().count();
    let arguments = |count: usize| if count == 1 { "argument" } else { "arguments" };
    match (least, most) {
        _ if endless => format!("requires at least {least} {}", arguments(least)),
        (_, 0) => "accepts no arguments".to_owned(),
        _ if least == most => format!("requires exactly {least} {}", arguments(least)),
        (0, _) => format!("requires at most {most} {}", arguments(most)),
        _ => format!("requires at least {least} and at most {most} arguments"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[track_caller]
    fn refused(line: &str, status: u8, words: &str) {
        let arguments: Vec<OsString> = line.split(' ').map(Into::into).collect();
        let error = Cli::try_parse_from(&arguments).unwrap_err();
        let (text, exit) = refusal(&arguments, &error).unwrap();
        assert_eq!((text.lines().next(), exit), (Some(words), status), "{text}");
    }

    #[test]
    fn options_are_refused_as_docker_refuses_them() {
        refused("vmrun ps --nosuch", 125, "unknown flag: --nosuch");
        refused("vmrun ps -z", 125, "unknown shorthand flag: 'z' in -z");
        refused("vmrun ps --last", 125, "flag needs an argument: --last");
        refused("vmrun ps -n", 125, "flag needs an argument: 'n' in -n");
        let invalid = "invalid argument \"x\" for \"-t, --time\" flag: strconv.ParseInt: parsing \"x\": invalid syntax";
        refused("vmrun stop -t x one", 125, invalid);
        let invalid =
            "invalid argument \"=x\" for \"-l, --label\" flag: invalid label '=x': empty name";
        refused("vmrun run -l =x busybox", 125, invalid);
        let invalid = "invalid argument \"x\" for \"-a, --all\" flag: strconv.ParseBool: parsing \"x\": invalid syntax";
        refused("vmrun ps --all=x", 125, invalid);
        let invalid =
            "invalid argument \"=x\" for \"-e, --env\" flag: invalid environment variable: =x";
        refused("vmrun create -e =x busybox", 125, invalid);
        let invalid = "invalid argument \"x\" for \"-a, --attach\" flag: valid streams are STDIN, STDOUT and STDERR";
        refused("vmrun run -a x busybox", 125, invalid);
        refused("vmrun create --restart x busybox", 1, "vmrun: invalid restart policy 'x'");
        refused("vmrun run --restart x busybox", 125, "vmrun: invalid restart policy 'x'");
        let count = "vmrun: maximum retry count must be an integer";
        refused("vmrun create --restart on-failure:x busybox", 125, count);
    }

    #[test]
    fn arguments_are_counted_as_docker_counts_them() {
        refused("vmrun rm", 1, "\"vmrun rm\" requires at least 1 argument.");
        refused("vmrun container rm", 1, "\"vmrun container rm\" requires at least 1 argument.");
        refused("vmrun tag one", 1, "\"vmrun tag\" requires exactly 2 arguments.");
        refused("vmrun ps extra", 1, "\"vmrun ps\" accepts no arguments.");
        refused("vmrun images a b", 1, "\"vmrun images\" requires at most 1 argument.");
        refused("vmrun container nosuch", 1, "vmrun: 'nosuch' is not a vmrun command.");
        refused("vmrun run", 1, "\"vmrun run\" requires at least 1 argument.");
    }
}
