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
    container::{Container, Record, Status},
    monitor::printable,
    size::ByteSize,
};

/// Longest command shown, quotes and all, as in Docker.
const COMMAND_SHOWN: usize = 20;

const FILTERS: &[&str] =
    &["id", "name", "label", "status", "exited", "ancestor", "before", "since", "health"];
/// All that Docker has; none here is ever removing or dead.
const STATES: &[&str] =
    &["created", "running", "exited", "paused", "restarting", "removing", "dead"];

pub fn ps(args: &PsArgs) -> Result<()> {
    let host = Host::open()?;
    let kept = host.containers.sweep()?;
    for damage in host.containers.damaged(&kept)? {
        eprintln!("vmrun: {damage}");
    }
    let wanted = Wanted::parse(&host, args)?;
    let mut rows = Vec::new();
    for (container, status) in host.containers.with_status(kept)? {
        if rows.len() < wanted.most && wanted.fits(&container, &status) {
            rows.push(row(&host, &container, &status, args)?);
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
            bail!("Invalid filter 'status={wrong}'");
        }
        if let Some(wrong) = filters.of("exited").find(|code| code.parse::<i32>().is_err()) {
            bail!("Invalid filter 'exited={wrong}'; an exit status is wanted");
        }
        let created = |name: &str| -> Result<Vec<Timestamp>> {
            filters.of(name).map(|name| Ok(host.containers.find(name)?.record.created)).collect()
        };
        let latest = args.latest.then_some(1);
        // Of none is of all, as in Docker.
        let newest = args.last.filter(|&last| last > 0).or(latest);
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
        let health = match status {
            Status::Running { health: Some(health), .. } => health.status.word(),
            _ => "none",
        };
        let in_name = |part: &str| record.name.as_str().contains(part.trim_start_matches('/'));
        (status.is_running() || !self.only_running)
            && self.filters.fits("id", |id| record.id.as_str().starts_with(id))
            && self.filters.fits("name", in_name)
            && self.filters.fits("status", |state| state == status.word())
            && self.filters.fits("health", |wanted| wanted == health)
            && self.filters.of("label").all(|label| has_label(record, label))
            && self.filters.fits("exited", |code| exit.as_deref() == Some(code))
            && self.filters.fits("ancestor", |name| {
                record.image.reference == name || self.ancestors.contains(&record.image.id)
            })
            && (self.before.is_empty() || self.before.iter().any(|at| record.created < *at))
            && (self.since.is_empty() || self.since.iter().any(|at| record.created > *at))
    }
}

/// Whether a container has a label, with this value where one is given.
pub fn has_label(record: &Record, label: &str) -> bool {
    match label.split_once('=') {
        Some((name, value)) => record.labels.get(name).is_some_and(|found| found == value),
        None => record.labels.contains_key(label),
    }
}

/// What the container takes on the host, and that with what its image does.
fn size(host: &Host, container: &Container) -> Result<String> {
    let own = container.disk_usage()?;
    let image = host.images.details(&container.record.image.id.to_string());
    // An image that was removed by force is still there for its containers, without a size.
    let image = image.map_or(0, |details| details.summary.size);
    let both = own.saturating_add(image);
    Ok(format!("{} (virtual {})", ByteSize(own), ByteSize(both)))
}

fn row(host: &Host, container: &Container, status: &Status, args: &PsArgs) -> Result<Value> {
    let record = &container.record;
    let id = if args.no_trunc { record.id.as_str() } else { record.id.short() };
    let size = if args.size || args.output.format().is_some_and(|format| format.contains(".Size")) {
        size(host, container)?
    } else {
        String::new()
    };
    let labels: Vec<_> =
        record.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(json!({
        "Command": command(&record.command.args, args.no_trunc),
        "CreatedAt": go_time(record.created),
        "ID": id,
        "Image": record.image.reference,
        "Labels": labels.join(","),
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

/// A command as a table shows it, with quotes around arguments that have blanks.
pub fn command(args: &[Vec<u8>], whole: bool) -> String {
    let words = args.iter().enumerate().map(|(place, word)| {
        let word = String::from_utf8_lossy(word);
        if place > 0 && word.contains(' ') { format!("'{word}'") } else { word.into_owned() }
    });
    let words: Vec<_> = words.collect();
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
        let script = ["sh", "-c", "exit 3"].map(|word| word.as_bytes().to_vec());
        assert_eq!(command(&script, false), "\"sh -c 'exit 3'\"");
        assert_eq!(command(&long, true), "\"docker-entrypoint.sh postgres\"");
    }

    #[test]
    fn terminal_escapes_do_not_reach_the_terminal() {
        assert!(!command(&[b"\x1b[2J".to_vec()], true).contains('\x1b'));
    }
}
