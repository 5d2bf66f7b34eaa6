//! `vmrun system df`: bytes on disk, as the file system has allocated them. What images share counts
//! once; an image is what it was loaded from and what its root disk is made of.

use std::collections::HashSet;

use anyhow::Result;
use image_store::{ImageId, ImageUsage, Reference, Usage};
use serde_json::{Value, json};

use super::{
    Host,
    images::NONE,
    listing::{Listing, since},
    print, ps,
};
use crate::{
    cli::DfArgs,
    container::{Container, Status},
    size::ByteSize,
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
        return print(&(image_list(&images, &containers)? + "\n" + &container_list(&containers)?));
    }
    let columns = vec![
        ("TYPE", "Type"),
        ("TOTAL", "TotalCount"),
        ("ACTIVE", "Active"),
        ("SIZE", "Size"),
        ("RECLAIMABLE", "Reclaimable"),
    ];
    let rows = vec![image_row(&images, &used), container_row(&containers)];
    print(&listing(columns, rows).show(args.format.as_deref())?)
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
        "Reclaimable": format!("{}{share}", ByteSize(reclaimable)),
        "Size": ByteSize(size).to_string(),
        "TotalCount": total.to_string(),
        "Type": kind,
    })
}

fn image_list(usage: &Usage, containers: &[ContainerUsage]) -> Result<String> {
    let columns = vec![
        ("REPOSITORY", "Repository"),
        ("TAG", "Tag"),
        ("IMAGE ID", "ID"),
        ("CREATED", "Created"),
        ("SIZE", "Size"),
        ("SHARED SIZE", "Shared"),
        ("UNIQUE SIZE", "Unique"),
        ("CONTAINERS", "Containers"),
    ];
    let rows = usage.images.iter().map(|usage| image_line(usage, containers)).collect();
    let list = listing(columns, rows).show(None)?;
    Ok(format!("Images space usage:\n\n{list}"))
}

fn image_line(usage: &ImageUsage, containers: &[ContainerUsage]) -> Value {
    let image = &usage.image;
    let name = image.names.iter().chain(&image.digests).next();
    let of_it = containers.iter().filter(|usage| usage.container.record.image.id == image.id);
    json!({
        "Repository": name.map_or_else(|| NONE.to_owned(), Reference::familiar_repository),
        "Tag": name.and_then(Reference::tag).unwrap_or(NONE),
        "ID": image.id.short(),
        "Created": since(image.created),
        "Size": ByteSize(usage.shared.saturating_add(usage.unique)).to_string(),
        "Shared": ByteSize(usage.shared).to_string(),
        "Unique": ByteSize(usage.unique).to_string(),
        "Containers": of_it.count().to_string(),
    })
}

fn container_list(containers: &[ContainerUsage]) -> Result<String> {
    let columns = vec![
        ("CONTAINER ID", "ID"),
        ("IMAGE", "Image"),
        ("COMMAND", "Command"),
        ("LOCAL VOLUMES", "Volumes"),
        ("SIZE", "Size"),
        ("CREATED", "Created"),
        ("STATUS", "Status"),
        ("NAMES", "Names"),
    ];
    let row = |usage: &ContainerUsage| {
        let record = &usage.container.record;
        json!({
            "ID": record.id.short(),
            "Image": record.image.reference,
            "Command": ps::command(&record.command.args, false),
            "Volumes": "0",
            "Size": ByteSize(usage.size).to_string(),
            "Created": since(Some(record.created)),
            "Status": usage.status.to_string(),
            "Names": record.name,
        })
    };
    let rows = containers.iter().map(row).collect();
    let list = listing(columns, rows).show(None)?;
    Ok(format!("Containers space usage:\n\n{list}"))
}
