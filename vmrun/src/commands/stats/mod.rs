//! `vmrun stats`
//!
//! Each container is asked in a thread of its own, once a second if it answers as quickly as that:
//! one that does not holds up nobody, and soon shows that nothing is known of it.

mod cpu;
mod usage;

use std::{
    collections::BTreeMap,
    io::Read,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use agent_protocol::{GuestStats, Task, read_frame};
use anyhow::{Context, Result};

use super::{Host, print};
use crate::{
    cli::StatsArgs,
    client::Session,
    container::{Container, ContainerError, ContainerId, Status},
    paths::Paths,
};
use usage::{Usage, Whose, listing};

/// How often the table is shown.
const EVERY: Duration = Duration::from_secs(1);

/// How long an answer is good for; how long the first ones are waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a terminal does before the table is shown again: forget what it shows, go to the top.
const CLEAR: &str = "\x1b[2J\x1b[H";

pub fn stats(args: &StatsArgs) -> Result<()> {
    let host = Host::open()?;
    let looks = Looks::default();
    for name in &args.containers {
        host.containers.find(name)?;
    }
    // Use of the CPU is between two looks.
    looks.look(&host, &chosen(&host, args)?);
    loop {
        thread::sleep(EVERY);
        let chosen = chosen(&host, args)?;
        if chosen.is_empty() && !args.containers.is_empty() {
            return Ok(());
        }
        looks.look(&host, &chosen);
        let usages = chosen.iter().map(|chosen| (chosen.whose(), looks.usage(chosen)));
        let table = listing(&usages.collect::<Vec<_>>(), args.no_trunc);
        let table = table.show(args.output.format())?;
        if args.no_stream {
            return print(&table);
        }
        print(&format!("{CLEAR}{table}"))?;
    }
}

/// A container that is to be shown.
struct Chosen {
    /// As the user named it.
    named: Option<String>,
    container: Container,
    runs: bool,
}

impl Chosen {
    fn whose(&self) -> Whose {
        let record = &self.container.record;
        let id = record.id.to_string();
        Whose {
            container: self.named.clone().unwrap_or_else(|| id.clone()),
            id,
            name: record.name.to_string(),
            memory: record.resources.memory_mib << 20,
        }
    }
}

/// Those that were named, as far as they are still there; else those that run, or all.
fn chosen(host: &Host, args: &StatsArgs) -> Result<Vec<Chosen>> {
    let runs = |status: &Status| matches!(status, Status::Running { .. } | Status::Paused { .. });
    let mut chosen = Vec::new();
    if args.containers.is_empty() {
        for (container, status) in host.containers.list_with_status()? {
            if runs(&status) || args.all {
                chosen.push(Chosen { named: None, runs: runs(&status), container });
            }
        }
    }
    for name in &args.containers {
        let found = host.containers.find(name);
        let found = found.and_then(|found| Ok((host.containers.status(&found)?, found)));
        match found {
            Ok((status, container)) => {
                chosen.push(Chosen { named: Some(name.clone()), runs: runs(&status), container });
            }
            Err(ContainerError::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(chosen)
}

/// What the containers have told.
#[derive(Clone, Default)]
struct Looks(Arc<Shared>);

#[derive(Default)]
struct Shared {
    looks: Mutex<BTreeMap<ContainerId, Look>>,
    answered: Condvar,
}

/// What one container has told.
#[derive(Default)]
struct Look {
    /// When it was asked, and has not answered yet.
    asked: Option<Instant>,
    /// When it last answered, and the CPU time of its VM then.
    answered: Option<(Instant, Duration)>,
    usage: Usage,
}

impl Looks {
    /// Asks those that run and owe no answer, and waits for the answers, though not for ever.
    fn look(&self, host: &Host, chosen: &[Chosen]) {
        let Self(shared) = self;
        let mut looks = self.lock();
        looks.retain(|id, _| chosen.iter().any(|chosen| chosen.container.record.id == *id));
        for chosen in chosen.iter().filter(|chosen| chosen.runs) {
            let id = &chosen.container.record.id;
            let look = looks.entry(id.clone()).or_default();
            if look.asked.is_none() && self.ask(&host.paths, &chosen.container) {
                look.asked = Some(Instant::now());
            }
        }
        let is_waited_for = |looks: &mut BTreeMap<ContainerId, Look>| {
            looks.values().filter_map(|look| look.asked).any(|asked| asked.elapsed() < PATIENCE)
        };
        drop(shared.answered.wait_timeout_while(looks, PATIENCE, is_waited_for));
    }

    /// Asks one; whether there is a thread for it.
    fn ask(&self, paths: &Paths, container: &Container) -> bool {
        let (answer, paths, container) = (self.clone(), paths.clone(), container.clone());
        let asked = thread::Builder::new().spawn(move || {
            let stats = ask(&paths, &container).ok();
            if let Some(look) = answer.lock().get_mut(&container.record.id) {
                look.take(stats);
            }
            answer.0.answered.notify_all();
        });
        asked.is_ok()
    }

    /// What is known of a container: of one that does not run, that it uses nothing.
    fn usage(&self, chosen: &Chosen) -> Option<Usage> {
        if !chosen.runs {
            return Some(Usage::default());
        }
        let looks = self.lock();
        let look = looks.get(&chosen.container.record.id)?;
        look.answered.filter(|(at, _)| at.elapsed() < PATIENCE).map(|_| look.usage)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ContainerId, Look>> {
        self.0.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Look {
    fn take(&mut self, told: Option<(GuestStats, Duration)>) {
        self.asked = None;
        let Some((stats, cpu_time)) = told else { return };
        let now = Instant::now();
        let apart = self.answered.map_or(Duration::ZERO, |(at, _)| now - at);
        let before = self.answered.map(|(_, before)| before);
        self.usage = Usage::between(before, stats, cpu_time, apart);
        self.answered = Some((now, cpu_time));
    }
}

/// What the guest tells, and the CPU time that the host has given its VM.
fn ask(paths: &Paths, container: &Container) -> Result<(GuestStats, Duration)> {
    let session = Session::with_running(paths, container)?;
    let mut output = session.read(Task::Stats)?;
    let stats = read_frame(&mut output).context("the guest's answer cannot be understood")?;
    // What went wrong in the guest comes at the end.
    let _ = output.read(&mut [0])?;
    let stats = stats.context("the guest did not answer")?;
    let cpu_time = cpu::time_of_children(session.monitor().peer()?);
    Ok((stats, cpu_time.context("cannot read the CPU time of the VM process")?))
}
