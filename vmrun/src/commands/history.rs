//! `vmrun history`

use anyhow::Result;
use image_store::ImageDetails;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Host,
    listing::{Listing, shorten, since, told},
    print, with_tag,
};
use crate::{cli::HistoryArgs, monitor::printable, size::ByteSize};

/// Longest command shown, as in Docker.
const COMMAND_SHOWN: usize = 45;
/// Stands for the image that a step made, which is not kept.
const MISSING: &str = "<missing>";

/// A step, as the config has it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Step {
    created: Option<Timestamp>,
    created_by: Option<String>,
    comment: Option<String>,
    empty_layer: Option<bool>,
}

pub fn history(args: &HistoryArgs) -> Result<()> {
    let details = Host::open()?.images.details(&args.image).map_err(with_tag)?;
    let mut rows = rows(&details, args);
    if args.quiet {
        let id = |row: Value| row["ID"].as_str().map(|id| format!("{id}\n"));
        return print(&rows.drain(..).filter_map(id).collect::<String>());
    }
    let created = if args.human { "CreatedSince" } else { "CreatedAt" };
    let columns = vec![
        ("IMAGE", "ID"),
        (if args.human { "CREATED" } else { "CREATED AT" }, created),
        ("CREATED BY", "CreatedBy"),
        ("SIZE", "Size"),
        ("COMMENT", "Comment"),
    ];
    let hidden = &[("CREATED AT", "CreatedAt"), ("CREATED", "CreatedSince")];
    let (of, labels) = ("*formatter.historyContext", Vec::new());
    print(&Listing { columns, hidden, rows, of, labels }.show(args.format.as_deref())?)
}

/// The newest step first, which is what the image's id stands for.
fn rows(details: &ImageDetails, args: &HistoryArgs) -> Vec<Value> {
    let id = details.summary.id;
    let id = if args.no_trunc { id.to_string() } else { id.short() };
    let mut rows: Vec<Value> = steps(details).iter().map(|step| row(step, args)).collect();
    rows.reverse();
    for (number, row) in rows.iter_mut().enumerate() {
        row["ID"] = if number == 0 { id.as_str() } else { MISSING }.into();
    }
    rows
}

fn row((step, size): &(Step, u64), args: &HistoryArgs) -> Value {
    let text = |text: &Option<String>| printable(text.as_deref().unwrap_or_default());
    let by = text(&step.created_by).replace('\t', " ");
    json!({
        "Comment": text(&step.comment),
        "CreatedAt": told(step.created).map_or_else(|| "N/A".to_owned(), |at| at.to_string()),
        "CreatedBy": if args.no_trunc { by } else { shorten(&by, COMMAND_SHOWN) },
        "CreatedSince": since(step.created),
        "ID": "",
        "Size": if args.human { ByteSize(*size).to_string() } else { size.to_string() },
    })
}

/// Each step with the bytes of its layer, oldest first. A layer that no step speaks of is one of
/// its own; a step that is not readable has nothing to say.
fn steps(details: &ImageDetails) -> Vec<(Step, u64)> {
    let mut sizes = details.layers.iter().map(|layer| layer.size);
    let told = details.config["history"].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut steps = Vec::new();
    for step in told {
        let step = Step::deserialize(step).unwrap_or_default();
        let has_layer = step.empty_layer != Some(true);
        let size = if has_layer { sizes.next() } else { None };
        steps.push((step, size.unwrap_or(0)));
    }
    steps.extend(sizes.map(|size| (Step::default(), size)));
    steps
}
