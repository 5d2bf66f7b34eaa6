//! The control connection with the agent. Nothing it says is trusted: a frame that does not decode,
//! or that comes out of turn, ends the VM.

use std::{
    io::{self, Write},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use agent_protocol::{FrameError, FromAgent, ToAgent, VERSION};

use super::life::{Happened, Teller};

/// The host's end of the control connection.
#[derive(Debug)]
pub struct Agent {
    socket: UnixStream,
    patience: Duration,
}

impl Agent {
    /// Takes the connection; what the agent says arrives as [`Happened::Agent`], the end of it as
    /// [`Happened::AgentGone`]. It has `patience` to read a message.
    pub fn new(socket: UnixStream, patience: Duration, happened: Teller) -> io::Result<Self> {
        let mut from = socket.try_clone()?;
        thread::Builder::new().name("agent".into()).spawn(move || {
            loop {
                let event = match agent_protocol::read_frame::<FromAgent>(&mut from) {
                    Ok(Some(message)) => Happened::Agent(message),
                    // A connection that breaks has ended, too: its other end is a process that did.
                    Ok(None) | Err(FrameError::Io(_)) => Happened::AgentGone(None),
                    Err(error) => Happened::AgentGone(Some(error.to_string())),
                };
                let last = matches!(event, Happened::AgentGone(_));
                if happened.send(event).is_err() || last {
                    return;
                }
            }
        })?;
        Ok(Self { socket, patience })
    }

    /// Opens the conversation.
    pub fn greet(&mut self) -> Result<(), FrameError> {
        self.send(&ToAgent::Hello { version: VERSION })
    }

    /// Sends a message.
    pub fn send(&mut self, message: &ToAgent) -> Result<(), FrameError> {
        let frame = agent_protocol::encode(message)?;
        let deadline = Instant::now() + self.patience;
        let mut rest = frame.as_slice();
        // A time limit of the socket alone would begin anew with every byte that is read.
        while !rest.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
            self.socket.set_write_timeout(Some(left))?;
            match self.socket.write(rest) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}
