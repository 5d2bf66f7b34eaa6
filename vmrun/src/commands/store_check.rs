//! `vmrun system check`

use anyhow::Result;
use image_store::{Damage, Outcome};

use super::{Host, print};
use crate::cli::CheckArgs;

pub fn check(args: &CheckArgs) -> Result<u8> {
    let host = Host::open()?;
    host.containers.sweep()?;
    let checked = host.images.check(args.repair, &|| host.in_use())?;
    for damage in &checked.damages {
        print(&format!("{}\n", line(damage)))?;
    }
    let left = checked.damages.iter().filter(|damage| damage.outcome != Outcome::Remade).count();
    let (images, layers) = (checked.images, checked.layers);
    if left > 0 {
        print(&format!(
            "{left} of the files of {images} images and {layers} layers are damaged\n"
        ))?;
        return Ok(1);
    }
    print(&format!("{images} images and {layers} layers are sound\n"))?;
    Ok(0)
}

fn line(damage: &Damage) -> String {
    let of = match damage.images.as_slice() {
        [] => String::new(),
        images => format!(" (of {})", images.join(", ")),
    };
    let outcome = match damage.outcome {
        Outcome::Found => "'vmrun system check --repair' mends or removes it",
        Outcome::Remade => "made anew",
        Outcome::Removed => "removed; load or pull the image again",
        Outcome::Lost => "load or pull the image again",
    };
    format!("{}{of}: {}; {outcome}", damage.path.display(), damage.problem)
}
