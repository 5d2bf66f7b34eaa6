//! `vmrun rmi`

use anyhow::Result;
use image_store::Removal;

use super::{Host, each};
use crate::cli::RmiArgs;

pub fn rmi(args: &RmiArgs) -> Result<u8> {
    let host = Host::open()?;
    host.containers.sweep()?;
    each(&args.images, |name| {
        let removals = host.images.remove(name, args.force, &|| host.in_use())?;
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
