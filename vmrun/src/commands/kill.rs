//! `vmrun stop` and `vmrun kill`

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{Host, each};
use crate::{
    cli::{KillArgs, StopArgs},
    container::Container,
    monitor::{CONTROL_SOCKET, Connection, Event, Request},
    signals,
};

const SIGKILL: u8 = 9;

pub fn kill(args: &KillArgs) -> Result<u8> {
    let Some(signal) = signals::parse(&args.signal) else {
        bail!("Invalid signal: {}", args.signal);
    };
    let host = Host::open()?;
    each(&args.containers, |name| {
        let container = host.containers.find(name)?;
        if !host.containers.status(&container)?.is_running() {
            bail!(
                "Cannot kill container: {name}: Container {} is not running",
                container.record.id
            );
        }
        let monitor = connect(&host, &container)?;
        monitor.send(&Request::Signal(signal), &[]).context("the container's monitor is gone")?;
        if signal == SIGKILL {
            wait(monitor, None);
        }
        Ok(name.to_owned())
    })
}

pub fn stop(args: &StopArgs) -> Result<u8> {
    let host = Host::open()?;
    each(&args.containers, |name| {
        let container = host.containers.find(name)?;
        end(&host, &container, Duration::from_secs(args.time))?;
        Ok(name.to_owned())
    })
}

/// Asks a container that runs or starts to end by its stop signal, kills it when it does not in time,
/// and waits until it has ended.
pub fn end(host: &Host, container: &Container, patience: Duration) -> Result<()> {
    let first = if patience.is_zero() { SIGKILL } else { container.record.command.stop_signal };
    // One that does not run has no socket.
    let Ok(monitor) = connect(host, container) else { return Ok(()) };
    let send = |signal| monitor.send(&Request::Signal(signal), &[]);
    if send(first).is_ok() && !wait(monitor.try_clone()?, Some(patience)) && send(SIGKILL).is_ok() {
        wait(monitor, None);
    }
    Ok(())
}

fn connect(host: &Host, container: &Container) -> Result<Connection> {
    let folder = host.paths.runtime_of(container.record.id.as_str());
    Connection::connect(&folder, CONTROL_SOCKET).with_context(|| {
        format!("cannot reach the monitor of container {}", container.record.id.short())
    })
}

/// Waits for the container's end; whether it came in time.
fn wait(monitor: Connection, patience: Option<Duration>) -> bool {
    let (ended, end) = mpsc::channel();
    let watch = monitor.try_clone();
    thread::spawn(move || {
        while let Ok(Some((Event::Started | Event::Notice(_), _))) = monitor.receive::<Event>() {}
        let _ = ended.send(());
    });
    let Some(patience) = patience else { return end.recv().is_ok() };
    let in_time = !matches!(end.recv_timeout(patience), Err(RecvTimeoutError::Timeout));
    drop(watch);
    in_time
}
