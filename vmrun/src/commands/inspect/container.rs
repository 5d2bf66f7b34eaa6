//! A container, as `inspect` shows it.

use anyhow::Result;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{NEVER, host_config, image};
use crate::{
    client::Session,
    commands::Host,
    container::{Condition, Container, Record, State, Status},
    disk, logs,
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
        "ResolvConfPath": "",
        "HostnamePath": "",
        "HostsPath": "",
        "LogPath": logs::newest(container.folder()),
        "Name": format!("/{}", record.name),
        "RestartCount": condition.restarts,
        "Driver": disk::DRIVER,
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host_config::show(record),
    });
    shown["GraphDriver"] = json!({
        "Data": {
            "RootDisk": host.images.root_folder(&record.image.root),
            "WritableDisk": container.disk(),
        },
        "Name": disk::DRIVER,
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
    shown["NetworkSettings"] = network_settings();
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

/// Of a container without a network, as with Docker's `--network none`.
fn network_settings() -> Value {
    json!({
        "Bridge": "",
        "SandboxID": "",
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": {},
        "SandboxKey": "",
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "EndpointID": "",
        "Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "IPAddress": "",
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "MacAddress": "",
        "Networks": {
            "none": {
                "IPAMConfig": null,
                "Links": null,
                "Aliases": null,
                "NetworkID": "",
                "EndpointID": "",
                "Gateway": "",
                "IPAddress": "",
                "IPPrefixLen": 0,
                "IPv6Gateway": "",
                "GlobalIPv6Address": "",
                "GlobalIPv6PrefixLen": 0,
                "MacAddress": "",
                "DriverOpts": null,
            },
        },
    })
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
pub mod tests {
    use super::*;
    use crate::template::{Format, Subject, Type};

    pub fn record(more: &Value) -> Record {
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
    fn templates_that_ask_for_the_network_find_that_there_is_none() {
        let shown = json!({ "NetworkSettings": network_settings() });
        for (template, expected) in [
            ("{{.NetworkSettings.IPAddress}}{{.NetworkSettings.MacAddress}}", ""),
            ("{{range .NetworkSettings.Networks}}<{{.IPAddress}}>{{end}}", "<>"),
            ("{{range $name, $net := .NetworkSettings.Networks}}{{$name}}{{end}}", "none"),
            ("{{json .NetworkSettings.Ports}} {{.NetworkSettings.Ports}}", "{} map[]"),
            ("{{range $p, $c := .NetworkSettings.Ports}}{{$p}}{{end}}", ""),
            ("{{.NetworkSettings.Networks.bridge.IPAddress}}", "<no value>"),
        ] {
            let format = Format::parse(template).unwrap();
            let text = format.render(&Subject::of(&shown, Type::Answer)).unwrap();
            assert_eq!(text, expected, "{template}");
        }
        let port = "{{(index (index .NetworkSettings.Ports \"80/tcp\") 0).HostPort}}";
        let format = Format::parse(port).unwrap();
        let error = format.render(&Subject::of(&shown, Type::Answer)).unwrap_err().to_string();
        assert!(error.ends_with("error calling index: index of untyped nil"), "{error}");
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
}
