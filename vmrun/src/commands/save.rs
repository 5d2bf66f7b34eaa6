//! `vmrun save`

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal},
    path::Path,
};

use anyhow::{Context, Result};
use tempfile::NamedTempFile;

use super::Host;
use crate::{cli::SaveArgs, error::failure, events::Event};

pub fn save(args: &SaveArgs) -> Result<()> {
    let host = Host::open()?;
    let images = &host.images;
    match &args.output {
        Some(path) => {
            save_to(path, |file| Ok(images.save(&args.images, &mut BufWriter::new(file))?))
        }
        None if io::stdout().is_terminal() => {
            let message = "cowardly refusing to save to a terminal. Use the -o flag or redirect";
            Err(failure(1, message))
        }
        None => Ok(images.save(&args.images, &mut io::stdout().lock())?),
    }?;
    for image in args.images.iter().filter_map(|name| images.find(name).ok()) {
        let id = image.id.to_string();
        host.tell(Event::of_image(&id, &id, "save"));
    }
    Ok(())
}

/// The file is the whole archive or what it was before; something else than a file, such as
/// `/dev/null`, is written to.
pub fn save_to(path: &Path, save: impl FnOnce(&File) -> Result<()>) -> Result<()> {
    let shown = path.display();
    if path.is_dir() {
        return Err(failure(1, format!("invalid output path: {shown:?} is a directory")));
    }
    if path.exists() && !path.is_file() {
        let file = File::options().write(true).open(path);
        return save(&file.with_context(|| format!("cannot write {shown}"))?);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    if !folder.is_dir() {
        let folder = folder.display();
        let message = format!("invalid output path: directory {folder:?} does not exist");
        return Err(failure(1, message));
    }
    let file = NamedTempFile::with_prefix_in(".vmrun-save-", folder)
        .with_context(|| format!("cannot write in {}", folder.display()))?;
    save(file.as_file())?;
    file.persist(path).map(drop).with_context(|| format!("cannot write {shown}"))
}
