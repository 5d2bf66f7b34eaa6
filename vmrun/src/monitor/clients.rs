//! The clients of a monitor: a thread waits for new ones, one more for what each of them asks.

use std::{collections::BTreeMap, io, os::fd::OwnedFd, thread};

use super::{
    life::{Happened, Teller},
    protocol::{Connection, Event, Listener, Request},
};

/// Numbers a client within its monitor.
pub type ClientId = u32;

/// All that are connected.
#[derive(Debug)]
pub struct Clients {
    connected: BTreeMap<ClientId, Connection>,
    next: ClientId,
    happened: Teller,
}

/// What a client asked, and the descriptors that came with it.
#[derive(Debug)]
pub struct Asked {
    pub request: Request,
    pub fds: Vec<OwnedFd>,
}

impl Clients {
    /// None yet.
    pub fn new(happened: Teller) -> Self {
        Self { connected: BTreeMap::new(), next: 0, happened }
    }

    /// Waits for clients in a thread; each arrives as [`Happened::Connected`].
    pub fn listen(&self, listener: Listener) -> io::Result<()> {
        let happened = self.happened.clone();
        let accept = move || {
            // An error of the listener is one of the whole process (no descriptors left): the
            // clients that are there keep being served, no more are taken.
            while let Ok(connection) = listener.accept() {
                if happened.send(Happened::Connected(connection)).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("accept".into()).spawn(accept)?;
        Ok(())
    }

    /// Takes a client in; what it asks arrives as [`Happened::Asked`].
    pub fn add(&mut self, connection: Connection) -> io::Result<ClientId> {
        let id = self.next;
        let from = connection.try_clone()?;
        let happened = self.happened.clone();
        let serve = move || {
            while let Ok(Some((request, fds))) = from.receive() {
                if happened.send(Happened::Asked(id, Asked { request, fds })).is_err() {
                    return;
                }
            }
            let _ = happened.send(Happened::Left(id));
        };
        thread::Builder::new().name("client".into()).spawn(serve)?;
        self.connected.insert(id, connection);
        self.next = self.next.wrapping_add(1);
        Ok(id)
    }

    /// Forgets a client that left or misbehaved.
    pub fn remove(&mut self, id: ClientId) {
        if let Some(connection) = self.connected.remove(&id) {
            connection.shut_down();
        }
    }

    /// Tells one client, if it is still there.
    pub fn answer(&self, id: ClientId, event: &Event) {
        if let Some(connection) = self.connected.get(&id) {
            let _ = connection.send_now(event);
        }
    }

    /// Tells every client. One that does not listen is not waited for: its socket takes dozens of
    /// messages, and no client that does not ask is ever told that many.
    pub fn tell(&self, event: &Event) {
        for connection in self.connected.values() {
            let _ = connection.send_now(event);
        }
    }
}
