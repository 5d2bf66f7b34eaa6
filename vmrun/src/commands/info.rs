//! `vmrun info`: what this user has on this host, under Docker's names.

use std::{fs, thread};

use anyhow::Result;
use rustix::system::{sysinfo, uname};
use serde_json::{Value, json};

use super::{Host, print};
use crate::{
    cli::InfoArgs,
    disk,
    error::failure,
    logs::LogConfig,
    size,
    template::{Format, Subject, Type},
};

/// The lines, by indent, name and field.
const LINES: &[(&str, &str, &str)] = &[
    (" ", "Containers", "Containers"),
    ("  ", "Running", "ContainersRunning"),
    ("  ", "Paused", "ContainersPaused"),
    ("  ", "Stopped", "ContainersStopped"),
    (" ", "Images", "Images"),
    (" ", "Server Version", "ServerVersion"),
    (" ", "Storage Driver", "Driver"),
    (" ", "Logging Driver", "LoggingDriver"),
    (" ", "Cgroup Version", "CgroupVersion"),
    (" ", "Kernel Version", "KernelVersion"),
    (" ", "Operating System", "OperatingSystem"),
    (" ", "OSType", "OSType"),
    (" ", "Architecture", "Architecture"),
    (" ", "CPUs", "NCPU"),
    (" ", "Name", "Name"),
    (" ", "Docker Root Dir", "DockerRootDir"),
];

pub fn info(args: &InfoArgs) -> Result<()> {
    let info = gather(&Host::open()?)?;
    let text = match args.format.as_deref() {
        None => lines(&info),
        Some("json" | "{{json .}}") => format!("{info}\n"),
        Some(template) => by(template, &info, Type::Named("system.info"))? + "\n",
    };
    print(&text)
}

/// `vmrun version`: client and server are one.
pub fn version(args: &InfoArgs) -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let kernel = uname();
    let side = json!({
        "Version": version,
        "Os": "linux",
        "Arch": "amd64",
        "KernelVersion": kernel.release().to_string_lossy(),
    });
    let both = json!({ "Client": side, "Server": side });
    let text = match args.format.as_deref() {
        None | Some("") => format!("vmrun {version}\n"),
        Some("json" | "{{json .}}") => format!("{both}\n"),
        Some(template) => by(template, &both, Type::Named("system.versionInfo"))? + "\n",
    };
    print(&text)
}

fn by(template: &str, info: &Value, of: Type) -> Result<String> {
    let format = Format::parse(template);
    let format = format.map_err(|error| failure(64, format!("template parsing error: {error}")))?;
    match format.render(&Subject::of(info, of)) {
        Ok(text) => Ok(text),
        Err(error) => {
            // As in Docker, there is a line all the same.
            print("\n")?;
            Err(error.into())
        }
    }
}

fn gather(host: &Host) -> Result<Value> {
    host.containers.sweep()?;
    let containers = host.containers.list_with_status()?;
    let with = |word| containers.iter().filter(|(_, status)| status.word() == word).count();
    let (running, paused) = (with("running"), with("paused"));
    let (system, kernel) = (sysinfo(), uname());
    Ok(json!({
        "Containers": containers.len(),
        "ContainersRunning": running,
        "ContainersPaused": paused,
        "ContainersStopped": containers.len() - running - paused,
        "Images": host.images.images()?.len(),
        "Driver": disk::DRIVER,
        "LoggingDriver": LogConfig::default().driver_name(),
        "CgroupVersion": "2",
        "KernelVersion": kernel.release().to_string_lossy(),
        "OperatingSystem": operating_system(&fs::read_to_string("/etc/os-release").unwrap_or_default()),
        "OSType": "linux",
        "Architecture": kernel.machine().to_string_lossy(),
        "NCPU": thread::available_parallelism().map_or(1, usize::from),
        "MemTotal": system.totalram.saturating_mul(u64::from(system.mem_unit.max(1))),
        "DockerRootDir": host.paths.data(),
        "Name": kernel.nodename().to_string_lossy(),
        "ServerVersion": env!("CARGO_PKG_VERSION"),
    }))
}

fn lines(info: &Value) -> String {
    let mut text = format!("Client:\n Version:    {}\n\nServer:\n", env!("CARGO_PKG_VERSION"));
    for (indent, name, field) in LINES {
        let value = match &info[field] {
            Value::String(value) => value.clone(),
            value => value.to_string(),
        };
        text += &format!("{indent}{name}: {value}\n");
    }
    let memory = size::binary(info["MemTotal"].as_u64().unwrap_or_default());
    text + &format!(" Total Memory: {memory}\n")
}

/// What `/etc/os-release` calls it.
fn operating_system(release: &str) -> &str {
    let name = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    name.map_or("Linux", |name| name.trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_a_field() {
        let folder = tempfile::tempdir().unwrap();
        let paths = crate::paths::Paths::below(folder.path()).unwrap();
        let host = Host {
            images: image_store::Store::open(paths.data()).unwrap(),
            containers: crate::container::Containers::new(paths.clone()),
            paths,
        };
        let text = lines(&gather(&host).unwrap());
        assert!(text.contains("\n Containers: 0\n  Running: 0\n"), "{text}");
        assert!(!text.contains("null"), "{text}");
    }

    #[test]
    fn operating_system_is_what_it_calls_itself() {
        assert_eq!(operating_system("ID=debian\nPRETTY_NAME=\"Debian 12\"\n"), "Debian 12");
        assert_eq!(operating_system(""), "Linux");
    }
}
