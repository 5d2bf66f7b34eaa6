//! `--change`: Dockerfile instructions that say how an image is run.

use anyhow::{Result, bail};
use image_store::{Empty, ImageConfig};

use crate::{
    cli::values::duration,
    container::{HealthConfig, SHORTEST},
    signals,
};

/// Applies instructions to a config, and to how the container is asked for its health.
pub fn apply(
    config: &mut ImageConfig,
    health: &mut Option<HealthConfig>,
    changes: &[String],
) -> Result<()> {
    let mut has_command = false;
    for line in changes {
        let line = line.trim();
        let (instruction, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let rest = rest.trim();
        let instruction = instruction.to_ascii_uppercase();
        if rest.is_empty() {
            bail!("{instruction} requires at least one argument");
        }
        match instruction.as_str() {
            "CMD" => has_command = true,
            // The command of before was for the entrypoint of before.
            "ENTRYPOINT" if !has_command => config.cmd.clear(),
            _ => {}
        }
        match instruction.as_str() {
            "HEALTHCHECK" => *health = Some(health_check(rest)?),
            _ => change(config, &instruction, rest)?,
        }
    }
    Ok(())
}

/// `NONE`, or `[--interval=TIME …] CMD …`
fn health_check(mut rest: &str) -> Result<HealthConfig> {
    let mut health = HealthConfig::default();
    while let Some(flag) = rest.strip_prefix("--") {
        let (flag, after) = flag.split_once(char::is_whitespace).unwrap_or((flag, ""));
        let (name, value) = flag.split_once('=').unwrap_or((flag, ""));
        let time = || -> Result<u64> {
            let time = duration(value)?;
            if !time.is_zero() && time < SHORTEST {
                bail!("Interval {value:?} cannot be less than 1ms");
            }
            Ok(u64::try_from(time.as_nanos())?)
        };
        match name {
            "interval" => health.interval = time()?,
            "timeout" => health.timeout = time()?,
            "start-period" => health.start_period = time()?,
            "retries" => match value.parse() {
                Ok(retries) if retries > 0 => health.retries = retries,
                _ => bail!("--retries must be at least 1 (not {value})"),
            },
            _ => bail!("Unknown flag: {name}"),
        }
        rest = after.trim_start();
    }
    let (kind, words) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let words = words.trim();
    health.test = match (kind.to_ascii_uppercase().as_str(), words) {
        ("NONE", "") => vec!["NONE".into()],
        ("NONE", _) => bail!("HEALTHCHECK NONE takes no arguments"),
        ("CMD", "") => bail!("Missing command after HEALTHCHECK CMD"),
        ("CMD", words) => match serde_json::from_str::<Vec<String>>(words) {
            Ok(words) => ["CMD".to_owned()].into_iter().chain(words).collect(),
            Err(_) => vec!["CMD-SHELL".into(), words.into()],
        },
        (kind, _) => bail!("Unknown type {kind:?} in HEALTHCHECK (try CMD)"),
    };
    Ok(health)
}

fn change(config: &mut ImageConfig, instruction: &str, rest: &str) -> Result<()> {
    match instruction {
        "CMD" => config.cmd = command(rest),
        "ENTRYPOINT" => config.entrypoint = command(rest),
        "USER" => rest.clone_into(&mut config.user),
        "STOPSIGNAL" if signals::parse(rest).is_none() => bail!("Invalid signal: {rest}"),
        "STOPSIGNAL" => rest.clone_into(&mut config.stop_signal),
        "WORKDIR" if rest.starts_with('/') => rest.clone_into(&mut config.working_dir),
        "WORKDIR" => {
            let above = config.working_dir.trim_end_matches('/');
            config.working_dir = format!("{above}/{rest}");
        }
        "ENV" => {
            for (name, value) in pairs(rest, instruction)? {
                let start = format!("{name}=");
                config.env.retain(|known| !known.starts_with(&start));
                config.env.push(start + &value);
            }
        }
        "LABEL" => config.labels.extend(pairs(rest, instruction)?),
        "EXPOSE" => {
            for port in words(rest)? {
                let (number, protocol) = port.split_once('/').unwrap_or((&port, "tcp"));
                if number.parse::<u16>().is_err() || !["tcp", "udp", "sctp"].contains(&protocol) {
                    bail!("Invalid containerPort: {port}");
                }
                config.exposed_ports.insert(format!("{number}/{protocol}"), Empty {});
            }
        }
        "VOLUME" => {
            let folders = match serde_json::from_str::<Vec<String>>(rest) {
                Ok(folders) => folders,
                Err(_) => words(rest)?,
            };
            config.volumes.extend(folders.into_iter().map(|folder| (folder, Empty {})));
        }
        "ONBUILD" => config.on_build.push(rest.to_owned()),
        _ => bail!("{} is not a valid change command", instruction.to_lowercase()),
    }
    Ok(())
}

/// `["program", "argument"]`, or a line for the shell.
fn command(text: &str) -> Vec<String> {
    serde_json::from_str(text)
        .unwrap_or_else(|_| ["/bin/sh", "-c", text].map(str::to_owned).to_vec())
}

/// `NAME=value …`, or `NAME value` as it once was.
fn pairs(rest: &str, instruction: &str) -> Result<Vec<(String, String)>> {
    let (first, old) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    if !first.contains('=') && !old.is_empty() {
        return Ok(vec![(first.to_owned(), old.trim().to_owned())]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => bail!("Syntax error - can't find = in {word:?}. {instruction} wants NAME=value"),
    };
    words(rest)?.into_iter().map(pair).collect()
}

fn words(text: &str) -> Result<Vec<String>> {
    match shlex::split(text) {
        Some(words) => Ok(words),
        None => bail!("a quote is not closed in {text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(changes: &[&str]) -> Result<ImageConfig> {
        let mut config = ImageConfig::default();
        let changes: Vec<String> = changes.iter().map(|&change| change.to_owned()).collect();
        apply(&mut config, &mut None, &changes).map(|()| config)
    }

    #[test]
    fn health_is_said_as_in_a_dockerfile() {
        let said = |line: &str| {
            let mut health = None;
            apply(&mut ImageConfig::default(), &mut health, &[line.to_owned()])
                .map(|()| serde_json::to_value(health).unwrap().to_string())
                .map_err(|error| error.to_string())
        };
        assert_eq!(said("HEALTHCHECK NONE").unwrap(), r#"{"Test":["NONE"]}"#);
        assert_eq!(
            said("healthcheck --interval=5s --retries=2 CMD curl -f localhost").unwrap(),
            r#"{"Test":["CMD-SHELL","curl -f localhost"],"Interval":5000000000,"Retries":2}"#
        );
        assert_eq!(said(r#"HEALTHCHECK CMD ["a", "b"]"#).unwrap(), r#"{"Test":["CMD","a","b"]}"#);
        for (wrong, why) in [
            ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
            ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
            ("HEALTHCHECK curl", "Unknown type \"CURL\" in HEALTHCHECK (try CMD)"),
            ("HEALTHCHECK --timeout=1us CMD x", "Interval \"1us\" cannot be less than 1ms"),
            ("HEALTHCHECK --often=1 CMD x", "Unknown flag: often"),
            ("HEALTHCHECK --retries=0 CMD x", "--retries must be at least 1 (not 0)"),
        ] {
            assert_eq!(said(wrong).unwrap_err(), why);
        }
    }

    #[test]
    fn instructions_come_to_a_config() {
        let config = applied(&[
            r#"CMD ["sh", "-l"]"#,
            "entrypoint run it",
            "ENV A=1 B='two words'",
            "ENV A 3 4",
            "LABEL a.b=c",
            "EXPOSE 80 53/udp",
            "VOLUME /data",
            r#"VOLUME ["/a", "/b"]"#,
            "WORKDIR /srv",
            "WORKDIR www",
            "USER 1000:1000",
            "STOPSIGNAL SIGINT",
        ]);
        let config = config.unwrap();
        assert_eq!(config.cmd, ["sh", "-l"]);
        assert_eq!(config.entrypoint, ["/bin/sh", "-c", "run it"]);
        assert_eq!(config.env, ["B=two words", "A=3 4"]);
        assert_eq!(config.labels["a.b"], "c");
        assert_eq!(config.exposed_ports.into_keys().collect::<Vec<_>>(), ["53/udp", "80/tcp"]);
        assert_eq!(config.volumes.into_keys().collect::<Vec<_>>(), ["/a", "/b", "/data"]);
        assert_eq!(config.working_dir, "/srv/www");
        assert_eq!([config.user, config.stop_signal], ["1000:1000", "SIGINT"]);
    }

    #[test]
    fn what_is_not_such_an_instruction_is_refused() {
        for change in ["RUN true", "CMD", "ENV A", "EXPOSE x", "STOPSIGNAL NO", "LABEL a='b", ""] {
            assert!(applied(&[change]).is_err(), "{change}");
        }
    }
}
