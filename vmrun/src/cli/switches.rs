//! `--rm=true`, `-d=false`: switches with their value, as Go's command lines have them.

use std::ffi::OsString;

use clap::{
    Arg, ArgAction, Command,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::refusal::meant;

/// The line without the value of the switch that was refused for it: the switch alone where that is
/// true, nothing where it is false. `None` where something else is wrong.
pub fn without_value(arguments: &[OsString], error: &clap::Error) -> Option<Vec<OsString>> {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let name = context(ContextKind::InvalidArg)?;
    let found = |wanted: &dyn Fn(&str) -> Option<Option<String>>| {
        let tried = |word: &OsString| word.to_str().and_then(wanted);
        arguments.iter().enumerate().find_map(|(at, word)| Some((at, tried(word)?)))
    };
    let (at, instead) = match error.kind() {
        ErrorKind::TooManyValues => {
            let value = context(ContextKind::InvalidValue)?;
            let is_on = is_true(value)?;
            let name = name.split([' ', '=', '[']).next()?;
            let typed = format!("{name}={value}");
            found(&|word| (word == typed).then(|| is_on.then(|| name.to_owned())))?
        }
        ErrorKind::UnknownArgument if name.starts_with("-=") || name == "-" => {
            let (command, _) = meant(arguments);
            found(&|word| short(word, &command))?
        }
        _ => return None,
    };
    let mut mended = arguments.to_vec();
    match instead {
        Some(word) => mended[at] = word.into(),
        None => drop(mended.remove(at)),
    }
    Some(mended)
}

/// What stands for `-dit=false`: the value is that of the last letter, and all are switches.
fn short(word: &str, command: &Command) -> Option<Option<String>> {
    let (letters, value) = word.strip_prefix('-')?.split_once('=')?;
    let is_on = is_true(value)?;
    let is_switch = |letter: char| {
        let known = command.get_arguments().find(|option| option.get_short() == Some(letter));
        known.map(Arg::get_action).is_some_and(|action| matches!(action, ArgAction::SetTrue))
    };
    if letters.is_empty() || !letters.chars().all(is_switch) {
        return None;
    }
    let mut letters = letters.to_owned();
    if !is_on {
        letters.pop();
    }
    Some((!letters.is_empty()).then(|| format!("-{letters}")))
}

/// A truth value as Go spells it.
fn is_true(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn mended(line: &str) -> Option<String> {
        let arguments: Vec<OsString> = line.split(' ').map(Into::into).collect();
        let error = Cli::try_parse_from(&arguments).unwrap_err();
        let words = without_value(&arguments, &error)?;
        Some(words.join(" ".as_ref()).into_string().unwrap())
    }

    #[test]
    fn switches_have_values_as_in_go() {
        let line = |line| mended(line).unwrap();
        assert_eq!(line("vmrun run --rm=true x --rm=true"), "vmrun run --rm x --rm=true");
        assert_eq!(line("vmrun run --name a --privileged=F x"), "vmrun run --name a x");
        assert_eq!(line("vmrun run -eA=true -d=1 x"), "vmrun run -eA=true -d x");
        assert_eq!(line("vmrun run -dit=false x"), "vmrun run -di x");
        assert_eq!(line("vmrun ps -a=false"), "vmrun ps");
        assert_eq!(line("vmrun container ls --all=true"), "vmrun container ls --all");
    }

    #[test]
    fn other_values_and_other_errors_are_left() {
        for line in
            ["vmrun ps --all=x", "vmrun ps -a=x", "vmrun ps --nosuch=true", "vmrun ps -z=true"]
        {
            assert_eq!(mended(line), None, "{line}");
        }
    }
}
