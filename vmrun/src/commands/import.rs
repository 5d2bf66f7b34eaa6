//! `vmrun import`: an image of one layer, from the root file system in a tar archive.

use std::{
    fs::File,
    io::{self, IsTerminal, Read},
    path::Path,
};

use anyhow::{Context, Result};
use image_store::{Digest, ImageConfig, Reference};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Host, changes, check_platform, load::named, print};
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
    let describe = |layer: &Digest| document(&config, args.message.as_deref(), layer);
    let (mut archive, shown): (Box<dyn Read>, String) = if args.file == Path::new("-") {
        if io::stdin().is_terminal() {
            return Err(failure(1, "import reads an archive from stdin, which is a terminal"));
        }
        (Box::new(io::stdin().lock()), "standard input".to_owned())
    } else {
        let shown = args.file.display().to_string();
        let file = File::open(&args.file).with_context(|| format!("cannot read {shown}"))?;
        (Box::new(file), shown)
    };
    let id = host.images.import(&mut archive, &describe, name);
    let id = id.map_err(|error| named(error, "import", &shown))?;
    host.tell(Event::of_image(&id.to_string(), &id.to_string(), "import"));
    print(&format!("{id}\n"))
}

/// The image's config blob.
fn document(config: &Value, message: Option<&str>, layer: &Digest) -> Value {
    let now = Timestamp::now();
    json!({
        "architecture": "amd64",
        "os": "linux",
        "created": now,
        "config": config,
        "rootfs": { "type": "layers", "diff_ids": [layer] },
        "history": [{ "created": now, "comment": message.unwrap_or("Imported from -") }],
    })
}
