//! How long the monitor waits for what the guest owes it.

use std::time::Duration;

/// The longest waits, each for one thing. A guest that exceeds one is ended.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From the start of the VM process to the agent's call. A start takes a fraction of a second;
    /// a loaded machine made of software may take a minute.
    pub boot: Duration,
    /// From the agent's call to the start of the command.
    pub start: Duration,
    /// From the end of the command, or the last of its output, to the end of the VM.
    pub ending: Duration,
    /// From SIGKILL to the command's end, before the VM is killed instead.
    pub kill: Duration,
    /// For the agent to read a whole message.
    pub send: Duration,
    /// From the end of the control connection to that of the VM, which is its only good reason.
    pub hang_up: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            boot: Duration::from_secs(120),
            start: Duration::from_secs(60),
            ending: Duration::from_secs(30),
            kill: Duration::from_secs(5),
            send: Duration::from_secs(5),
            hang_up: Duration::from_secs(5),
        }
    }
}
