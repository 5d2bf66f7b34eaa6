//! `vmrun ps`

use anyhow::{Result, bail};
use image_store::ImageId;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Host,
    filters::Filters,
    listing::{Listing, go_time, shorten, since},
    print,
};
use crate::{
    cli::PsArgs,
    container::{Container, Status},
    monitor::printable,
    size::ByteSize,
};

/// Longest command shown, quotes and all, as in Docker.
const COMMAND_SHOWN: usize = 20;

const FILTERS: &[&str] = &["id", "name", "status", "exited", "ancestor", "before", "since"];
/// All that Docker has; a container here is in one of the first three.
const STATES: &[&str] =
    &["created", "running", "exited", "paused", "restarting", "removing", "dead"];

pub fn ps(args: &PsArgs) -> Result<()> {
    let host = Host::open()?;
    host.containers.sweep()?;
    let wanted = Wanted::parse(&host, args)?;
    let mut rows = Vec::new();
    for (container, status) in host.containers.list_with_status()? {
        if rows.len() < wanted.most && wanted.fits(&container, &status) {
            rows.push(row(&container, &status, args)?);
        }
    }
    if args.quiet && args.output.format().is_none() {
        let id = |row: &Value| row["ID"].as_str().map(|id| format!("{id}\n"));
        return print(&rows.iter().filter_map(id).collect::<String>());
    }
    let mut columns = vec![
        ("CONTAINER ID", "ID"),
        ("IMAGE", "Image"),
        ("COMMAND", "Command"),
        ("CREATED", "RunningFor"),
        ("STATUS", "Status"),
        ("PORTS", "Ports"),
        ("NAMES", "Names"),
    ];
    if args.size {
        columns.push(("SIZE", "Size"));
    }
    let hidden = &[
        ("CREATED AT", "CreatedAt"),
        ("STATE", "State"),
        ("SIZE", "Size"),
        ("LABELS", "Labels"),
        ("MOUNTS", "Mounts"),
        ("NETWORKS", "Networks"),
        ("LOCAL VOLUMES", "LocalVolumes"),
    ];
    print(&Listing { columns, hidden, rows }.show(args.output.format())?)
}

/// Which containers are asked for.
struct Wanted {
    filters: Filters,
    only_running: bool,
    most: usize,
    ancestors: Vec<ImageId>,
    before: Vec<Timestamp>,
    since: Vec<Timestamp>,
}

impl Wanted {
    fn parse(host: &Host, args: &PsArgs) -> Result<Self> {
        let filters = Filters::parse(&args.filter, FILTERS)?;
        if let Some(wrong) = filters.of("status").find(|state| !STATES.contains(state)) {
            bail!("invalid filter 'status={wrong}'; there are: {}", STATES.join(", "));
        }
        if let Some(wrong) = filters.of("exited").find(|code| code.parse::<i32>().is_err()) {
            bail!("invalid filter 'exited={wrong}'; an exit status is wanted");
        }
        let created = |name: &str| -> Result<Vec<Timestamp>> {
            filters.of(name).map(|name| Ok(host.containers.find(name)?.record.created)).collect()
        };
        let latest = args.latest.then_some(1);
        let newest = args.last.or(latest);
        let by_state = filters.of("status").chain(filters.of("exited")).next().is_some();
        Ok(Self {
            only_running: !args.all && !by_state && newest.is_none(),
            most: newest.unwrap_or(usize::MAX),
            // An image that is not there has no descendants.
            ancestors: filters
                .of("ancestor")
                .filter_map(|name| host.images.find(name).ok().map(|image| image.id))
                .collect(),
            before: created("before")?,
            since: created("since")?,
            filters,
        })
    }

    fn fits(&self, container: &Container, status: &Status) -> bool {
        let record = &container.record;
        let exit = match status {
            Status::Exited { exit, .. } => Some(exit.status.to_string()),
            _ => None,
        };
        let in_name = |part: &str| record.name.as_str().contains(part.trim_start_matches('/'));
        (status.is_running() || !self.only_running)
            && self.filters.fits("id", |id| record.id.as_str().starts_with(id))
            && self.filters.fits("name", in_name)
            && self.filters.fits("status", |state| state == status.word())
            && self.filters.fits("exited", |code| exit.as_deref() == Some(code))
            && self.filters.fits("ancestor", |name| {
                record.image.reference == name || self.ancestors.contains(&record.image.id)
            })
            && (self.before.is_empty() || self.before.iter().any(|at| record.created < *at))
            && (self.since.is_empty() || self.since.iter().any(|at| record.created > *at))
    }
}

fn row(container: &Container, status: &Status, args: &PsArgs) -> Result<Value> {
    let record = &container.record;
    let id = if args.no_trunc { record.id.as_str() } else { record.id.short() };
    let size = if args.size || args.output.format().is_some_and(|format| format.contains(".Size")) {
        ByteSize(container.disk_usage()?).to_string()
    } else {
        String::new()
    };
    Ok(json!({
        "Command": command(&record.command.args, args.no_trunc),
        "CreatedAt": go_time(record.created),
        "ID": id,
        "Image": record.image.reference,
        "Labels": "",
        "LocalVolumes": "0",
        "Mounts": "",
        "Names": record.name,
        "Networks": "",
        "Ports": "",
        "RunningFor": since(Some(record.created)),
        "Size": size,
        "State": status.word(),
        "Status": status.to_string(),
    }))
}

/// A command as a table shows it.
pub fn command(args: &[Vec<u8>], whole: bool) -> String {
    let words: Vec<_> = args.iter().map(|word| String::from_utf8_lossy(word)).collect();
    let text = printable(&words.join(" "));
    let shown = if whole { text } else { shorten(&text, COMMAND_SHOWN) };
    format!("\"{shown}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_cut_as_in_docker() {
        assert_eq!(command(&[b"sh".to_vec(), b"-c".to_vec()], false), "\"sh -c\"");
        let long = [b"docker-entrypoint.sh postgres".to_vec()];
        assert_eq!(command(&long, false), "\"docker-entrypoint.s…\"");
        assert_eq!(command(&long, true), "\"docker-entrypoint.sh postgres\"");
    }

    #[test]
    fn terminal_escapes_do_not_reach_the_terminal() {
        assert!(!command(&[b"\x1b[2J".to_vec()], true).contains('\x1b'));
    }
}
