//! `vmrun load`

use std::{
    io::{self, IsTerminal},
    path::Path,
};

use anyhow::Result;
use image_store::{Progress, Source};

use super::{Host, print, progress::Bars};
use crate::{cli::LoadArgs, error::failure, events::Event};

pub fn load(args: &LoadArgs) -> Result<()> {
    let host = Host::open()?;
    let progress: Box<dyn Progress> = match io::stderr().is_terminal() && !args.quiet {
        true => Box::new(Bars::new("loaded")),
        false => Box::new(image_store::NoProgress),
    };
    let input = args.input.as_deref().filter(|path| *path != Path::new("-"));
    let loaded = match input {
        Some(path) => host.images.load(Source::Path(path), &*progress)?,
        None if io::stdin().is_terminal() => {
            let message = "requested load from stdin, but stdin is empty; name a file with -i";
            return Err(failure(1, message));
        }
        None => host.images.load(Source::Stream(&mut io::stdin().lock()), &*progress)?,
    };
    drop(progress);
    for image in loaded {
        let id = image.id.to_string();
        host.tell(Event::of_image(&id, &id, "load"));
        if image.names.is_empty() {
            print(&format!("Loaded image ID: {}\n", image.id))?;
        }
        for name in image.names {
            print(&format!("Loaded image: {}\n", name.familiar()))?;
        }
    }
    Ok(())
}
