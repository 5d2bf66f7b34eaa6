//! `vmrun cp`: between a container and here, running or not, by Docker's rules.
//!
//! Both ways are a tar archive between two trees. Here each tree's rules are looked at ([`local`],
//! [`files`]), and decided what the archive's entries are called ([`plan`]); packing and unpacking
//! is `tar_stream`'s. What comes from a container is a hostile guest's: only names that were asked
//! for are taken, and they are unpacked with a user's rights, below the destination.
//!
//! Owners are those of the destination, as Docker documents it: root in a container, the user here;
//! with `-a` those of the source, as far as the user may set them. An archive on stdin keeps its
//! own.

mod files;
mod local;
mod paths;
mod plan;
mod report;
#[cfg(test)]
mod tests;

use std::{
    io::{self, BufReader, BufWriter, IsTerminal, Read, Write},
    os::fd::AsFd,
    thread,
};

use agent_protocol::{PathAnswer, PathStat};
use anyhow::{Context, Result, bail};
use tar_stream::{
    TarError,
    tree::{self, Destination, Entries, PackError, Rights, UnpackError, pack, show, unpack},
};

use super::Host;
use crate::{cli::CpArgs, client::Session, container::ContainerError};
use files::{ContainerFiles, SessionFiles};
use paths::{Side, TypedPath};
use plan::{Found, Plan, Source, Target};
use report::Report;

/// Bytes of an archive that are read or written at once.
const CHUNK: usize = 128 << 10;
/// Bytes that a guest may send after the end of an archive.
const MAX_TAIL: u64 = 1 << 20;

/// What the copy is about, whichever way it goes.
struct Copy<'a, F> {
    /// The container as the user named it.
    container: &'a str,
    files: F,
    follow_link: bool,
    keep_owners: bool,
    quiet: bool,
}

pub fn cp(args: &CpArgs) -> Result<()> {
    let host = Host::open()?;
    copy(args, &mut io::stdin().lock(), &mut io::stdout().lock(), |name| {
        let container = host.containers.find(name)?;
        let session = Session::with_files(&host.paths, &host.containers, &container)?;
        Ok(SessionFiles { session, read_only: container.record.guest.read_only })
    })
}

/// Copies; `open` finds the container by its name.
fn copy<F: ContainerFiles>(
    args: &CpArgs,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    open: impl FnOnce(&str) -> Result<F>,
) -> Result<()> {
    if args.source.is_empty() {
        bail!("source can not be empty");
    }
    if args.destination.is_empty() {
        bail!("destination can not be empty");
    }
    let open = |container, path| {
        let files = open(container).map_err(|error| match error.downcast_ref() {
            Some(ContainerError::NotFound(_)) => no_such_path(container, path),
            _ => error,
        })?;
        Ok::<_, anyhow::Error>(Copy {
            container,
            files,
            follow_link: args.follow_link,
            keep_owners: args.archive,
            quiet: args.quiet || !io::stdout().is_terminal(),
        })
    };
    match (Side::parse(&args.source), Side::parse(&args.destination)) {
        (Side::Container { .. }, Side::Container { .. }) => {
            bail!("copying between containers is not supported")
        }
        (Side::Local(_), Side::Local(_)) => bail!("must specify at least one container source"),
        (Side::Container { name, path }, Side::Local(b"-")) => {
            open(name, path)?.to_stream(path, stdout)
        }
        (Side::Container { name, path }, Side::Local(here)) => {
            let here = from_here(here)?;
            local::check_output(&here)?;
            open(name, path)?.to_here(path, &here)
        }
        (Side::Local(b"-"), Side::Container { name, path }) => {
            open(name, path)?.take_stream(stdin, path)
        }
        (Side::Local(here), Side::Container { name, path }) => {
            let here = from_here(here)?;
            open(name, path)?.take_from_here(&here, path)
        }
    }
}

fn from_here(path: &[u8]) -> Result<TypedPath> {
    let folder = std::env::current_dir().context("cannot find the working directory")?;
    Ok(TypedPath::from_folder(&folder, path))
}

impl<F: ContainerFiles> Copy<'_, F> {
    /// From the container to stdout.
    fn to_stream(&self, path: &[u8], stdout: &mut dyn Write) -> Result<()> {
        let (path, _, _) = self.source(path)?;
        let mut archive = self.files.archive(&path)?;
        io::copy(&mut archive, stdout)?;
        Ok(stdout.flush()?)
    }

    /// From the container to a local path.
    fn to_here(&self, path: &[u8], here: &TypedPath) -> Result<()> {
        let report = Report::new("Copying from container - ", self.quiet);
        let (path, called, stat) = self.source(path)?;
        let source =
            Source { path: TypedPath::from_root(&path), called, is_directory: stat.is_directory() };
        let plan = Plan::make(&source, &local::target(here)?)?;
        let folder = local::open_directory(&plan.folder)?;
        let destination = Destination {
            root: folder.as_fd(),
            folder: b".",
            shown: &plan.folder,
            rights: Rights::User { owners: self.keep_owners },
        };
        let archive = report.watch(self.files.archive(&path)?);
        let mut archive = BufReader::with_capacity(CHUNK, archive);
        unpack(&destination, &entries(&source, plan.name), &mut archive).map_err(guests_words)?;
        // Whether all went well in the guest comes last.
        io::copy(&mut archive.by_ref().take(MAX_TAIL), &mut io::sink())?;
        drop(archive);
        report.finish(&show(&here.to_bytes()));
        Ok(())
    }

    /// What is to be copied from the container: its path, its name if that is another, and what it
    /// is.
    fn source(&self, path: &[u8]) -> Result<(Vec<u8>, Option<Vec<u8>>, PathStat)> {
        if path.is_empty() {
            // Docker's words, as they stand.
            bail!("bad parameter: pathcannot be empty");
        }
        let stat = self.found(path)?;
        if !self.follow_link || !stat.is_symlink() {
            return Ok((path.to_vec(), None, stat));
        }
        let (link, target) = (TypedPath::from_root(path), TypedPath::from_root(&stat.link_target));
        let called = (link.base() != target.base()).then(|| link.base());
        let stat = self.found(&stat.link_target)?;
        Ok((target.to_bytes(), called, stat))
    }

    fn found(&self, path: &[u8]) -> Result<PathStat> {
        match self.files.stat(path)? {
            PathAnswer::Found(stat) => Ok(stat),
            PathAnswer::Missing => Err(self.no_such_path(path)),
            PathAnswer::Failed(why) => bail!("{}", show(why.as_bytes())),
        }
    }

    /// From stdin to the container.
    fn take_stream(&self, stdin: &mut dyn Read, path: &[u8]) -> Result<()> {
        let report = Report::new("Copying to container - ", self.quiet);
        let target = self.target(path)?;
        if target.found != Found::Directory {
            bail!("destination \"{}\" must be a directory", self.place(path));
        }
        // Docker takes compressed ones as well.
        let mut archive = image_store::decompress(BufReader::with_capacity(CHUNK, stdin))
            .context("cannot read the archive")?;
        self.extract(&target.path.to_bytes(), &mut archive)?;
        report.finish(&self.place(&self.shown(path, &target)));
        Ok(())
    }

    /// From a local path to the container.
    fn take_from_here(&self, here: &TypedPath, path: &[u8]) -> Result<()> {
        let report = Report::new("Copying to container - ", self.quiet);
        let target = self.target(path)?;
        let source = local::source(here, self.follow_link)?;
        let plan = Plan::make(&source, &target)?;
        let folder = local::open_directory(&source.path.folder())?;
        let entry = Some(source.path.base()).filter(|base| base != b"/");
        let source = tree::Source {
            folder: folder.as_fd(),
            entry: entry.as_deref().unwrap_or(b"."),
            name: &plan.name,
            shown: &source.path.cleaned(),
            owner: (!self.keep_owners).then_some((0, 0)),
            without_tmpfs: false,
        };
        let (reader, writer) = io::pipe().context("cannot make a pipe")?;
        let (packed, extracted) = thread::scope(|scope| {
            let packing = scope.spawn(|| pack(&source, BufWriter::with_capacity(CHUNK, writer)));
            // The pipe is closed before the packing is waited for: it may still be writing.
            let extracted = self.extract(&plan.folder, &mut report.watch(reader));
            (packing.join(), extracted)
        });
        match packed {
            // What the other side had to say is why it did not take everything.
            Ok(Err(PackError::Write(_)) | Ok(())) => extracted?,
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => bail!("packing failed"),
        }
        report.finish(&self.place(&self.shown(path, &target)));
        Ok(())
    }

    /// Looks at the destination in the container, following a link there.
    fn target(&self, path: &[u8]) -> Result<Target> {
        let mut at = TypedPath::from_root(path);
        let mut answer = match path {
            b"" => PathAnswer::Missing,
            path => self.files.stat(path)?,
        };
        if let PathAnswer::Found(stat) = &answer
            && stat.is_symlink()
        {
            at = TypedPath::from_root(&stat.link_target);
            answer = self.files.stat(&at.to_bytes())?;
        }
        let found = match answer {
            PathAnswer::Found(stat) if stat.is_device() => bail!(
                "destination \"{}\" must be a directory or a regular file: got a device",
                self.place(path)
            ),
            PathAnswer::Found(stat) if stat.is_directory() => Found::Directory,
            PathAnswer::Found(_) => Found::Other,
            // As in Docker: if there is more to it, unpacking will say so.
            PathAnswer::Missing | PathAnswer::Failed(_) => Found::Nothing,
        };
        Ok(Target { path: at, found })
    }

    fn extract(&self, folder: &[u8], archive: &mut dyn Read) -> Result<()> {
        self.files.extract(folder, archive).map_err(|error| match self.files.stat(folder) {
            Ok(PathAnswer::Missing) => self.no_such_path(folder),
            _ => error,
        })
    }

    /// The destination as it is told afterwards: as it was typed, unless a link was followed.
    fn shown(&self, path: &[u8], target: &Target) -> Vec<u8> {
        if TypedPath::from_root(path) == target.path {
            path.to_vec()
        } else {
            target.path.to_bytes()
        }
    }

    fn place(&self, path: &[u8]) -> String {
        format!("{}:{}", self.container, show(path))
    }

    fn no_such_path(&self, path: &[u8]) -> anyhow::Error {
        no_such_path(self.container, path)
    }
}

fn no_such_path(container: &str, path: &[u8]) -> anyhow::Error {
    anyhow::anyhow!("No such container:path: {container}:{}", show(path))
}

/// What the archive of a source may contain, and what that becomes.
fn entries(source: &Source, name: Vec<u8>) -> Entries {
    let base = source.path.base();
    let is_whole = |name: &[u8]| matches!(name, b"." | b"/");
    match source.is_directory {
        true if is_whole(&base) => {
            Entries::Contents { into: Some(name).filter(|name| !is_whole(name)) }
        }
        true => Entries::Directory { name: base, rename: name },
        false => Entries::Single { name: base, rename: name },
    }
}

/// Why reading an archive from the guest ended, without our own words around it.
fn guests_words(error: UnpackError) -> anyhow::Error {
    match error {
        UnpackError::Tar(TarError::Read(error)) => error.into(),
        error => error.into(),
    }
}
