//! The settings of a container around its command, from the options of `run` and `create`.

use std::{collections::BTreeMap, fs, time::Duration};

use agent_protocol::Tmpfs;
use anyhow::{Result, bail};
use serde::Deserialize;

use super::misused;
use crate::{
    capabilities,
    cli::ContainerArgs,
    commands::in_words,
    container::{GuestSettings, HealthCheck, NetworkFiles},
    size::ByteSize,
};

/// Docker's defaults of health checks.
const HEALTH_INTERVAL: Duration = Duration::from_secs(30);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(30);
const HEALTH_RETRIES: u32 = 3;

/// How the guest is set up.
pub fn guest(args: &ContainerArgs) -> Result<GuestSettings> {
    let settings = GuestSettings {
        read_only: args.read_only,
        tmpfs: args.tmpfs.iter().map(|given| tmpfs(given)).collect::<Result<_>>()?,
        limits: args.ulimit.clone(),
        sysctls: args.sysctl.clone(),
        network: network(args)?,
        cap_add: args.cap_add.clone(),
        cap_drop: args.cap_drop.clone(),
        privileged: args.privileged,
        init: args.init,
        ..GuestSettings::default()
    };
    capabilities::of(&settings)?;
    Ok(match args.shm_size {
        Some(ByteSize(shm_bytes)) => GuestSettings { shm_bytes, ..settings },
        None => settings,
    })
}

/// The image's labels, then those of files, then those given.
pub fn labels(
    args: &ContainerArgs,
    image: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>> {
    let mut labels = image.clone();
    let mut add = |text: &str| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if !name.is_empty() {
            labels.insert(name.to_owned(), value.to_owned());
        }
    };
    for file in &args.label_file {
        let shown = file.display();
        let text = fs::read_to_string(file)
            .map_err(|error| misused(format!("open {shown}: {}", in_words(&error))))?;
        let lines = text.lines().map(str::trim_start);
        lines.filter(|line| !line.starts_with('#')).for_each(&mut add);
    }
    args.label.iter().for_each(|label| add(label));
    Ok(labels)
}

/// The image's `Healthcheck`; times in nanoseconds.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ImageHealth {
    test: Vec<String>,
    interval: u64,
    timeout: u64,
    start_period: u64,
    retries: u32,
}

/// The shortest time between two checks, and for one, as in Docker.
const SHORTEST: Duration = Duration::from_millis(1);

/// How the container is asked for its health, if it is.
pub fn health(args: &ContainerArgs, image: &serde_json::Value) -> Result<Option<HealthCheck>> {
    let said = &image["config"]["Healthcheck"];
    let said: ImageHealth = serde_json::from_value(said.clone()).unwrap_or_default();
    let given = args.health_interval.is_some()
        || args.health_timeout.is_some()
        || args.health_retries.is_some()
        || args.health_start_period.is_some();
    if args.no_healthcheck {
        if given || args.health_cmd.is_some() {
            return Err(misused("--no-healthcheck conflicts with --health-* options"));
        }
        return Ok(None);
    }
    let Ok(retries) = args.health_retries.map_or(Ok(said.retries), u32::try_from) else {
        return Err(misused("--health-retries cannot be negative"));
    };
    let command = match (&args.health_cmd, said.test.as_slice()) {
        (Some(line), _) => shell(line),
        (None, [kind, line]) if kind == "CMD-SHELL" => shell(line),
        (None, [kind, words @ ..]) if kind == "CMD" && !words.is_empty() => words.to_vec(),
        (None, _) => return Ok(None),
    };
    let times = [
        (args.health_interval, "Interval"),
        (args.health_timeout, "Timeout"),
        (args.health_start_period, "StartPeriod"),
    ];
    for (given, name) in times {
        if given.is_some_and(|given| !given.is_zero() && given < SHORTEST) {
            bail!("{name} in Healthcheck cannot be less than 1ms");
        }
    }
    let time = |given: Option<Duration>, said: u64, otherwise: Duration| match given {
        // Docker's default is what 0 stands for.
        Some(given) if !given.is_zero() => given,
        _ if said > 0 => Duration::from_nanos(said),
        _ => otherwise,
    };
    Ok(Some(HealthCheck {
        command,
        interval: time(args.health_interval, said.interval, HEALTH_INTERVAL),
        timeout: time(args.health_timeout, said.timeout, HEALTH_TIMEOUT),
        start_period: time(args.health_start_period, said.start_period, Duration::ZERO),
        retries: if retries == 0 { HEALTH_RETRIES } else { retries },
    }))
}

fn shell(line: &str) -> Vec<String> {
    ["/bin/sh", "-c", line].map(str::to_owned).to_vec()
}

fn tmpfs(given: &str) -> Result<Tmpfs> {
    let (target, options) = given.split_once(':').unwrap_or((given, ""));
    if !target.starts_with('/') {
        bail!("invalid mount path: '{target}' mount path must be absolute");
    }
    Ok(Tmpfs { target: target.as_bytes().to_vec(), options: options.into() })
}

fn network(args: &ContainerArgs) -> Result<NetworkFiles> {
    let lines = args.dns.iter().chain(&args.dns_search).chain(&args.dns_option);
    if let Some(wrong) = lines.into_iter().find(|text| text.contains(char::is_control)) {
        bail!("{wrong:?} cannot be in /etc/resolv.conf");
    }
    Ok(NetworkFiles {
        hosts: args.add_host.clone(),
        dns: args.dns.clone(),
        dns_search: args.dns_search.clone(),
        dns_options: args.dns_option.clone(),
    })
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;
    use crate::cli::{Action, Cli};

    fn args(words: &[&str]) -> ContainerArgs {
        let words = ["vmrun", "run"].iter().chain(words).chain(&["image"]);
        let Action::Run(args) = Cli::try_parse_from(words).unwrap().action else { unreachable!() };
        args.container
    }

    #[test]
    fn labels_and_other_settings_are_taken() {
        let image = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let labels = labels(&args(&["-l", "a=2", "--label", "b"]), &image).unwrap();
        assert_eq!((labels["a"].as_str(), labels["b"].as_str()), ("2", ""));
        let guest = guest(&args(&["--tmpfs", "/run:size=1m", "--shm-size", "1m"])).unwrap();
        assert_eq!((guest.tmpfs[0].options.as_str(), guest.shm_bytes), ("size=1m", 1 << 20));
        assert!(super::guest(&args(&["--tmpfs", "run"])).is_err());
        assert!(super::guest(&args(&["--cap-add", "WINGS"])).is_err());
    }

    #[test]
    fn health_is_the_image_s_unless_told_otherwise() {
        let image = json!({ "config": { "Healthcheck": {
            "Test": ["CMD", "ok"], "Interval": 5_000_000_000_u64, "Retries": 2
        } } });
        let check = health(&args(&[]), &image).unwrap().unwrap();
        assert_eq!((check.command, check.retries), (vec!["ok".to_owned()], 2));
        assert_eq!((check.interval, check.timeout), (Duration::from_secs(5), HEALTH_TIMEOUT));
        let check = health(&args(&["--health-cmd", "mine", "--health-interval", "1s"]), &image);
        let check = check.unwrap().unwrap();
        assert_eq!(check.command, ["/bin/sh", "-c", "mine"]);
        assert_eq!(check.interval, Duration::from_secs(1));
        assert_eq!(health(&args(&["--no-healthcheck"]), &image).unwrap(), None);
        assert_eq!(health(&args(&[]), &json!({})).unwrap(), None);
        assert!(health(&args(&["--no-healthcheck", "--health-cmd", "x"]), &image).is_err());
    }
}
