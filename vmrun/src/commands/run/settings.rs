//! The settings of a container around its command, from the options of `run` and `create`.

use std::{collections::BTreeMap, fs, net::IpAddr, time::Duration};

use agent_protocol::{Limit, Tmpfs};
use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::{
    capabilities,
    cli::ContainerArgs,
    container::{GuestSettings, HealthCheck, NetworkFiles},
    size::ByteSize,
};

/// Docker's defaults of health checks.
const HEALTH_INTERVAL: Duration = Duration::from_secs(30);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(30);
const HEALTH_RETRIES: u32 = 3;

/// Limits by Docker's names, with the kernel's numbers.
const LIMITS: [(&str, u8); 15] = [
    ("cpu", 0),
    ("fsize", 1),
    ("data", 2),
    ("stack", 3),
    ("core", 4),
    ("rss", 5),
    ("nproc", 6),
    ("nofile", 7),
    ("memlock", 8),
    ("locks", 10),
    ("sigpending", 11),
    ("msgqueue", 12),
    ("nice", 13),
    ("rtprio", 14),
    ("rttime", 15),
];

/// How the guest is set up.
pub fn guest(args: &ContainerArgs) -> Result<GuestSettings> {
    let settings = GuestSettings {
        read_only: args.read_only,
        tmpfs: args.tmpfs.iter().map(|given| tmpfs(given)).collect::<Result<_>>()?,
        limits: args.ulimit.iter().map(|given| limit(given)).collect::<Result<_>>()?,
        sysctls: args.sysctl.iter().map(|given| sysctl(given)).collect::<Result<_>>()?,
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
            .with_context(|| format!("cannot read the label file {shown}"))?;
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
            bail!("--no-healthcheck conflicts with --health-* options");
        }
        return Ok(None);
    }
    let command = match (&args.health_cmd, said.test.as_slice()) {
        (Some(line), _) => shell(line),
        (None, [kind, line]) if kind == "CMD-SHELL" => shell(line),
        (None, [kind, words @ ..]) if kind == "CMD" && !words.is_empty() => words.to_vec(),
        (None, _) => return Ok(None),
    };
    let time = |given: Option<humantime::Duration>, said: u64, otherwise: Duration| match given {
        Some(given) => *given,
        None if said > 0 => Duration::from_nanos(said),
        None => otherwise,
    };
    let retries = args.health_retries.unwrap_or(said.retries);
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

fn limit(given: &str) -> Result<Limit> {
    let wrong = || format!("invalid ulimit argument: {given}");
    let (name, values) = given.split_once('=').with_context(wrong)?;
    let Some((_, resource)) = LIMITS.iter().find(|(known, _)| *known == name) else {
        bail!("invalid ulimit type: {name}");
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let value = |text: &str| -> Result<Option<u64>> {
        match text {
            "-1" => Ok(None),
            number => number.parse().map(Some).with_context(wrong),
        }
    };
    let (soft, hard) = (value(soft)?, value(hard)?);
    if let Some(hard) = hard
        && soft.is_none_or(|soft| soft > hard)
    {
        let shown = soft.map_or_else(|| "-1".to_owned(), |soft| soft.to_string());
        bail!("ulimit soft limit must be less than or equal to hard limit: {shown} > {hard}");
    }
    Ok(Limit { resource: *resource, soft, hard })
}

/// The name of a limit, for `inspect`.
pub fn limit_name(resource: u8) -> &'static str {
    LIMITS.iter().find(|(_, number)| *number == resource).map_or("unknown", |(name, _)| name)
}

fn sysctl(given: &str) -> Result<(String, String)> {
    match given.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => bail!("invalid sysctl '{given}'; NAME=VALUE is wanted"),
    }
}

fn network(args: &ContainerArgs) -> Result<NetworkFiles> {
    let host = |given: &String| {
        let pair = given.split_once(':').filter(|(name, _)| !name.is_empty());
        let (name, address) =
            pair.with_context(|| format!("bad format for add-host: \"{given}\""))?;
        let bare = address.trim_start_matches('[').trim_end_matches(']');
        if bare.parse::<IpAddr>().is_err() {
            bail!("invalid IP address in add-host: \"{address}\"");
        }
        Ok((name.to_owned(), bare.to_owned()))
    };
    if let Some(wrong) = args.dns.iter().find(|address| address.parse::<IpAddr>().is_err()) {
        bail!("{wrong} is not an ip address");
    }
    let lines = args.dns.iter().chain(&args.dns_search).chain(&args.dns_option);
    if let Some(wrong) = lines.into_iter().find(|text| text.contains(char::is_control)) {
        bail!("{wrong:?} cannot be in /etc/resolv.conf");
    }
    Ok(NetworkFiles {
        hosts: args.add_host.iter().map(host).collect::<Result<_>>()?,
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
    fn limits_are_read_as_in_docker() {
        let limits = |text: &str| guest(&args(&["--ulimit", text])).map(|guest| guest.limits);
        let nofile = Limit { resource: 7, soft: Some(10), hard: Some(20) };
        assert_eq!(limits("nofile=10:20").unwrap(), [nofile]);
        assert_eq!(limits("core=-1").unwrap(), [Limit { resource: 4, soft: None, hard: None }]);
        for wrong in ["nofile", "wings=1", "nofile=20:10", "nofile=x", "nofile=-1:5"] {
            assert!(limits(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn hosts_and_servers_are_checked() {
        let network = |words: &[&str]| guest(&args(words)).map(|guest| guest.network);
        let hosts =
            network(&["--add-host", "db:10.0.0.1", "--add-host", "v6:[::1]"]).unwrap().hosts;
        assert_eq!(hosts, [("db".into(), "10.0.0.1".into()), ("v6".into(), "::1".into())]);
        for wrong in [["--add-host", "db"], ["--add-host", "db:x"], ["--dns", "nowhere"]] {
            assert!(network(&wrong).is_err(), "{wrong:?}");
        }
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
