//! A container, as `inspect` shows it.

use anyhow::Result;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{NEVER, image};
use crate::{
    client::Session,
    commands::Host,
    container::{Condition, Container, Record, RestartPolicy, State, Status},
    limits, logs,
};

pub fn show(host: &Host, container: &Container, size: bool) -> Result<Value> {
    let record = &container.record;
    let condition = container.condition()?;
    let status = host.containers.status(container)?;
    let words = record.command.args.iter().map(|word| String::from_utf8_lossy(word));
    let words: Vec<_> = words.collect();
    let mut shown = json!({
        "Id": record.id.as_str(),
        "Created": record.created,
        "Path": words.first(),
        "Args": words.get(1..).unwrap_or_default(),
        "State": state(&status, &condition, pid(host, container, &status)),
        "Image": record.image.id,
        "LogPath": logs::newest(container.folder()),
        "Name": format!("/{}", record.name),
        "RestartCount": condition.restarts,
        "Platform": "linux",
        "ExecIDs": null,
        "HostConfig": host_config(record),
    });
    if size {
        let written = container.written()?;
        let image = host.images.details(&record.image.id.to_string());
        let image = image.map_or(0, |details| details.summary.size);
        shown["SizeRw"] = written.into();
        shown["SizeRootFs"] = written.saturating_add(image).into();
    }
    shown["Mounts"] = json!([]);
    shown["Config"] = config(record)?;
    Ok(shown)
}

/// The process that looks after a container, in place of one that only the guest knows; 0 where none
/// does.
fn pid(host: &Host, container: &Container, status: &Status) -> u32 {
    match status {
        Status::Running { .. } | Status::Paused { .. } => {
            let session = Session::with_running(&host.paths, container);
            session.and_then(|session| Ok(session.monitor().peer()?)).unwrap_or(0)
        }
        _ => 0,
    }
}

/// The image's config with what the options say instead, and more that the options say.
fn config(record: &Record) -> Result<Value> {
    let mut said = serde_json::to_value(&record.config)?;
    let (command, attached) = (&record.command, record.attached);
    said["Hostname"] = record.hostname.as_str().into();
    said["AttachStdin"] = attached.stdin.into();
    said["AttachStdout"] = attached.stdout.into();
    said["AttachStderr"] = attached.stderr.into();
    said["Tty"] = command.terminal.into();
    said["OpenStdin"] = command.stdin.into();
    said["StdinOnce"] = command.stdin_once.into();
    said["Image"] = record.image.reference.as_str().into();
    said["Labels"] = json!(record.labels);
    if let Some(health) = &record.health {
        said["Healthcheck"] = serde_json::to_value(health)?;
    }
    if let Some(seconds) = record.stop_timeout {
        said["StopTimeout"] = seconds.into();
    }
    Ok(image::config(&said))
}

/// What the container may use, and how it is set up.
fn host_config(record: &Record) -> Value {
    let (guest, resources) = (&record.guest, &record.resources);
    let hosts = guest.network.hosts.iter().map(|(name, address)| format!("{name}:{address}"));
    let retries = match record.restart {
        RestartPolicy::OnFailure(retries) => retries,
        _ => 0,
    };
    let mut shown = json!({
        "Binds": null,
        "ContainerIDFile": "",
        "LogConfig": { "Type": record.log.driver_name(), "Config": record.log_options },
        "NetworkMode": "none",
        "PortBindings": {},
        "RestartPolicy": { "Name": record.restart.name(), "MaximumRetryCount": retries },
        "AutoRemove": record.remove_on_exit,
        "VolumeDriver": "",
        "VolumesFrom": null,
        "CapAdd": or_null(guest.cap_add.clone()),
        "CapDrop": or_null(guest.cap_drop.clone()),
        "Dns": guest.network.dns,
        "DnsOptions": guest.network.dns_options,
        "DnsSearch": guest.network.dns_search,
        "ExtraHosts": or_null(hosts.collect()),
        "GroupAdd": or_null(record.command.groups.clone()),
        "Links": null,
        "Privileged": guest.privileged,
        "PublishAllPorts": false,
        "ReadonlyRootfs": guest.read_only,
        "SecurityOpt": null,
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let tmpfs = guest.tmpfs.iter();
    let tmpfs = tmpfs.map(|tmpfs| (text(&tmpfs.target), tmpfs.options.clone().into()));
    put_some(&mut shown, "Tmpfs", tmpfs.collect());
    shown["ShmSize"] = guest.shm_bytes.into();
    let sysctls = guest.sysctls.iter().map(|(name, value)| (name.clone(), value.clone().into()));
    put_some(&mut shown, "Sysctls", sysctls.collect());
    shown["Memory"] = (resources.memory_mib << 20).into();
    let nano_cpus = resources.nano_cpus;
    shown["NanoCpus"] =
        nano_cpus.unwrap_or_else(|| u64::from(resources.vcpus) * 1_000_000_000).into();
    shown["Devices"] = json!([]);
    shown["MemoryReservation"] = resources.memory_reservation.into();
    let limits = guest.limits.iter().map(|limit| {
        let shown = |value: Option<u64>| value.map_or_else(|| json!(-1), Value::from);
        json!({
            "Name": limits::name(limit.resource),
            "Hard": shown(limit.hard),
            "Soft": shown(limit.soft),
        })
    });
    shown["Ulimits"] = or_null(limits.collect());
    if guest.init {
        shown["Init"] = true.into();
    }
    shown
}

/// A list as Docker has it if there may be nothing in it.
fn or_null<T: Into<Value>>(list: Vec<T>) -> Value {
    if list.is_empty() { Value::Null } else { list.into() }
}

/// Puts a map there unless it is empty, as Docker does.
fn put_some(shown: &mut Value, name: &str, map: Map<String, Value>) {
    if !map.is_empty() {
        shown[name] = map.into();
    }
}

fn state(status: &Status, recorded: &Condition, pid: u32) -> Value {
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
        "Pid": pid,
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

    fn record(more: &Value) -> Record {
        let digest = format!("sha256:{}", "1".repeat(64));
        let mut record = json!({
            "id": "2".repeat(64),
            "name": "web",
            "created": "2026-01-01T00:00:00Z",
            "image": { "reference": "busybox", "id": digest, "root": digest },
            "command": {
                "args": [], "env": [], "cwd": "/", "user": "",
                "terminal": false, "stdin": false, "stop_signal": 15,
            },
            "hostname": "host",
            "resources": { "memory_mib": 512, "vcpus": 1, "disk": 10_u64 << 30 },
            "remove_on_exit": false,
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            record[name] = value.clone();
        }
        serde_json::from_value(record).unwrap()
    }

    #[test]
    fn a_container_that_never_ran_has_docker_s_zero_times_and_no_process() {
        let state = state(&Status::Created, &State::Created.into(), 0);
        let expected = "{\"Status\":\"created\",\"Running\":false,\"Paused\":false,\
            \"Restarting\":false,\"OOMKilled\":false,\"Dead\":false,\"Pid\":0,\"ExitCode\":0,\
            \"Error\":\"\",\"StartedAt\":\"0001-01-01T00:00:00Z\",\
            \"FinishedAt\":\"0001-01-01T00:00:00Z\"}";
        assert_eq!(state.to_string(), expected);
    }

    #[test]
    fn config_is_in_docker_s_order() {
        let said = json!({
            "config": { "Entrypoint": ["/bin/echo"], "Cmd": ["x"], "StopSignal": "INT" },
            "stop_timeout": 7,
            "labels": { "a": "b" },
            "health": { "Test": ["NONE"] },
            "attached": { "stdin": false, "stdout": true, "stderr": true },
        });
        let shown = config(&record(&said)).unwrap().to_string();
        let expected = "{\"Hostname\":\"host\",\"Domainname\":\"\",\"User\":\"\",\
            \"AttachStdin\":false,\"AttachStdout\":true,\"AttachStderr\":true,\"Tty\":false,\
            \"OpenStdin\":false,\"StdinOnce\":false,\"Env\":null,\"Cmd\":[\"x\"],\
            \"Healthcheck\":{\"Test\":[\"NONE\"]},\"Image\":\"busybox\",\"Volumes\":null,\
            \"WorkingDir\":\"\",\"Entrypoint\":[\"/bin/echo\"],\"OnBuild\":null,\
            \"Labels\":{\"a\":\"b\"},\"StopSignal\":\"INT\",\"StopTimeout\":7}";
        assert_eq!(shown, expected);
    }

    #[test]
    fn empty_lists_are_what_docker_has_for_them() {
        let shown = host_config(&record(&json!({ "log_options": { "max-size": "1m" } })));
        assert_eq!((&shown["CapAdd"], &shown["Ulimits"]), (&Value::Null, &Value::Null));
        assert_eq!(shown["Dns"], json!([]));
        assert!(shown.get("Tmpfs").is_none() && shown.get("Init").is_none());
        let log = json!({ "Type": "json-file", "Config": { "max-size": "1m" } });
        assert_eq!(shown["LogConfig"], log);
    }
}
