//! `vmrun inspect`: containers and images under Docker's field names, in Docker's order.
//!
//! Fields that Docker has for things vmrun does not have (a network, cgroup settings) are as Docker
//! leaves them where nothing is said.

mod container;
mod host_config;
mod image;

use anyhow::{Result, anyhow, bail};
use image_store::FindError;
use serde::Serialize;
use serde_json::{Value, ser::PrettyFormatter};

use super::{Host, print};
use crate::{
    cli::InspectArgs,
    container::ContainerError,
    error::{self, failure},
    template::{Format, Subject, Type},
};

/// The time of what did not happen, as Go prints it.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// What Docker can inspect, and there is none of here.
const OTHERS: &[&str] = &["network", "node", "plugin", "secret", "service", "task", "volume"];

/// How what is found is shown.
enum Shown<'a> {
    Pretty,
    Json,
    Template(Format<'a>),
}

pub fn inspect(args: &InspectArgs) -> Result<u8> {
    let shown = match args.of.format.as_deref() {
        None | Some("") => Shown::Pretty,
        Some("json") => Shown::Json,
        Some(template) => Shown::Template(
            Format::parse(template)
                .map_err(|error| failure(64, format!("template parsing error: {error}")))?,
        ),
    };
    if !["", "container", "image"].contains(&args.kind.as_str())
        && !OTHERS.contains(&args.kind.as_str())
    {
        bail!("{:?} is not a valid value for --type", args.kind);
    }
    let host = Host::open()?;
    let (mut found, mut lines, mut errors) = (Vec::new(), String::new(), Vec::new());
    for name in &args.of.names {
        let value = find(&host, name, args);
        let value = value.and_then(|value| match &shown {
            Shown::Pretty => {
                found.push(value);
                Ok(())
            }
            Shown::Json => {
                lines += &format!("{value}\n");
                Ok(())
            }
            Shown::Template(format) => {
                let line = format.render(&Subject::of(&value, Type::Answer));
                lines += &line.map_err(|error| anyhow!("template parsing error: {error}"))?;
                lines.push('\n');
                Ok(())
            }
        });
        errors.extend(value.err());
    }
    if matches!(shown, Shown::Pretty) {
        lines = pretty(&Value::Array(found))?;
    }
    // Where there is nothing, an empty line, as in Docker.
    if !lines.ends_with('\n') {
        lines.push('\n');
    }
    print(&lines)?;
    Ok(errors.iter().map(|error| error::report(error, 1)).max().unwrap_or(0))
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
    let any = args.kind.is_empty();
    if OTHERS.contains(&args.kind.as_str()) {
        bail!("No such {}: {name}", args.kind);
    }
    if args.kind != "image" {
        match host.containers.find(name) {
            Ok(found) => return container::show(host, &found, args.of.size),
            Err(ContainerError::NotFound(_)) if any => {}
            Err(error) => return Err(error.into()),
        }
    }
    match host.images.details(name) {
        Ok(details) => Ok(image::show(&details, &host.images.root_folder(&details.root))),
        Err(FindError::NotFound(_) | FindError::Name { .. }) if any => {
            bail!("No such object: {name}")
        }
        Err(error) => Err(error.into()),
    }
}
