//! `vmrun monitor`: the one process that stands behind a running container. It holds the
//! container's lock, owns the VM process, passes the streams between guest and clients, records how
//! the run went, and goes.
//!
//! ```text
//! client ──control.sock, pipes──→ monitor ──vsock.sock, control──→ vmm ──vsock──→ agent
//!                                    └ config.json, state.json, lock
//! ```
//! It is started by a client, which is its first connection (stdin), and stays when that client is
//! killed. Its threads only carry bytes or wait; all decisions are in [`life`], in one thread.

mod carry;
mod clients;
mod guest;
mod life;
mod patience;
mod protocol;
mod rest;
mod run;
mod spec;
mod streams;
mod vm;

use std::{io, os::unix::net::UnixListener, path::Path};

pub use carry::{dial, read_answer};
pub use protocol::{Connection, Event, Request};

/// Name of the socket by which clients reach the monitor, in the container's runtime folder.
pub const CONTROL_SOCKET: &str = "control.sock";

pub use run::run;
pub use vm::printable;

/// Listens at the socket `name` in a folder, however long the folder's path is.
pub fn bind(folder: &Path, name: &str) -> io::Result<UnixListener> {
    let socket = protocol::stream_socket()?;
    protocol::in_folder(folder, name, |address| rustix::net::bind(&socket, address))?;
    rustix::net::listen(&socket, 64)?;
    Ok(socket.into())
}
