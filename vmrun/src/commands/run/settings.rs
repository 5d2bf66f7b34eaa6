//! The settings of a container around its command, from the options of `run` and `create`.

use std::{collections::BTreeMap, fs};

use agent_protocol::Tmpfs;
use anyhow::{Result, anyhow, bail};

use super::misused;
use crate::{
    capabilities,
    cli::{AttachedStream, ContainerArgs},
    commands::in_words,
    container::{Attached, GuestSettings, HealthConfig, NetworkFiles, SHORTEST},
    size::ByteSize,
};

/// How the guest is set up.
pub fn guest(args: &ContainerArgs) -> Result<GuestSettings> {
    check_security(&args.security_opt)?;
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
        // Docker's words for no limit.
        pids_limit: args
            .pids_limit
            .and_then(|most| u64::try_from(most).ok())
            .filter(|most| *most > 0),
        security_options: args.security_opt.clone(),
        ..GuestSettings::default()
    };
    capabilities::of(&settings)?;
    Ok(match args.shm_size {
        Some(ByteSize(shm_bytes)) => GuestSettings { shm_bytes, ..settings },
        None => settings,
    })
}

/// What is so of each container (no list of system calls and no security module is around its command)
/// and what can be asked for.
const SECURITY: &[&str] = &[
    "seccomp=unconfined",
    "apparmor=unconfined",
    "label=disable",
    "no-new-privileges",
    "no-new-privileges=true",
    "no-new-privileges=false",
];

/// `--security-opt`, by `=` or, as of old, by `:`.
fn check_security(options: &[String]) -> Result<()> {
    for option in options {
        let known = |known: &&str| *known == option.replacen(':', "=", 1);
        if !SECURITY.iter().any(known) {
            let name = option.split(['=', ':']).next().unwrap_or_default();
            if !["seccomp", "apparmor", "label", "no-new-privileges"].contains(&name) {
                return match option.contains(['=', ':']) {
                    true => Err(anyhow!("invalid --security-opt 2: {option:?}")),
                    false => Err(misused(format!("Invalid --security-opt: {option:?}"))),
                };
            }
            bail!("--security-opt {option} cannot be: there are {}", SECURITY[..4].join(", "));
        }
    }
    Ok(())
}

/// The ports that `--expose` names: one, or a range, with its protocol.
pub fn exposed(given: &str) -> Result<Vec<String>> {
    if given.contains(':') {
        return Err(misused(format!("invalid port format for --expose: {given}")));
    }
    let (ports, protocol) = given.split_once('/').unwrap_or((given, "tcp"));
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let wrong =
        |why: String| misused(format!("invalid range format for --expose: {given}, error: {why}"));
    let number = |text: &str| {
        let syntax = |_| wrong(format!("strconv.ParseUint: parsing {text:?}: invalid syntax"));
        text.parse::<u16>().map_err(syntax)
    };
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err(wrong(format!("Invalid range specified for the Port: {ports}")));
    }
    if !["tcp", "udp", "sctp"].contains(&protocol) {
        return Err(wrong(format!("Invalid proto: {protocol}")));
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// The streams that whoever stays with the container has of it.
pub fn attached(args: &ContainerArgs) -> Attached {
    let is = |stream| args.attach.contains(&stream);
    let all = args.attach.is_empty();
    Attached {
        stdin: is(AttachedStream::Stdin) || (all && args.interactive),
        stdout: is(AttachedStream::Stdout) || all,
        stderr: is(AttachedStream::Stderr) || all,
    }
}

/// Checked options of the log, by name.
pub fn log_options(given: &[String]) -> BTreeMap<String, String> {
    let options = given.iter().filter_map(|option| option.split_once('='));
    options.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
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

/// What is said of the container's health: by the options, and where they say nothing by the image.
pub fn health(args: &ContainerArgs, image: &serde_json::Value) -> Result<Option<HealthConfig>> {
    let mut said: HealthConfig =
        serde_json::from_value(image["config"]["Healthcheck"].clone()).unwrap_or_default();
    let mut given = args.health_cmd.is_some() || args.health_retries.is_some();
    for (said, time, name) in [
        (&mut said.interval, args.health_interval, "Interval"),
        (&mut said.timeout, args.health_timeout, "Timeout"),
        (&mut said.start_period, args.health_start_period, "StartPeriod"),
    ] {
        given |= time.is_some();
        // Nothing said is what 0 stands for.
        let Some(time) = time.filter(|time| !time.is_zero()) else { continue };
        if time < SHORTEST {
            bail!("{name} in Healthcheck cannot be less than 1ms");
        }
        *said = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    }
    if args.no_healthcheck {
        if given {
            return Err(misused("--no-healthcheck conflicts with --health-* options"));
        }
        return Ok(Some(HealthConfig { test: vec!["NONE".into()], ..HealthConfig::default() }));
    }
    let Ok(retries) = args.health_retries.map_or(Ok(said.retries), u32::try_from) else {
        return Err(misused("--health-retries cannot be negative"));
    };
    said.retries = retries;
    if let Some(line) = &args.health_cmd {
        said.test = vec!["CMD-SHELL".into(), line.clone()];
    }
    Ok(Some(said).filter(|said| *said != HealthConfig::default()))
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
        args.into_inner().container
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
    fn security_that_is_so_anyway_can_be_asked_for() {
        let check = |option: &str| check_security(&[option.to_owned()]);
        assert!(check("seccomp=unconfined").is_ok() && check("label:disable").is_ok());
        assert!(check("seccomp=profile.json").is_err() && check("nosuch").is_err());
        let gains =
            |option| !guest(&args(&["--security-opt", option])).unwrap().no_new_privileges();
        assert!(!gains("no-new-privileges") && !gains("no-new-privileges:true"));
        assert!(gains("no-new-privileges=false") && gains("label=disable"));
    }

    #[test]
    fn no_limit_of_processes_is_0_or_less() {
        let limit = |most| guest(&args(&["--pids-limit", most])).unwrap().pids_limit;
        assert_eq!((limit("5"), limit("0"), limit("-1")), (Some(5), None, None));
    }

    #[test]
    fn ports_are_exposed_one_by_one_or_in_ranges() {
        assert_eq!(exposed("80").unwrap(), ["80/tcp"]);
        assert_eq!(exposed("53-54/udp").unwrap(), ["53/udp", "54/udp"]);
        for wrong in ["80:80", "x", "9-8", "80/x", ""] {
            assert!(exposed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn streams_are_attached_as_in_docker() {
        let of = |words: &[&str]| {
            let Attached { stdin, stdout, stderr } = attached(&args(words));
            [stdin, stdout, stderr]
        };
        assert_eq!(of(&[]), [false, true, true]);
        assert_eq!(of(&["-i"]), [true, true, true]);
        assert_eq!(of(&["-i", "-a", "stdout"]), [false, true, false]);
    }

    #[test]
    fn health_is_the_image_s_unless_told_otherwise() {
        let image = json!({ "config": { "Healthcheck": {
            "Test": ["CMD", "ok"], "Interval": 5_000_000_000_u64, "Retries": 2
        } } });
        let said = |words: &[&str]| json!(health(&args(words), &image).unwrap());
        assert_eq!(said(&[]), image["config"]["Healthcheck"]);
        let mine = ["--health-cmd", "mine", "--health-interval", "1s"];
        let expected =
            json!({ "Test": ["CMD-SHELL", "mine"], "Interval": 1_000_000_000, "Retries": 2 });
        assert_eq!(said(&mine), expected);
        assert_eq!(said(&["--no-healthcheck"]), json!({ "Test": ["NONE"] }));
        assert_eq!(health(&args(&[]), &json!({})).unwrap(), None);
        assert!(health(&args(&["--no-healthcheck", "--health-cmd", "x"]), &image).is_err());
    }
}
