//! The command of a container: the image's config and the options of `run`, put together as Docker
//! does.

use std::{ffi::OsString, os::unix::ffi::OsStringExt};

use anyhow::{Context, Result, bail};
use image_store::{Empty, ImageConfig};

use super::{env::Variables, misused, settings::exposed};
use crate::{cli::ContainerArgs, container::Command, signals};

const SIGTERM: u8 = 15;

/// The search path of an image that sets none.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Most bytes of arguments and environment together; the message that carries them to the guest is
/// limited to 1 MiB.
const MAX_ARGUMENTS: usize = 900 << 10;

pub fn command(args: &ContainerArgs, image: &ImageConfig, hostname: &str) -> Result<Command> {
    let command = Command {
        args: arguments(args, image)?,
        env: environment(args, image, hostname)?,
        cwd: args.workdir.clone().unwrap_or_else(|| image.working_dir.clone()),
        user: args.user.clone().unwrap_or_else(|| image.user.clone()),
        groups: args.group_add.clone(),
        terminal: args.tty,
        stdin: args.interactive,
        stdin_once: false,
        stop_signal: stop_signal(args, image)?,
    };
    let cwd = if command.cwd.is_empty() { "/".to_owned() } else { command.cwd };
    if !cwd.starts_with('/') {
        bail!("the working directory '{cwd}' is invalid, it needs to be an absolute path");
    }
    let command = Command { cwd, ..command };
    check(&command)?;
    Ok(command)
}

/// What Docker keeps as the container's config: the image's, with what the options say instead. It has
/// no defaults in it. The labels are left to others.
pub fn config(args: &ContainerArgs, image: ImageConfig) -> Result<ImageConfig> {
    let text = |word: &OsString| word.to_string_lossy().into_owned();
    let mut config = ImageConfig { on_build: Vec::new(), ..image };
    if let Some(entrypoint) = &args.entrypoint {
        config.entrypoint =
            Some(text(entrypoint)).filter(|text| !text.is_empty()).into_iter().collect();
        config.cmd.clear();
    }
    if !args.command().is_empty() {
        config.cmd = args.command().iter().map(text).collect();
    }
    config.user = args.user.clone().unwrap_or(config.user);
    config.working_dir = args.workdir.clone().unwrap_or(config.working_dir);
    for given in &args.expose {
        let ports = exposed(given)?.into_iter();
        config.exposed_ports.extend(ports.map(|port| (port, Empty {})));
    }
    config.stop_signal = args.stop_signal.clone().unwrap_or(config.stop_signal);
    let mut variables = given_variables(args, Variables::default())?;
    for entry in config.env {
        variables.set_if_missing(entry.into_bytes());
    }
    let entries = variables.into_entries().into_iter();
    config.env = entries.map(|entry| String::from_utf8_lossy(&entry).into_owned()).collect();
    Ok(config)
}

/// Entrypoint and command. An entrypoint that is given drops the image's command with the image's
/// entrypoint.
fn arguments(args: &ContainerArgs, image: &ImageConfig) -> Result<Vec<Vec<u8>>> {
    let bytes = |words: &[String]| words.iter().map(|word| word.clone().into_bytes()).collect();
    let given = args.command().iter().cloned().map(OsString::into_vec);
    let mut words: Vec<Vec<u8>> = match &args.entrypoint {
        Some(entrypoint) if entrypoint.is_empty() => Vec::new(),
        Some(entrypoint) => vec![entrypoint.clone().into_vec()],
        None => bytes(&image.entrypoint),
    };
    if args.command().is_empty() && args.entrypoint.is_none() {
        words.extend::<Vec<_>>(bytes(&image.cmd));
    }
    words.extend(given);
    if words.is_empty() {
        bail!("No command specified");
    }
    Ok(words)
}

/// Docker's defaults, then the image's, then `--env-file`, then `-e`.
fn environment(args: &ContainerArgs, image: &ImageConfig, hostname: &str) -> Result<Vec<Vec<u8>>> {
    let mut variables = Variables::default();
    variables.set(DEFAULT_PATH.into());
    variables.set(format!("HOSTNAME={hostname}").into_bytes());
    if args.tty {
        variables.set(b"TERM=xterm".to_vec());
    }
    for entry in &image.env {
        variables.set(entry.clone().into_bytes());
    }
    Ok(given_variables(args, variables)?.into_entries())
}

fn given_variables(args: &ContainerArgs, mut variables: Variables) -> Result<Variables> {
    for file in &args.env_file {
        variables.read_file(file).map_err(|error| misused(format!("{error:#}")))?;
    }
    for entry in &args.env {
        variables.set_or_pass_on(entry.clone().into_vec())?;
    }
    Ok(variables)
}

fn stop_signal(args: &ContainerArgs, image: &ImageConfig) -> Result<u8> {
    if let Some(name) = &args.stop_signal {
        return signals::parse(name).with_context(|| format!("Invalid signal: {name}"));
    }
    match image.stop_signal.as_str() {
        "" => Ok(SIGTERM),
        name => signals::parse(name)
            .with_context(|| format!("the image's stop signal {name:?} is not a signal")),
    }
}

fn check(command: &Command) -> Result<()> {
    let words = || command.args.iter().chain(&command.env);
    if words().any(|word| word.contains(&0)) || command.cwd.contains('\0') {
        bail!("a NUL character is in the command, its environment or its working directory");
    }
    let total: usize = words().map(|word| word.len() + 8).sum();
    if total > MAX_ARGUMENTS {
        bail!(
            "command and environment are {total} bytes; at most {MAX_ARGUMENTS} can be passed \
             to the container"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Action, Cli};

    fn compose(line: &str, image: &ImageConfig) -> Result<Command> {
        let words = ["vmrun", "run"].into_iter().chain(line.split(' '));
        let Action::Run(args) = Cli::try_parse_from(words)?.action else { unreachable!() };
        command(&args.container, image, "host")
    }

    fn image() -> ImageConfig {
        ImageConfig {
            entrypoint: vec!["entry".into()],
            cmd: vec!["default".into()],
            env: vec!["A=image".into()],
            ..ImageConfig::default()
        }
    }

    fn args_of(line: &str) -> Vec<String> {
        let command = compose(line, &image()).unwrap();
        command.args.into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
    }

    #[test]
    fn entrypoint_and_command_combine_as_in_docker() {
        assert_eq!(args_of("i"), ["entry", "default"]);
        assert_eq!(args_of("i given --flag"), ["entry", "given", "--flag"]);
        assert_eq!(args_of("--entrypoint other i"), ["other"]);
        assert_eq!(args_of("--entrypoint other i x"), ["other", "x"]);
    }

    #[test]
    fn image_without_a_command_needs_one() {
        assert!(compose("i", &ImageConfig::default()).is_err());
    }

    #[test]
    fn later_variables_win_and_defaults_are_docker_s() {
        let env = compose("-t -e B=2 -e A=mine i", &image()).unwrap().env;
        let env: Vec<_> = env.iter().map(|entry| str::from_utf8(entry).unwrap()).collect();
        assert_eq!(env, [DEFAULT_PATH, "HOSTNAME=host", "TERM=xterm", "A=mine", "B=2"]);
    }

    #[test]
    fn relative_working_directory_is_refused() {
        assert!(compose("-w here i", &image()).is_err());
        assert_eq!(compose("i", &image()).unwrap().cwd, "/");
    }

    /// `threats.md` row 12.
    #[test]
    fn environment_that_does_not_fit_is_refused() {
        let huge = ImageConfig { env: vec!["X".repeat(2 << 20)], ..image() };
        assert!(compose("i", &huge).is_err());
    }
}
