//! `vmrun export`: all files of a container, running or not, as one archive.

use std::io::{self, BufWriter, IsTerminal, Write};

use agent_protocol::Task;
use anyhow::Result;

use super::{Host, save};
use crate::{
    cli::ExportArgs,
    client::Session,
    error::failure,
    events::{self, Event},
};

pub fn export(args: &ExportArgs) -> Result<()> {
    if args.output.is_none() && io::stdout().is_terminal() {
        let message = "cowardly refusing to save to a terminal. Use the -o flag or redirect";
        return Err(failure(1, message));
    }
    let host = Host::open()?;
    let container = host.containers.find(&args.container)?;
    let write = |out: &mut dyn Write| {
        let session = Session::with_files(&host.paths, &host.containers, &container)?;
        let mut archive = session.read(Task::Archive { path: b"/.".to_vec() })?;
        io::copy(&mut archive, out)?;
        Ok(out.flush()?)
    };
    match &args.output {
        Some(path) => save::save_to(path, |file| write(&mut BufWriter::new(file))),
        None => write(&mut io::stdout().lock()),
    }?;
    events::record(&host.paths, Event::of_container(&container.record, "export"));
    Ok(())
}
