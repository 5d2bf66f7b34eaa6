//! `vmrun commit`: an image of a container's image and what the container has changed, running or not.

use std::io::{self, Read};

use agent_protocol::Task;
use anyhow::{Result, bail};
use image_store::{CommitRequest, Digest, ImageConfig, Reference};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{Host, changes, print};
use crate::{cli::CommitArgs, client::Session, container::Record, events::Event, monitor::Request};

/// Bytes that the headers of a layer's files may take.
const HEADERS: u64 = 4 << 30;

pub fn commit(args: &CommitArgs) -> Result<()> {
    let name = args.name.as_deref().map(new_name).transpose()?;
    let host = Host::open()?;
    let container = host.containers.find(&args.container)?;
    let record = &container.record;
    let config = config(record, &args.change)?;

    let session = Session::with_files(&host.paths, &host.containers, &container)?;
    if args.pause {
        session.ask(&Request::Quiesce)?;
    }
    let left = most(&host, record)?;
    let mut layer = Bounded { inner: session.read(Task::Layer)?, left };
    let describe = |base: &Value, layer: Option<&Digest>| {
        document(base, &config, layer, &step(record, args, layer))
    };
    let request = CommitRequest { base: record.image.id, describe: &describe, name: name.clone() };
    let id = host.images.commit(&mut layer, request)?;

    let shown = name.map(|name| name.familiar()).unwrap_or_default();
    if !shown.is_empty() {
        host.tell(Event::of_image(&id.to_string(), &shown, "tag"));
    }
    let event = Event::of_container(record, "commit").with("imageID", id).with("imageRef", shown);
    host.tell(event.with("comment", args.message.as_deref().unwrap_or_default()));
    print(&format!("{id}\n"))
}

/// Bytes that a layer of the container may have: what is on its disk, and what of the image it moved.
fn most(host: &Host, record: &Record) -> Result<u64> {
    let images = host.images.images()?.into_iter();
    let image: u64 =
        images.filter(|image| image.id == record.image.id).map(|image| image.size).sum();
    Ok(record.resources.disk.bytes().saturating_add(image).saturating_add(HEADERS))
}

/// The image's name as the user wants it.
fn new_name(name: &str) -> Result<Reference> {
    let name: Reference = name.parse()?;
    if name.digest().is_some() {
        bail!("refusing to create a tag with a digest reference");
    }
    Ok(name.or_latest())
}

/// How the image is to be run: as the container, with changes.
fn config(record: &Record, instructions: &[String]) -> Result<Value> {
    let mut config: ImageConfig = record.config.clone();
    let mut health = record.health.clone();
    changes::apply(&mut config, &mut health, instructions)?;
    if config.entrypoint.is_empty() && config.cmd.is_empty() {
        config.cmd.clone_from(&record.config.cmd);
    }
    let mut config = serde_json::to_value(config)?;
    if let Some(health) = health {
        config["Healthcheck"] = serde_json::to_value(health)?;
    }
    Ok(config)
}

/// What the history says of it.
fn step(record: &Record, args: &CommitArgs, layer: Option<&Digest>) -> Value {
    let mut step = json!({
        "created": Timestamp::now(),
        "created_by": record.config.cmd.join(" "),
    });
    for (name, text) in [("author", &args.author), ("comment", &args.message)] {
        if let Some(text) = text.as_ref().filter(|text| !text.is_empty()) {
            step[name] = text.as_str().into();
        }
    }
    if layer.is_none() {
        step["empty_layer"] = true.into();
    }
    step
}

/// The image's config blob: the base's, where the container has nothing to say.
fn document(base: &Value, config: &Value, layer: Option<&Digest>, step: &Value) -> Value {
    let mut document = Map::new();
    let kept = ["architecture", "variant", "os", "os.version", "os.features"];
    for name in kept {
        if let Some(value) = base.get(name) {
            document.insert(name.to_owned(), value.clone());
        }
    }
    if let Some(author) = step.get("author") {
        document.insert("author".to_owned(), author.clone());
    }
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut diff_ids = list(&base["rootfs"]["diff_ids"]);
    diff_ids.extend(layer.map(|layer| json!(layer)));
    let mut history = list(&base["history"]);
    history.push(step.clone());
    document.insert("created".to_owned(), step["created"].clone());
    document.insert("config".to_owned(), config.clone());
    document.insert("rootfs".to_owned(), json!({ "type": "layers", "diff_ids": diff_ids }));
    document.insert("history".to_owned(), history.into());
    document.into()
}

/// A stream of a guest, which may not be longer than the container's files can be.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(into)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::other("the guest sends more than the container's disk can hold")
        })?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
