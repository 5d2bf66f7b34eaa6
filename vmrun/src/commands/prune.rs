//! `vmrun image prune`, `vmrun container prune` and `vmrun system prune`

use std::{
    cell::RefCell,
    io::{self, BufRead},
};

use anyhow::Result;
use image_store::{ImageSummary, Removal};

use super::{
    Host,
    filters::{Filters, ImageFilter},
    print,
    ps::has_label,
    rmi,
};
use crate::{
    cli::{ImagePruneArgs, PruneArgs},
    container::ContainerError,
    events::{self, Event},
    size::on_disk,
};

const IMAGE_FILTERS: &[&str] = &["until", "label", "label!"];
const CONTAINER_FILTERS: &[&str] = &["until", "label", "label!"];

pub fn images(args: &ImagePruneArgs) -> Result<()> {
    let host = Host::open()?;
    let warning = if args.all {
        "This will remove all images without at least one container associated to them."
    } else {
        "This will remove all dangling images."
    };
    let filter = image_filter(&host, args)?;
    let freed = match confirmed(&args.prune, warning)? {
        true => remove_images(&host, args.all, &filter)?,
        false => 0,
    };
    total(freed)
}

pub fn containers(args: &PruneArgs) -> Result<()> {
    let host = Host::open()?;
    let filters = Filters::parse(&args.filter, CONTAINER_FILTERS)?;
    let freed = match confirmed(args, "This will remove all stopped containers.")? {
        true => remove_containers(&host, &filters)?,
        false => 0,
    };
    total(freed)
}

pub fn system(args: &ImagePruneArgs) -> Result<()> {
    let host = Host::open()?;
    let images = if args.all {
        "all images without at least one container associated to them"
    } else {
        "all dangling images"
    };
    let warning = format!("This will remove:\n  - all stopped containers\n  - {images}\n");
    let filter = image_filter(&host, args)?;
    let of_containers = Filters::parse(&args.prune.filter, CONTAINER_FILTERS)?;
    let freed = match confirmed(&args.prune, &warning)? {
        true => {
            let freed = remove_containers(&host, &of_containers)?;
            freed.saturating_add(remove_images(&host, args.all, &filter)?)
        }
        false => 0,
    };
    total(freed)
}

fn image_filter<'a>(host: &'a Host, args: &ImagePruneArgs) -> Result<ImageFilter<'a>> {
    ImageFilter::parse(&host.images, &args.prune.filter, IMAGE_FILTERS, None)
}

/// Asks, unless told not to.
fn confirmed(args: &PruneArgs, warning: &str) -> Result<bool> {
    if args.force {
        return Ok(true);
    }
    print(&format!("WARNING! {warning}\nAre you sure you want to continue? [y/N] "))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

fn total(freed: u64) -> Result<()> {
    print(&format!("Total reclaimed space: {}\n", on_disk(freed)))
}

fn remove_images(host: &Host, all: bool, filter: &ImageFilter<'_>) -> Result<u64> {
    // Named apart, since the store asks with its locks held and wants no errors.
    let failed = RefCell::new(None);
    let unwanted = |image: &ImageSummary| {
        let is_dangling = image.names.is_empty() && image.digests.is_empty();
        (all || is_dangling)
            && filter.fits(image).unwrap_or_else(|error| {
                failed.borrow_mut().get_or_insert(error);
                false
            })
    };
    host.containers.sweep()?;
    let images: Vec<_> = host.images.images()?.into_iter().map(|image| image.id).collect();
    let pruned = host.images.prune(&unwanted, &|| host.in_use())?;
    rmi::tell(host, &pruned.removals, &images);
    if !pruned.removals.is_empty() {
        let lines = pruned.removals.iter().map(|removal| match removal {
            Removal::Untagged(name) => format!("untagged: {name}\n"),
            Removal::Deleted(digest) => format!("deleted: {digest}\n"),
        });
        print(&format!("Deleted Images:\n{}\n", lines.collect::<String>()))?;
    }
    match failed.into_inner() {
        Some(error) => Err(error),
        None => Ok(pruned.freed),
    }
}

fn remove_containers(host: &Host, filters: &Filters) -> Result<u64> {
    host.containers.sweep()?;
    let until = filters.time("until")?;
    let mut freed = 0_u64;
    let mut deleted = String::new();
    for (container, status) in host.containers.list_with_status()? {
        let is_old = until.is_none_or(|until| container.record.created < until);
        let has = |label: &str| has_label(&container.record, label);
        let is_wanted = is_old && filters.of("label").all(has) && !filters.of("label!").any(has);
        if !is_wanted || status.is_running() {
            continue;
        }
        let size = container.disk_usage()?;
        match host.containers.remove(&container) {
            // Started or removed since, or in use.
            Err(
                ContainerError::Running(_) | ContainerError::InUse(_) | ContainerError::NotFound(_),
            ) => continue,
            other => other?,
        }
        events::record(&host.paths, Event::of_container(&container.record, "destroy"));
        freed = freed.saturating_add(size);
        deleted += &format!("{}\n", container.record.id);
    }
    if !deleted.is_empty() {
        print(&format!("Deleted Containers:\n{deleted}\n"))?;
    }
    Ok(freed)
}
