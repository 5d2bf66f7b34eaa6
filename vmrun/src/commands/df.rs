//! `vmrun system df`: bytes on disk, as the file system has allocated them. What images share counts
//! once; an image is what it was loaded from and what its root disk is made of.

use std::collections::HashSet;

use anyhow::Result;
use image_store::{ImageId, ImageUsage, Reference, Usage};
use serde_json::{Value, json};

use super::{
    Host,
    images::{self, NONE},
    listing::Listing,
    print, ps,
};
use crate::{
    cli::DfArgs,
    container::{Container, Status},
    size::{ByteSize, on_disk},
};

/// A container and what it takes.
struct ContainerUsage {
    container: Container,
    status: Status,
    size: u64,
}

pub fn df(args: &DfArgs) -> Result<()> {
    let host = Host::open()?;
    host.containers.sweep()?;
    let mut containers = Vec::new();
    for (container, status) in host.containers.list_with_status()? {
        let size = container.disk_usage()?;
        containers.push(ContainerUsage { container, status, size });
    }
    let used: HashSet<ImageId> =
        containers.iter().map(|usage| usage.container.record.image.id).collect();
    let images = host.images.usage(&|id| used.contains(id))?;
    if args.verbose {
        return print(&verbose(&images, &containers, args.format.as_deref())?);
    }
    let columns = vec![
        ("TYPE", "Type"),
        ("TOTAL", "TotalCount"),
        ("ACTIVE", "Active"),
        ("SIZE", "Size"),
        ("RECLAIMABLE", "Reclaimable"),
    ];
    let nothing = |kind| summary(kind, 0, 0, 0, 0);
    let rows = vec![
        image_row(&images, &used),
        container_row(&containers),
        nothing("Local Volumes"),
        nothing("Build Cache"),
    ];
    print(&match args.format.as_deref() {
        Some("raw") => listing(columns, rows).show(Some(RAW))?,
        format => listing(columns, rows).show(format)?,
    })
}

/// Docker's `--format raw`: a field a line, and a blank line.
const RAW: &str = "type: {{.Type}}\ntotal: {{.TotalCount}}\nactive: {{.Active}}\nsize: {{.Size}}\n\
    reclaimable: {{.Reclaimable}}\n";
const RAW_IMAGES: &str = "type: Image\nrepository: {{.Repository}}\ntag: {{.Tag}}\n\
    digest: {{- pad .Digest 1 0}}\nimage_id: {{.ID}}\ncreated_at: {{.CreatedAt}}\n\
    virtual_size: {{.Size}}\n";
const RAW_CONTAINERS: &str = "type: Container\ncontainer_id: {{.ID}}\nimage: {{.Image}}\n\
    command: {{.Command}}\ncreated_at: {{.CreatedAt}}\nstate: {{- pad .State 1 0}}\n\
    status: {{- pad .Status 1 0}}\nnames: {{.Names}}\nlabels: {{- pad .Labels 1 0}}\n\
    ports: {{- pad .Ports 1 0}}\nsize: {{.Size}}\n";

/// Each image and container: two tables, or by a template over all of it.
fn verbose(images: &Usage, containers: &[ContainerUsage], format: Option<&str>) -> Result<String> {
    // Ids are whole where there is no table, as in Docker.
    let whole = format.is_some_and(|format| format != "table");
    let images: Vec<_> =
        images.images.iter().map(|usage| image_line(usage, containers, whole)).collect();
    let containers: Vec<_> = containers.iter().map(|usage| container_line(usage, whole)).collect();
    match format {
        None | Some("table") => {
            let images = listing(IMAGES.to_vec(), images).show(None)?;
            let containers = listing(CONTAINERS.to_vec(), containers).show(None)?;
            Ok(format!("Images space usage:\n\n{images}\nContainers space usage:\n\n{containers}"))
        }
        Some("raw") => {
            let images = listing(Vec::new(), images).show(Some(RAW_IMAGES))?;
            Ok(images + &listing(Vec::new(), containers).show(Some(RAW_CONTAINERS))?)
        }
        Some(template) => {
            let all = json!({
                "Images": images,
                "Containers": containers,
                "Volumes": [],
                "BuildCache": [],
            });
            listing(Vec::new(), vec![all]).show(Some(template))
        }
    }
}

fn listing(columns: Vec<(&'static str, &'static str)>, rows: Vec<Value>) -> Listing {
    let (of, labels) = ("*formatter.diskUsageContext", Vec::new());
    Listing { columns, hidden: &[], rows, of, labels }
}

fn image_row(usage: &Usage, used: &HashSet<ImageId>) -> Value {
    let active = usage.images.iter().filter(|usage| used.contains(&usage.image.id)).count();
    // What nothing names is taken along by the next removal, or kept for a container.
    let total = usage.total.saturating_add(usage.unnamed);
    summary("Images", usage.images.len(), active, total, usage.total.saturating_sub(usage.used))
}

fn container_row(containers: &[ContainerUsage]) -> Value {
    let running = containers.iter().filter(|usage| usage.status.is_running());
    let bytes = |running: Option<bool>| {
        let counted = containers
            .iter()
            .filter(|usage| running.is_none_or(|running| usage.status.is_running() == running));
        counted.fold(0_u64, |sum, usage| sum.saturating_add(usage.size))
    };
    summary("Containers", containers.len(), running.count(), bytes(None), bytes(Some(false)))
}

fn summary(kind: &str, total: usize, active: usize, size: u64, reclaimable: u64) -> Value {
    let percent = u128::from(reclaimable).saturating_mul(100).checked_div(size.into());
    let share = percent.map_or_else(String::new, |percent| format!(" ({percent}%)"));
    json!({
        "Active": active.to_string(),
        "Reclaimable": format!("{}{share}", on_disk(reclaimable)),
        "Size": on_disk(size),
        "TotalCount": total.to_string(),
        "Type": kind,
    })
}

const IMAGES: &[(&str, &str)] = &[
    ("REPOSITORY", "Repository"),
    ("TAG", "Tag"),
    ("IMAGE ID", "ID"),
    ("CREATED", "CreatedSince"),
    ("SIZE", "Size"),
    ("SHARED SIZE", "SharedSize"),
    ("UNIQUE SIZE", "UniqueSize"),
    ("CONTAINERS", "Containers"),
];

fn image_line(usage: &ImageUsage, containers: &[ContainerUsage], whole: bool) -> Value {
    let image = &usage.image;
    let name = image.names.iter().chain(&image.digests).next();
    let of_it = containers.iter().filter(|usage| usage.container.record.image.id == image.id);
    let name = [
        name.map_or_else(|| NONE.to_owned(), Reference::familiar_repository),
        name.and_then(Reference::tag).unwrap_or(NONE).to_owned(),
        image.digest.to_string(),
    ];
    let mut line = images::fields(image, &name, whole);
    line["Size"] = ByteSize(usage.shared.saturating_add(usage.unique)).to_string().into();
    line["VirtualSize"] = on_disk(usage.shared.saturating_add(usage.unique)).into();
    line["SharedSize"] = on_disk(usage.shared).into();
    line["UniqueSize"] = on_disk(usage.unique).into();
    line["Containers"] = of_it.count().to_string().into();
    line
}

const CONTAINERS: &[(&str, &str)] = &[
    ("CONTAINER ID", "ID"),
    ("IMAGE", "Image"),
    ("COMMAND", "Command"),
    ("LOCAL VOLUMES", "LocalVolumes"),
    ("SIZE", "Size"),
    ("CREATED", "RunningFor"),
    ("STATUS", "Status"),
    ("NAMES", "Names"),
];

fn container_line(usage: &ContainerUsage, whole: bool) -> Value {
    let size = ByteSize(usage.size).to_string();
    ps::fields(&usage.container.record, &usage.status, whole, &size)
}
