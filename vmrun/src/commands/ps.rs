//! `vmrun ps`

use std::borrow::Cow;

use anyhow::{Result, anyhow, bail};
use image_store::ImageId;
use jiff::Timestamp;
use regex_lite::Regex;
use serde_json::{Value, json};

use super::{
    Host,
    filters::Filters,
    listing::{Listing, go_time, shorten, since},
    print,
};
use crate::{
    cli::PsArgs,
    container::{Container, ContainerError, Record, Status},
    size::ByteSize,
    template::{Format, Subject, Type, quote},
};

/// Longest command shown, quotes and all, as in Docker.
const COMMAND_SHOWN: usize = 20;

const FILTERS: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
/// Filters by what no container here has.
const OF_NONE: &[&str] = &["expose", "publish", "volume"];
/// The network of every container.
const NETWORK: &str = "none";
/// All that Docker has; none here is ever removing or dead.
const STATES: &[&str] =
    &["created", "running", "exited", "paused", "restarting", "removing", "dead"];
const HEALTH: &[&str] = &["none", "starting", "healthy", "unhealthy"];

/// Docker's name of what a row is.
const ROW: &str = "*formatter.ContainerContext";

pub fn ps(args: &PsArgs) -> Result<()> {
    let format = format(args)?;
    let host = Host::open()?;
    let kept = host.containers.sweep()?;
    let wanted = Wanted::parse(&host, args)?;
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    let known = host.containers.with_status(kept)?;
    for damage in host.containers.damaged(&known)? {
        eprintln!("vmrun: {damage}");
    }
    for (container, status) in known {
        if rows.len() < wanted.most && wanted.fits(&container, &status) {
            rows.push(row(&host, &container, &status, args)?);
            labels.push(container.record.labels);
        }
    }
    if args.quiet && format.is_none() {
        let id = |row: &Value| row["ID"].as_str().map(|id| format!("{id}\n"));
        return print(&rows.iter().filter_map(id).collect::<String>());
    }
    let mut columns = COLUMNS.to_vec();
    if args.size {
        columns.push(("SIZE", "Size"));
    }
    let listing = Listing { columns, hidden: HIDDEN, rows, of: ROW, labels };
    print(&listing.show(format.as_deref())?)
}

const COLUMNS: &[(&str, &str)] = &[
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("PORTS", "Ports"),
    ("NAMES", "Names"),
];
const HIDDEN: &[(&str, &str)] = &[
    ("CREATED AT", "CreatedAt"),
    ("STATE", "State"),
    ("SIZE", "Size"),
    ("LABELS", "Labels"),
    ("MOUNTS", "Mounts"),
    ("NETWORKS", "Networks"),
    ("LOCAL VOLUMES", "LocalVolumes"),
];

/// The form that is asked for; a template is tried before anything is looked at, as in Docker.
fn format(args: &PsArgs) -> Result<Option<Cow<'_, str>>> {
    match args.output.format() {
        None => Ok(None),
        Some("raw") => Ok(Some(raw(args).into())),
        Some(given) => {
            let template = Format::parse(given)
                .map_err(|error| anyhow!("failed to parse template: {error}"))?;
            let fields = COLUMNS.iter().chain(HIDDEN);
            let fields = fields.map(|(_, field)| ((*field).to_owned(), String::new().into()));
            let nothing = Value::Object(fields.collect());
            let label = |_: &str| String::new();
            let subject =
                Subject { label: Some(&label), ..Subject::of(&nothing, Type::Named(ROW)) };
            template
                .render(&subject)
                .map_err(|error| anyhow!("failed to execute template: {error}"))?;
            Ok(Some(given.into()))
        }
    }
}

/// Docker's `--format raw`: a field a line, and a blank line.
fn raw(args: &PsArgs) -> String {
    if args.quiet {
        return "container_id: {{.ID}}".into();
    }
    let mut lines = String::from(
        "container_id: {{.ID}}\nimage: {{.Image}}\ncommand: {{.Command}}\n\
         created_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\nstatus: {{- pad .Status 1 0}}\n\
         names: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\nports: {{- pad .Ports 1 0}}\n",
    );
    if args.size {
        lines += "size: {{.Size}}\n";
    }
    lines
}

/// Which containers are asked for.
struct Wanted {
    filters: Filters,
    only_running: bool,
    most: usize,
    names: Vec<Regex>,
    ids: Vec<Regex>,
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
            bail!("strconv.Atoi: parsing {wrong:?}: invalid syntax");
        }
        if let Some(wrong) = filters.of("health").find(|health| !HEALTH.contains(health)) {
            bail!("Unrecognised filter value for health: {wrong}");
        }
        if let Some(wrong) = filters.of("is-task").find(|text| switch(text).is_none()) {
            bail!("Invalid filter 'is-task={wrong}'");
        }
        let created = |name: &str| -> Result<Vec<Timestamp>> {
            let created = filters.of(name).map(|name| match host.containers.find(name) {
                Ok(container) => Ok(container.record.created),
                Err(ContainerError::NotFound(name)) => bail!("no such container {name}"),
                Err(error) => Err(error.into()),
            });
            created.collect()
        };
        let latest = args.latest.then_some(1);
        // Of none is of all, as in Docker.
        let last = args.last.and_then(|last| usize::try_from(last).ok());
        let newest = last.filter(|&last| last > 0).or(latest);
        let by_state = filters.of("status").chain(filters.of("exited")).next().is_some();
        // What is no pattern fits nothing but itself.
        let patterns = |name| filters.of(name).filter_map(|text| Regex::new(text).ok()).collect();
        Ok(Self {
            only_running: !args.all && !by_state && newest.is_none(),
            most: newest.unwrap_or(usize::MAX),
            names: patterns("name"),
            ids: patterns("id"),
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
        let (id, name) = (record.id.as_str(), record.name.as_str());
        let slashed = format!("/{name}");
        let is_named = |wanted: &str| {
            [name, &slashed].contains(&wanted)
                || self.names.iter().any(|is| is.is_match(name) || is.is_match(&slashed))
        };
        (status.is_running() || !self.only_running)
            && self.filters.fits("id", |_| self.ids.iter().any(|is| is.is_match(id)))
            && self.filters.fits("name", is_named)
            && self.filters.fits("status", |state| state == status.word())
            && self.filters.fits("health", |wanted| wanted == health)
            && self.filters.fits("network", |wanted| wanted == NETWORK)
            && self.filters.fits("is-task", |wanted| switch(wanted) == Some(false))
            && self.filters.of("label").all(|label| has_label(record, label))
            && self.filters.fits("exited", |code| exit.as_deref() == Some(code))
            && self.filters.fits("ancestor", |name| {
                record.image.reference == name || self.ancestors.contains(&record.image.id)
            })
            && OF_NONE.iter().all(|name| self.filters.of(name).next().is_none())
            && (self.before.is_empty() || self.before.iter().any(|at| record.created < *at))
            && (self.since.is_empty() || self.since.iter().any(|at| record.created > *at))
    }
}

/// Yes or no, as Docker's filters have it.
fn switch(text: &str) -> Option<bool> {
    match text {
        "1" | "true" => Some(true),
        "0" | "false" => Some(false),
        _ => None,
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
    let own = container.written()?;
    let image = host.images.details(&container.record.image.id.to_string());
    // An image that was removed by force is still there for its containers, without a size.
    let image = image.map_or(0, |details| details.summary.size);
    let both = own.saturating_add(image);
    Ok(format!("{} (virtual {})", ByteSize(own), ByteSize(both)))
}

fn row(host: &Host, container: &Container, status: &Status, args: &PsArgs) -> Result<Value> {
    let asked = args.output.format().is_some_and(|format| format.contains(".Size"));
    let size = if args.size || asked { size(host, container)? } else { String::new() };
    Ok(fields(&container.record, status, args.no_trunc, &size))
}

/// A container as lists show it, by Docker's names.
pub fn fields(record: &Record, status: &Status, no_trunc: bool, size: &str) -> Value {
    let labels: Vec<_> =
        record.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    json!({
        "Command": command(&record.command.args, no_trunc),
        "CreatedAt": go_time(record.created),
        "ID": if no_trunc { record.id.as_str() } else { record.id.short() },
        "Image": record.image.reference,
        "Labels": labels.join(","),
        "LocalVolumes": "0",
        "Mounts": "",
        "Names": record.name,
        "Networks": NETWORK,
        "Ports": "",
        "RunningFor": since(Some(record.created)),
        "Size": size,
        "State": status.word(),
        "Status": status.to_string(),
    })
}

/// A command as a table shows it: with quotes around arguments that have blanks, and the whole
/// quoted as in Go.
fn command(args: &[Vec<u8>], whole: bool) -> String {
    let words = args.iter().enumerate().map(|(place, word)| {
        let word = String::from_utf8_lossy(word);
        if place > 0 && word.contains(' ') { format!("'{word}'") } else { word.into_owned() }
    });
    let words: Vec<_> = words.collect();
    let text = words.join(" ");
    quote(&if whole { text } else { shorten(&text, COMMAND_SHOWN) })
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
        let lines = ["sh", "-c", "\n echo \"hi\""].map(|word| word.as_bytes().to_vec());
        assert_eq!(command(&lines, false), r#""sh -c '\n echo \"hi\"'""#);
    }

    #[test]
    fn terminal_escapes_do_not_reach_the_terminal() {
        assert!(!command(&[b"\x1b[2J".to_vec()], true).contains('\x1b'));
    }
}
