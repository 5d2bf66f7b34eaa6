//! `vmrun images` and `vmrun tag`

use anyhow::{Context, Result};
use image_store::{ImageSummary, Reference, TagError};
use serde_json::{Value, json};

use super::{
    Host,
    filters::ImageFilter,
    listing::{Listing, go_time, since, told},
    print, with_tag,
};
use crate::{
    cli::{ImagesArgs, TagArgs},
    events::Event,
    size::{ByteSize, on_disk},
};

const FILTERS: &[&str] = &["dangling", "reference", "label", "before", "since", "until"];

/// What stands for a name that is not there.
pub const NONE: &str = "<none>";

pub fn tag(args: &TagArgs) -> Result<()> {
    let target: Reference = args.target.parse().with_context(|| {
        format!("Error parsing reference: {:?} is not a valid repository/tag", args.target)
    })?;
    let host = Host::open()?;
    host.images.tag(&args.source, &target).map_err(|error| match error {
        TagError::Find(error) => with_tag(error),
        error => error.into(),
    })?;
    if let Ok(image) = host.images.find(&target.to_string()) {
        host.tell(Event::of_image(&image.id.to_string(), &target.or_latest().familiar(), "tag"));
    }
    Ok(())
}

pub fn images(args: &ImagesArgs) -> Result<()> {
    let host = Host::open()?;
    let wanted = args.reference.as_deref();
    let filter = ImageFilter::parse(&host.images, &args.filter, FILTERS, wanted)?;
    let mut rows = Vec::new();
    for image in host.images.images()? {
        if filter.fits(&image)? {
            rows.extend(rows_of(&image, &filter).map(|name| fields(&image, &name, args.no_trunc)));
        }
    }
    if args.quiet && args.output.format().is_none() {
        let id = |row: &Value| row["ID"].as_str().map(|id| format!("{id}\n"));
        return print(&rows.iter().filter_map(id).collect::<String>());
    }
    let mut columns = vec![("REPOSITORY", "Repository"), ("TAG", "Tag")];
    if args.digests {
        columns.push(("DIGEST", "Digest"));
    }
    columns.extend([("IMAGE ID", "ID"), ("CREATED", "CreatedSince"), ("SIZE", "Size")]);
    let hidden = &[
        ("DIGEST", "Digest"),
        ("CREATED AT", "CreatedAt"),
        ("CONTAINERS", "Containers"),
        ("SHARED SIZE", "SharedSize"),
        ("UNIQUE SIZE", "UniqueSize"),
        ("SIZE", "VirtualSize"),
    ];
    let (of, labels) = ("*formatter.imageContext", Vec::new());
    let listing = Listing { columns, hidden, rows, of, labels };
    print(&match args.output.format() {
        Some("raw") => listing.show(Some(&raw(args)))?,
        format => listing.show(format)?,
    })
}

/// Docker's `--format raw`: a field a line, and a blank line.
fn raw(args: &ImagesArgs) -> String {
    if args.quiet {
        return "image_id: {{.ID}}".into();
    }
    let digest = if args.digests { "digest: {{.Digest}}\n" } else { "" };
    format!(
        "repository: {{{{.Repository}}}}\ntag: {{{{.Tag}}}}\n{digest}image_id: {{{{.ID}}}}\n\
         created_at: {{{{.CreatedAt}}}}\nvirtual_size: {{{{.Size}}}}\n"
    )
}

/// Repository, tag and digest of each line of an image.
fn rows_of(
    image: &ImageSummary,
    filter: &ImageFilter<'_>,
) -> impl Iterator<Item = [String; 3]> + use<> {
    let in_repository = |name: &Reference| {
        let of_it = image.digests.iter().find(|known| known.repository() == name.repository());
        of_it.and_then(Reference::digest).unwrap_or(&image.digest).to_string()
    };
    let mut rows: Vec<[String; 3]> = Vec::new();
    for name in image.names.iter().filter(|name| filter.fits_name(name)) {
        let tag = name.tag().unwrap_or(NONE).to_owned();
        rows.push([name.familiar_repository(), tag, in_repository(name)]);
    }
    for name in image.digests.iter().filter(|name| filter.fits_name(name)) {
        if image.names.iter().all(|known| known.repository() != name.repository()) {
            rows.push([name.familiar_repository(), NONE.to_owned(), in_repository(name)]);
        }
    }
    if image.names.is_empty() && image.digests.is_empty() && !filter.wants_names() {
        rows.push([NONE.to_owned(), NONE.to_owned(), image.digest.to_string()]);
    }
    rows.into_iter()
}

/// An image as lists show it, by Docker's names.
pub fn fields(
    image: &ImageSummary,
    [repository, tag, digest]: &[String; 3],
    no_trunc: bool,
) -> Value {
    let id = if no_trunc { image.id.to_string() } else { image.id.short() };
    json!({
        "Containers": "N/A",
        "CreatedAt": told(image.created).map_or_else(|| "N/A".to_owned(), go_time),
        "CreatedSince": since(image.created),
        "Digest": digest,
        "ID": id,
        "Repository": repository,
        "SharedSize": "N/A",
        "Size": ByteSize(image.size).to_string(),
        "Tag": tag,
        "UniqueSize": "N/A",
        "VirtualSize": on_disk(image.size),
    })
}
