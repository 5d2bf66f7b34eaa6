//! The user's signals, passed on to a command in the guest.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use agent_protocol::WindowSize;
use anyhow::{Context, Result};
use signal_hook::{
    consts::signal,
    iterator::{Handle, Signals},
};

use super::terminal;
use crate::monitor::{Connection, Request};

/// How many interrupts without effect kill the command.
const PATIENCE_OF_INTERRUPTS: u32 = 3;

/// What is passed on.
#[derive(Clone, Copy, Debug)]
pub enum Forwarded {
    Signal(u8),
    /// The terminal has a new size.
    Size(WindowSize),
}

/// Signals that have been taken: they wait until they are forwarded.
#[derive(Debug)]
pub struct ForwardedSignals(Signals);

/// Forwards in a thread of its own.
#[derive(Debug)]
pub struct Forwarder {
    handle: Handle,
    thread: JoinHandle<()>,
    ended: Arc<AtomicBool>,
}

impl ForwardedSignals {
    /// From now on signals no longer have their usual effect.
    pub fn take() -> Result<Self> {
        Ok(Self(Signals::new(forwarded()).context("cannot take signals")?))
    }

    /// Signals have their usual effect again, also those that came meanwhile.
    pub fn give_back(self) -> Result<()> {
        let Self(mut signals) = self;
        let body = move || {
            for number in signals.forever() {
                let _ = signal_hook::low_level::emulate_default_handler(number);
            }
        };
        thread::Builder::new()
            .name("signals".into())
            .spawn(body)
            .context("cannot start a thread")?;
        Ok(())
    }

    /// Sends what `request` makes of each signal, if anything.
    pub fn forward(
        self,
        monitor: Arc<Connection>,
        request: impl Fn(Forwarded) -> Option<Request> + Send + 'static,
    ) -> Result<Forwarder> {
        let Self(signals) = self;
        let handle = signals.handle();
        let ended = Arc::<AtomicBool>::default();
        let seen = Arc::clone(&ended);
        let thread = thread::Builder::new()
            .name("signals".into())
            .spawn(move || forward(signals, &monitor, &seen, &request))
            .context("cannot start a thread")?;
        Ok(Forwarder { handle, thread, ended })
    }
}

impl Forwarder {
    /// The command has ended; only the user's own reader is left to wait for.
    pub fn ended(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    pub fn stop(self) {
        self.handle.close();
        let _ = self.thread.join();
    }
}

/// Signals that are passed on to the command, and the one that tells of a new window size.
fn forwarded() -> [i32; 12] {
    [
        signal::SIGHUP,
        signal::SIGINT,
        signal::SIGQUIT,
        signal::SIGTERM,
        signal::SIGUSR1,
        signal::SIGUSR2,
        signal::SIGCONT,
        signal::SIGALRM,
        signal::SIGTTIN,
        signal::SIGTTOU,
        signal::SIGIO,
        signal::SIGWINCH,
    ]
}

fn forward(
    mut signals: Signals,
    monitor: &Connection,
    ended: &AtomicBool,
    request: &dyn Fn(Forwarded) -> Option<Request>,
) {
    let mut interrupts = 0;
    for number in signals.forever() {
        let forwarded = if number == signal::SIGWINCH {
            let Some(size) = terminal::size() else { continue };
            Forwarded::Size(size)
        } else {
            if matches!(number, signal::SIGINT | signal::SIGTERM) {
                interrupts += 1;
            }
            let number = if interrupts >= PATIENCE_OF_INTERRUPTS {
                eprintln!("vmrun: {interrupts} interrupts without effect: killing the container");
                signal::SIGKILL
            } else {
                number
            };
            Forwarded::Signal(u8::try_from(number).unwrap_or_default())
        };
        match request(forwarded) {
            Some(request) if monitor.send(&request, &[]).is_err() => return,
            Some(_) => {}
            // Not the container's affair, so the user's own.
            None if interrupts > 0 => std::process::exit(130),
            None => {}
        }
        if ended.load(Ordering::Relaxed) && interrupts > 0 {
            // The user will not wait for it.
            std::process::exit(130);
        }
    }
}
