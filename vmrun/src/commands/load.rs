//! `vmrun load`

use std::{
    fmt::Display,
    io::{self, IsTerminal},
    path::Path,
};

use anyhow::Result;
use image_store::{ArchiveError, ImageError, LoadError, Progress, Source};

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
        Some(path) => {
            let loaded = host.images.load(Source::Path(path), &*progress);
            loaded.map_err(|error| named(error, "load", &path.display()))?
        }
        None if io::stdin().is_terminal() => {
            let message = "requested load from stdin, but stdin is empty; name a file with -i";
            return Err(failure(1, message));
        }
        None => {
            let loaded = host.images.load(Source::Stream(&mut io::stdin().lock()), &*progress);
            loaded.map_err(|error| named(error, "load", &"standard input"))?
        }
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

/// Names what cannot be loaded or imported, unless the reason does, or has nothing to do with it.
pub fn named(error: LoadError, action: &str, what: &dyn Display) -> anyhow::Error {
    use ArchiveError::{Read, Store};
    match error {
        LoadError::Store(_) | LoadError::Image(ImageError::Archive(Read { .. } | Store(_))) => {
            error.into()
        }
        error => anyhow::Error::from(error).context(format!("cannot {action} {what}")),
    }
}
