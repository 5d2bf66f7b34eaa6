//! The time between two runs of a container that is started again.

use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::{
    clients::Clients,
    life::Happened,
    protocol::{Event, Request},
};

/// Waits for the next try; whether there is to be one. Clients are heard meanwhile: one that wants
/// the container to end has it so at once.
pub fn wait(
    clients: &mut Clients,
    requests: &Receiver<Happened>,
    time: Duration,
    id: &str,
) -> bool {
    let until = Instant::now() + time;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        let Ok(happened) = requests.recv_timeout(left) else { continue };
        match happened {
            Happened::Connected(connection) => drop(clients.add(connection)),
            Happened::Left(client) => clients.remove(client),
            Happened::Asked(client, asked) => match asked.request {
                Request::Stop { .. } | Request::Signal(_) => return false,
                Request::Detach => clients.answer(client, &Event::Done),
                Request::Resize(_)
                | Request::Close(_)
                | Request::SignalProcess { .. }
                | Request::ResizeProcess { .. } => {}
                _ => {
                    let why = format!(
                        "Container {id} is restarting, wait until the container is running"
                    );
                    clients.answer(client, &Event::Refused(why));
                }
            },
            _ => {}
        }
    }
}
