//! `vmrun rmi`

use anyhow::Result;
use image_store::{ImageId, Removal, RemoveError};

use super::{Host, each};
use crate::{cli::RmiArgs, events::Event};

pub fn rmi(args: &RmiArgs) -> Result<u8> {
    let host = Host::open()?;
    host.containers.sweep()?;
    each(&args.images, |name| {
        let image = host.images.find(name).ok().map(|image| image.id);
        let removals = host.images.remove(name, args.force, &|| host.in_use());
        let removals = removals.map_err(|error| match error {
            // Docker calls it what the user did.
            RemoveError::NameInUse { container, image, .. } => {
                RemoveError::NameInUse { reference: name.to_owned(), container, image }
            }
            error => error,
        })?;
        tell(&host, &removals, image.as_slice());
        let lines: Vec<_> = removals
            .into_iter()
            .map(|removal| match removal {
                Removal::Untagged(name) => format!("Untagged: {name}"),
                Removal::Deleted(digest) => format!("Deleted: {digest}"),
            })
            .collect();
        Ok(lines.join("\n"))
    })
}

/// Records what was removed of these images: names first, then the image that had them, unless it
/// has others.
pub fn tell(host: &Host, removals: &[Removal], images: &[ImageId]) {
    let record = |image: &ImageId, action| {
        let id = image.to_string();
        host.tell(Event::of_image(&id, &id, action));
    };
    let mut untagged = 0;
    for removal in removals {
        match removal {
            Removal::Untagged(_) => untagged += 1,
            Removal::Deleted(digest) => {
                // Else it is a layer.
                if let Some(image) = images.iter().find(|image| image.0 == *digest) {
                    (0..untagged).for_each(|_| record(image, "untag"));
                    record(image, "delete");
                    untagged = 0;
                }
            }
        }
    }
    if let [image] = images {
        (0..untagged).for_each(|_| record(image, "untag"));
    }
}
