//! `vmrun stop`, `vmrun restart`, `vmrun kill`, `vmrun pause`, `vmrun unpause` and `vmrun wait`

use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Host, each, start};
use crate::{
    cli::{ContainersArgs, KillArgs, StopArgs},
    client::Session,
    container::{Container, ContainerError, Status},
    events::Event,
    monitor::Request,
    signals,
};

const SIGKILL: u8 = 9;

/// Seconds that `stop` waits where neither it nor the container says so.
const DEFAULT_PATIENCE: u64 = 10;

pub fn kill(args: &KillArgs) -> Result<u8> {
    let signal = signals::parse(&args.signal);
    if signal.is_none() && args.signal.parse::<i64>().is_err() {
        bail!("Invalid signal: {}", args.signal);
    }
    let host = Host::open()?;
    each(&args.containers, |name| {
        let container = host.containers.find(name);
        let container = container.with_context(|| format!("Cannot kill container: {name}"))?;
        let Some(signal) = signal else {
            bail!(
                "Cannot kill container: {name}: The linux daemon does not support signal {}",
                args.signal
            );
        };
        if !host.containers.status(&container)?.is_running() {
            bail!(
                "Cannot kill container: {name}: Container {} is not running",
                container.record.id
            );
        }
        let session = Session::with_running(&host.paths, &container)?;
        session.send(&Request::Signal(signal))?;
        if signal == SIGKILL {
            let _ = session.wait();
        }
        Ok(name.to_owned())
    })
}

pub fn stop(args: &StopArgs) -> Result<u8> {
    let host = Host::open()?;
    each(&args.containers, |name| {
        let container = host.containers.find(name)?;
        end(&host, &container, patience(args, &container), true);
        Ok(name.to_owned())
    })
}

pub fn restart(args: &StopArgs) -> Result<u8> {
    let host = Host::open()?;
    host.paths.guest()?;
    super::doctor::check_kvm()?;
    each(&args.containers, |name| {
        let container = host.containers.find(name)?;
        end(&host, &container, patience(args, &container), true);
        start::start_one(&host, &container)?;
        host.tell(Event::of_container(&container.record, "restart"));
        Ok(name.to_owned())
    })
}

/// How long the container has.
fn patience(args: &StopArgs, container: &Container) -> Duration {
    match args.time.map(u64::try_from) {
        Some(Ok(seconds)) => Duration::from_secs(seconds),
        // As long as it likes, which a number of seconds is to stand for.
        Some(Err(_)) => Duration::from_secs(u64::from(u32::MAX)),
        None => own_patience(container),
    }
}

/// How long a container has where nobody says so.
pub fn own_patience(container: &Container) -> Duration {
    Duration::from_secs(container.record.stop_timeout.unwrap_or(DEFAULT_PATIENCE))
}

/// Asks a container that runs or starts to end by its stop signal, has it killed where it does not
/// in time, and waits until it has ended. `for_good`: the user wants it so.
pub fn end(host: &Host, container: &Container, patience: Duration, for_good: bool) {
    ask_to_end(host, container, container.record.command.stop_signal, patience, for_good);
}

/// Kills a container that runs or starts, for good, and waits until it has ended.
pub fn kill_now(host: &Host, container: &Container) {
    ask_to_end(host, container, SIGKILL, Duration::ZERO, true);
}

fn ask_to_end(host: &Host, container: &Container, signal: u8, patience: Duration, for_good: bool) {
    // One that does not run has no socket.
    let Ok(session) = Session::with_running(&host.paths, container) else { return };
    if session.send(&Request::Stop { signal, patience, for_good }).is_ok() {
        let _ = session.wait();
    }
}

pub fn pause(args: &ContainersArgs) -> Result<u8> {
    let host = Host::open()?;
    each(&args.containers, |name| {
        let container = host.containers.find(name)?;
        let id = &container.record.id;
        match host.containers.status(&container)? {
            Status::Running { .. } => {}
            Status::Paused { .. } => bail!("Container {id} is already paused"),
            Status::Restarting { .. } => {
                bail!("Container {id} is restarting, wait until the container is running")
            }
            Status::Created | Status::Exited { .. } => bail!("Container {id} is not running"),
        }
        Session::with_running(&host.paths, &container)?.ask(&Request::Pause)?;
        Ok(name.to_owned())
    })
}

pub fn unpause(args: &ContainersArgs) -> Result<u8> {
    let host = Host::open()?;
    each(&args.containers, |name| {
        let container = host.containers.find(name)?;
        if !matches!(host.containers.status(&container)?, Status::Paused { .. }) {
            bail!("Container {} is not paused", container.record.id);
        }
        Session::with_running(&host.paths, &container)?.ask(&Request::Unpause)?;
        Ok(name.to_owned())
    })
}

pub fn wait(args: &ContainersArgs) -> Result<u8> {
    let host = Host::open()?;
    each(&args.containers, |name| {
        let container = host.containers.find(name)?;
        // Connected first, so that an end between the two looks is not missed.
        let session = Session::with_running(&host.paths, &container);
        match (host.containers.status(&container), session) {
            (Ok(Status::Exited { exit, .. }), _) => Ok(exit.status.to_string()),
            (_, Ok(session)) => Ok(session.wait()?.to_string()),
            // One that was never started has nothing to wait for, as in Docker.
            (Ok(Status::Created), Err(_)) => Ok(0.to_string()),
            (Err(ContainerError::NotFound(_)), Err(_)) => Ok(0.to_string()),
            (Ok(_), Err(error)) => Err(error),
            (Err(error), Err(_)) => Err(error.into()),
        }
    })
}
