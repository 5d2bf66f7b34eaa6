//! `vmrun inspect`: containers and images under Docker's field names.
//!
//! Fields that Docker has for things vmrun does not have (a storage driver, cgroup settings) are
//! left out; where scripts expect a field to be there it is, empty as Docker leaves it.

use anyhow::Result;
use image_store::{FindError, ImageDetails, Reference};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json, ser::PrettyFormatter};

use super::{Host, print};
use crate::{
    cli::{InspectArgs, Kind},
    container::{Condition, Container, ContainerError, Record, RestartPolicy, State, Status},
    error::failure,
    limits,
    template::Format,
};

/// The time of what did not happen, as Go prints it.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Fields of an image's `Config`, as Docker has them if the image says nothing of them.
const CONFIG: &[(&str, Default)] = &[
    ("Hostname", Default::Text),
    ("Domainname", Default::Text),
    ("User", Default::Text),
    ("AttachStdin", Default::No),
    ("AttachStdout", Default::No),
    ("AttachStderr", Default::No),
    ("ExposedPorts", Default::Absent),
    ("Tty", Default::No),
    ("OpenStdin", Default::No),
    ("StdinOnce", Default::No),
    ("Env", Default::Null),
    ("Cmd", Default::Null),
    ("Healthcheck", Default::Absent),
    ("ArgsEscaped", Default::Absent),
    ("Image", Default::Text),
    ("Volumes", Default::Null),
    ("WorkingDir", Default::Text),
    ("Entrypoint", Default::Null),
    ("OnBuild", Default::Null),
    ("Labels", Default::Null),
    ("StopSignal", Default::Absent),
    ("Shell", Default::Absent),
];

#[derive(Clone, Copy)]
enum Default {
    Text,
    No,
    Null,
    Absent,
}

pub fn inspect(args: &InspectArgs) -> Result<u8> {
    let host = Host::open()?;
    let format = match args.of.format.as_deref() {
        None | Some("json") => None,
        Some(template) => Some(Format::parse(template)?),
    };
    let mut found = Vec::new();
    let mut status = 0;
    for name in &args.of.names {
        match find(&host, name, args) {
            Ok(value) => found.push(value),
            Err(error) => status = crate::error::report(&error, 1),
        }
    }
    let shown = match (&format, args.of.format.is_some()) {
        (Some(format), _) => {
            let lines = found.iter().map(|value| Ok(format.render(value)? + "\n"));
            lines.collect::<Result<String>>()?
        }
        (None, true) => found.iter().map(|value| format!("{value}\n")).collect(),
        (None, false) => pretty(&Value::Array(found))? + "\n",
    };
    print(&shown)?;
    Ok(status)
}

/// Four spaces, as Docker has it.
fn pretty(value: &Value) -> Result<String> {
    let mut text = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"    ");
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))?;
    Ok(String::from_utf8(text)?)
}

/// A container, or else an image.
fn find(host: &Host, name: &str, args: &InspectArgs) -> Result<Value> {
    if args.kind != Some(Kind::Image) {
        match host.containers.find(name) {
            Ok(found) => return container(host, &found, args.of.size),
            Err(ContainerError::NotFound(_)) if args.kind.is_none() => {}
            Err(error) => return Err(error.into()),
        }
    }
    match host.images.details(name) {
        Ok(details) => Ok(image(&details)),
        Err(FindError::NotFound(_) | FindError::Name { .. }) if args.kind.is_none() => {
            Err(failure(1, format!("No such object: {name}")))
        }
        Err(error) => Err(error.into()),
    }
}

fn image(details: &ImageDetails) -> Value {
    let summary = &details.summary;
    let said = &details.config;
    let familiar = |names: &[Reference]| names.iter().map(Reference::familiar).collect::<Vec<_>>();
    let text = |name: &str| said[name].as_str().unwrap_or_default().to_owned();
    let last = said["history"].as_array().and_then(|steps| steps.last());
    let comment = last.and_then(|step| step["comment"].as_str()).unwrap_or_default();
    let mut image = json!({
        "Id": summary.id,
        "RepoTags": familiar(&summary.names),
        "RepoDigests": familiar(&summary.digests),
        "Parent": "",
        "Comment": comment,
        "Created": text("created"),
        "DockerVersion": text("docker_version"),
        "Author": text("author"),
        "Config": config(&said["config"]),
        "Architecture": text("architecture"),
    });
    if said["variant"].is_string() {
        image["Variant"] = said["variant"].clone();
    }
    let layers: Vec<_> = details.layers.iter().map(|layer| layer.diff_id).collect();
    image["Os"] = text("os").into();
    image["Size"] = summary.size.into();
    image["VirtualSize"] = summary.size.into();
    image["RootFS"] = json!({ "Type": "layers", "Layers": layers });
    image["Metadata"] = json!({ "LastTagTime": NEVER });
    image["Descriptor"] = json!({ "digest": summary.digest });
    image
}

/// The image's own config with Docker's fields in Docker's order, then those Docker does not know.
fn config(said: &Value) -> Value {
    let mut config = Map::new();
    for (name, default) in CONFIG {
        let value = match (said.get(name), default) {
            (Some(value), _) => value.clone(),
            (None, Default::Text) => "".into(),
            (None, Default::No) => false.into(),
            (None, Default::Null) => Value::Null,
            (None, Default::Absent) => continue,
        };
        config.insert((*name).to_owned(), value);
    }
    for (name, value) in said.as_object().into_iter().flatten() {
        if !config.contains_key(name) {
            config.insert(name.clone(), value.clone());
        }
    }
    config.into()
}

fn container(host: &Host, container: &Container, size: bool) -> Result<Value> {
    let record = &container.record;
    let command = &record.command;
    let condition = container.condition()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let words: Vec<String> = command.args.iter().map(|word| text(word)).collect();
    let mut shown = json!({
        "Id": record.id.as_str(),
        "Created": record.created,
        "Path": words.first(),
        "Args": words.get(1..).unwrap_or_default(),
        "State": state(&host.containers.status(container)?, &condition),
        "Image": record.image.id,
        "Name": format!("/{}", record.name),
        "RestartCount": condition.restarts,
        "Platform": "linux",
        "HostConfig": host_config(record),
        "Mounts": [],
    });
    if size {
        shown["SizeRw"] = container.disk_usage()?.into();
    }
    shown["Config"] = json!({
        "Hostname": record.hostname,
        "Domainname": "",
        "Tty": command.terminal,
        "OpenStdin": command.stdin,
        "Image": record.image.reference,
    });
    let said = serde_json::to_value(&record.config)?;
    for (name, value) in said.as_object().into_iter().flatten() {
        shown["Config"][name] = value.clone();
    }
    shown["Config"]["Labels"] = json!(record.labels);
    if let Some(check) = &record.health {
        shown["Config"]["Healthcheck"] = check.to_config();
    }
    if let Some(seconds) = record.stop_timeout {
        shown["Config"]["StopTimeout"] = seconds.into();
    }
    Ok(shown)
}

/// What the container may use, and how it is set up.
fn host_config(record: &Record) -> Value {
    let (guest, resources) = (&record.guest, &record.resources);
    let tmpfs = guest.tmpfs.iter().map(|tmpfs| {
        (String::from_utf8_lossy(&tmpfs.target).into_owned(), tmpfs.options.clone().into())
    });
    let limits = guest.limits.iter().map(|limit| {
        let shown = |value: Option<u64>| value.map_or_else(|| json!(-1), Value::from);
        json!({
            "Name": limits::name(limit.resource),
            "Hard": shown(limit.hard),
            "Soft": shown(limit.soft),
        })
    });
    let sysctls = guest.sysctls.iter().map(|(name, value)| (name.clone(), value.clone().into()));
    let hosts = guest.network.hosts.iter().map(|(name, address)| format!("{name}:{address}"));
    let retries = match record.restart {
        RestartPolicy::OnFailure(retries) => retries,
        _ => 0,
    };
    json!({
        "NetworkMode": "none",
        "RestartPolicy": { "Name": record.restart.name(), "MaximumRetryCount": retries },
        "AutoRemove": record.remove_on_exit,
        "CapAdd": guest.cap_add,
        "CapDrop": guest.cap_drop,
        "Dns": guest.network.dns,
        "DnsOptions": guest.network.dns_options,
        "DnsSearch": guest.network.dns_search,
        "ExtraHosts": hosts.collect::<Vec<_>>(),
        "GroupAdd": record.command.groups,
        "Privileged": guest.privileged,
        "ReadonlyRootfs": guest.read_only,
        "ShmSize": guest.shm_bytes,
        "Tmpfs": tmpfs.collect::<Map<_, _>>(),
        "Sysctls": sysctls.collect::<Map<_, _>>(),
        "Ulimits": limits.collect::<Vec<_>>(),
        "Memory": resources.memory_mib << 20,
        "NanoCpus": resources.nano_cpus
            .unwrap_or_else(|| u64::from(resources.vcpus) * 1_000_000_000),
        "Init": guest.init,
    })
}

fn state(status: &Status, recorded: &Condition) -> Value {
    let time = |at: Option<Timestamp>| at.map_or_else(|| NEVER.to_owned(), |at| at.to_string());
    let started = match &recorded.state {
        State::Created | State::Starting => None,
        State::Running { started }
        | State::Paused { started }
        | State::Restarting { started, .. }
        | State::Exited { started, .. } => Some(*started),
    };
    let (exit, finished) = match status {
        Status::Exited { exit, finished } => (Some(exit), *finished),
        Status::Restarting { exit, finished } => (Some(exit), Some(*finished)),
        _ => (None, None),
    };
    let mut state = json!({
        "Status": status.word(),
        "Running": status.is_running(),
        "Paused": matches!(status, Status::Paused { .. }),
        "Restarting": matches!(status, Status::Restarting { .. }),
        "OOMKilled": exit.is_some_and(|exit| exit.oom_killed),
        "Dead": false,
        "ExitCode": exit.map_or(0, |exit| exit.status),
        "Error": exit.and_then(|exit| exit.error.clone()).unwrap_or_default(),
        "StartedAt": time(started),
        "FinishedAt": time(finished),
    });
    if let Some(health) = &recorded.health {
        let log = health.log.iter().map(|result| {
            json!({
                "Start": result.start,
                "End": result.end,
                "ExitCode": result.exit_code,
                "Output": result.output,
            })
        });
        state["Health"] = json!({
            "Status": health.status.word(),
            "FailingStreak": health.failing_streak,
            "Log": log.collect::<Vec<_>>(),
        });
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn config_has_docker_s_fields_and_keeps_others() {
        let config = config(&json!({ "Own": 1, "Cmd": ["sh"], "StopSignal": "INT" }));
        assert_eq!(config["Cmd"], json!(["sh"]));
        assert_eq!((&config["Env"], &config["WorkingDir"]), (&Value::Null, &json!("")));
        assert!(config.get("Healthcheck").is_none());
        assert_eq!(config.as_object().unwrap().keys().next_back().unwrap(), "Own");
    }

    #[test]
    fn a_container_that_never_ran_has_docker_s_zero_times() {
        let state = state(&Status::Created, &State::Created.into());
        assert_eq!((&state["Status"], &state["StartedAt"]), (&json!("created"), &json!(NEVER)));
    }
}
