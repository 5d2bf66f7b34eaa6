//! The commands of the CLI, one file each; what several of them need is here.

mod changes;
mod commit;
mod cp;
mod df;
mod diff;
mod doctor;
mod events;
mod exec;
mod export;
mod filters;
mod history;
mod images;
mod import;
mod info;
mod inspect;
mod kill;
mod listing;
mod load;
mod login;
mod logs;
mod port;
mod progress;
mod prune;
mod ps;
mod pull;
mod push;
mod rm;
mod rmi;
mod run;
mod save;
mod service;
mod start;
mod stats;
mod store_check;
mod table;
mod top;

pub use filters::Filters;

use std::io::{self, Write};

use anyhow::{Result, bail};
use clap::CommandFactory;
use image_store::{FindError, InUse, Platform, Reference, Store};
use registry::{Config, Credentials, Registries};
use rustix::io::Errno;

use crate::{
    cli::{Action, Cli, Refused, SystemAction},
    container::Containers,
    descriptors,
    events::{Event, record as record_event},
    monitor,
    paths::Paths,
    vm_process,
};

/// An option of Docker's for what vmrun does not have.
fn refuse(refused: Refused) -> Result<()> {
    match refused {
        Some((option, why)) => bail!("{option} cannot be: {why}"),
        None => Ok(()),
    }
}

/// Fails for what no guest here could run.
fn check_platform(platform: Option<&Platform>) -> Result<()> {
    let guest = Platform::host();
    match platform {
        Some(wanted) if !wanted.fits(&guest) => {
            bail!("an image for {wanted} cannot be run: a guest is {guest}")
        }
        _ => Ok(()),
    }
}

/// Does what the command line says; gives the exit status.
pub fn run(action: Action) -> Result<u8> {
    match action {
        Action::Run(args) => run::run(args.into_inner()),
        Action::Create(args) => run::create(args.into_inner()).map(|()| 0),
        Action::Start(args) => start::start(&args),
        Action::Attach(args) => start::attach(&args),
        Action::Cp(args) => cp::cp(&args).map(|()| 0),
        Action::Export(args) => export::export(&args).map(|()| 0),
        Action::Exec(args) => exec::exec(args.into_inner()),
        Action::Stop(args) => kill::stop(&args),
        Action::Restart(args) => kill::restart(&args),
        Action::Kill(args) => kill::kill(&args),
        Action::Pause(args) => kill::pause(&args),
        Action::Unpause(args) => kill::unpause(&args),
        Action::Wait(args) => kill::wait(&args),
        Action::Rename(args) => rm::rename(&args).map(|()| 0),
        Action::Update(args) => rm::update(&args),
        Action::Ps(args) => ps::ps(&args).map(|()| 0),
        Action::Rm(args) => rm::rm(&args),
        Action::Logs(args) => logs::logs(&args).map(|()| 0),
        Action::Stats(args) => stats::stats(&args).map(|()| 0),
        Action::Top(args) => top::top(&args).map(|()| 0),
        Action::Port(args) => port::port(&args).map(|()| 0),
        Action::Info(args) => info::info(&args).map(|()| 0),
        Action::Events(args) => events::events(&args).map(|()| 0),
        Action::Diff(args) => diff::diff(&args).map(|()| 0),
        Action::Commit(args) => commit::commit(&args).map(|()| 0),
        Action::Load(args) => load::load(&args).map(|()| 0),
        Action::Images(args) => images::images(&args).map(|()| 0),
        Action::Rmi(args) => rmi::rmi(&args),
        Action::Pull(args) => pull::pull(&args).map(|()| 0),
        Action::Push(args) => push::push(&args).map(|()| 0),
        Action::Login(args) => login::login(&args).map(|()| 0),
        Action::Logout(args) => login::logout(&args).map(|()| 0),
        Action::Tag(args) => images::tag(&args).map(|()| 0),
        Action::History(args) => history::history(&args).map(|()| 0),
        Action::Inspect(args) => inspect::inspect(&args),
        Action::Save(args) => save::save(&args).map(|()| 0),
        Action::Import(args) => import::import(&args).map(|()| 0),
        Action::ImagePrune(args) => prune::images(&args).map(|()| 0),
        Action::ContainerPrune(args) => prune::containers(&args).map(|()| 0),
        Action::System(action) => match action.into_inner() {
            SystemAction::Df(args) => df::df(&args).map(|()| 0),
            SystemAction::Prune(args) => prune::system(&args.images).map(|()| 0),
            SystemAction::Info(args) => info::info(&args).map(|()| 0),
            SystemAction::Events(args) => events::events(&args).map(|()| 0),
            SystemAction::Check(args) => store_check::check(&args),
            SystemAction::Service(action) => service::service(&action),
        },
        Action::Image(_) | Action::Container(_) => run(action.ungrouped()),
        Action::Doctor => doctor::doctor(),
        Action::Version(args) => info::version(&args).map(|()| 0),
        Action::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "vmrun", &mut script);
            print(&String::from_utf8_lossy(&script)).map(|()| 0)
        }
        Action::Monitor { id } => {
            descriptors::close_inherited()?;
            monitor::run(&id).map(|()| 0)
        }
        Action::Vmm => vm_process::run().map(|()| 0),
    }
}

/// Whether the store has an image of this name.
pub fn have_image(name: &str) -> bool {
    Host::open().is_ok_and(|host| host.images.find(name).is_ok())
}

/// What this user has on this host.
struct Host {
    paths: Paths,
    images: Store,
    containers: Containers,
}

impl Host {
    fn open() -> Result<Self> {
        let paths = Paths::from_env()?;
        let images = Store::open(paths.data())?;
        Ok(Self { containers: Containers::new(paths.clone()), images, paths })
    }

    /// What the store has to keep for containers, as its removals want it.
    fn in_use(&self) -> io::Result<Vec<InUse>> {
        let containers = self.containers.list().map_err(io::Error::other)?;
        let in_use = containers.into_iter().map(|container| InUse {
            // One whose state cannot be read needs its image too.
            running: self.containers.status(&container).is_ok_and(|status| status.is_running()),
            container: container.record.id.short().to_owned(),
            image: container.record.image.id,
            root: container.record.image.root,
        });
        Ok(in_use.collect())
    }

    /// Records what has happened.
    fn tell(&self, event: Event) {
        record_event(&self.paths, event);
    }

    /// The registries, by the user's settings and logins.
    fn registries(&self) -> Result<Registries> {
        let config = Config::read(&self.paths.registries()?)?;
        Ok(Registries::new(config, Credentials::from_env()))
    }
}

/// An image's name as the user wrote it.
fn reference(name: &str) -> Result<Reference> {
    Ok(name.parse()?)
}

/// An image that is not there by the name that was looked for, tag and all, as Docker's daemon says
/// it.
fn with_tag(error: FindError) -> anyhow::Error {
    match error {
        FindError::NotFound(name) => match name.parse::<Reference>() {
            Ok(name) => FindError::NotFound(name.or_latest().familiar()).into(),
            Err(_) => FindError::NotFound(name).into(),
        },
        error => error.into(),
    }
}

/// An error of the system in its own words, as Docker has them: in lower case, without the number.
fn in_words(error: &io::Error) -> String {
    tar_stream::tree::words(Errno::from_io_error(error).unwrap_or(Errno::IO))
}

/// Prints to stdout; a reader that has gone away is not an error.
fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Does something to each of several things, printing a line for each success and for each failure;
/// the exit status is 1 if there was a failure.
fn each(names: &[String], mut act: impl FnMut(&str) -> Result<String>) -> Result<u8> {
    let mut status = 0;
    for name in names {
        match act(name) {
            Ok(line) => print(&format!("{line}\n"))?,
            Err(error) => status = crate::error::report(&error, 1).max(status),
        }
    }
    Ok(status)
}
