//! `vmrun import`: an image of one layer, from the root file system in a tar archive, here or on the
//! web.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
};

use anyhow::{Context, Result};
use image_store::{Digest, ImageConfig, Reference};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Host, changes, check_platform, load::named, print, progress};
use crate::{cli::ImportArgs, error::failure, events::Event};

pub fn import(args: &ImportArgs) -> Result<()> {
    check_platform(args.platform.as_ref())?;
    let name = args.name.as_deref().map(|name| {
        let parsed: Reference =
            name.parse().with_context(|| format!("invalid reference {name:?}"))?;
        if parsed.digest().is_some() {
            return Err(failure(1, "cannot import digest reference"));
        }
        Ok(parsed.or_latest())
    });
    let name = name.transpose()?;
    let mut config = ImageConfig::default();
    let mut health = None;
    changes::apply(&mut config, &mut health, &args.change)?;
    let mut config = serde_json::to_value(config)?;
    if let Some(health) = health {
        config["Healthcheck"] = serde_json::to_value(health)?;
    }
    let host = Host::open()?;
    let given = args.file.to_string_lossy();
    let is_url = ["http://", "https://"].iter().any(|scheme| given.starts_with(scheme));
    let from = if is_url { &given } else { "-" };
    let comment = args.message.clone().unwrap_or_else(|| format!("Imported from {from}"));
    let describe = |layer: &Digest| document(&config, &comment, layer);
    let (mut archive, shown): (Box<dyn Read>, &str) = if is_url {
        (Box::new(download(&host, &given)?), &given)
    } else if given == "-" {
        if io::stdin().is_terminal() {
            return Err(failure(1, "import reads an archive from stdin, which is a terminal"));
        }
        (Box::new(io::stdin().lock()), "standard input")
    } else {
        let file = File::open(&args.file).with_context(|| format!("cannot read {given}"))?;
        (Box::new(file), &given)
    };
    let id = host.images.import(&mut archive, &describe, name);
    drop(archive);
    let id = id.map_err(|error| named(error, "import", &shown))?;
    host.tell(Event::of_image(&id.to_string(), &id.to_string(), "import"));
    print(&format!("{id}\n"))
}

/// What is at a URL, with a bar that shows how much of it has come.
fn download(host: &Host, url: &str) -> Result<impl Read + use<>> {
    print(&format!("Downloading from {url}\n"))?;
    let content = host.registries()?.download(url);
    let content = content.with_context(|| format!("cannot download {url}"))?;
    Ok(progress::bar(content.length).wrap_read(content))
}

/// The image's config blob.
fn document(config: &Value, comment: &str, layer: &Digest) -> Value {
    let now = Timestamp::now();
    json!({
        "architecture": "amd64",
        "os": "linux",
        "created": now,
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [layer] },
        "history": [{ "created": now, "comment": comment }],
    })
}
