//! How a run comes to its end: as the agent says, or because the agent, its VM or the patience with
//! them has ended.

use std::{os::unix::process::ExitStatusExt, time::Instant};

use agent_protocol::ExitStatus;

use super::{Event, FAILED, Life, Outcome, Phase};
use crate::container::Exit;

impl Life<'_> {
    pub(super) fn over_if_done(&mut self) -> Option<Outcome> {
        let Phase::Ending { status, unmounted: true } = self.phase else { return None };
        self.streams.delivered().then(|| exited(status, None))
    }

    pub(super) fn agent_gone(&mut self, fault: Option<String>) -> Option<Outcome> {
        let Some(fault) = fault else {
            self.hung_up = true;
            return self.one_is_gone();
        };
        Some(self.failed(FAILED, format!("the agent cannot be understood: {fault}")))
    }

    pub(super) fn vm_gone(&mut self) -> Option<Outcome> {
        self.vm_ended = true;
        self.one_is_gone()
    }

    /// The control connection and the VM end together, but are heard by different ways: what the agent
    /// said last may come after the end of the VM. So both are waited for, one of them not for long.
    fn one_is_gone(&mut self) -> Option<Outcome> {
        if self.hung_up && self.vm_ended {
            return Some(self.without_vm());
        }
        let soon = Instant::now() + self.patience.hang_up;
        self.deadline = Some(self.deadline.map_or(soon, |deadline| deadline.min(soon)));
        None
    }

    fn without_vm(&mut self) -> Outcome {
        let Ok(ended) = self.vm.end() else {
            return self.failed(FAILED, "the VM process is gone".into());
        };
        let reported = self.reported.take();
        let killed = reported.is_none() && ended.signal() == Some(libc::SIGKILL);
        let cause = self.vm.cause(ended, reported);
        match self.phase {
            // The command's status stands; its disk may miss the last writes.
            Phase::Ending { status, unmounted: false } => exited(status, Some(cause)),
            Phase::Ending { status, unmounted: true } => exited(status, None),
            _ => self.failed(if killed { 137 } else { FAILED }, cause),
        }
    }

    /// The guest has had its time.
    pub(super) fn give_up(&mut self) -> Option<Outcome> {
        if self.vm_ended {
            return Some(self.without_vm());
        }
        match self.phase {
            // The client does not read, or slowly, which is its right.
            Phase::Ending { .. } if !self.killed && self.streams.moves() => {
                self.deadline = Some(Instant::now() + self.patience.ending);
                None
            }
            Phase::Ending { status, unmounted: true } if self.killed => Some(exited(status, None)),
            Phase::Ending { status, .. } => {
                Some(exited(status, Some("the guest did not finish; its VM was ended".into())))
            }
            _ if self.hung_up => {
                Some(self.failed(FAILED, "the agent hung up; the guest was ended".into()))
            }
            Phase::Booting => {
                let seconds = self.patience.boot.as_secs();
                Some(self.failed(FAILED, format!("the guest did not start within {seconds} s")))
            }
            Phase::Starting => {
                let seconds = self.patience.start.as_secs();
                let message = format!("the guest did not run the command within {seconds} s");
                Some(self.failed(FAILED, message))
            }
            Phase::Running | Phase::Held => {
                Some(self.failed(137, "the guest did not answer; it was killed".into()))
            }
        }
    }

    /// The end of a run that went wrong, with this status unless there is one of the command's.
    pub(super) fn failed(&self, status: u8, message: String) -> Outcome {
        let exit = Exit { status, oom_killed: false, error: Some(message.clone()) };
        let event = match self.phase {
            Phase::Booting | Phase::Starting => Event::StartFailed { status, message },
            Phase::Running | Phase::Held => Event::Exited { status, message: Some(message) },
            // The command's own status stands.
            Phase::Ending { status, .. } => return exited(status, Some(message)),
        };
        Outcome { event, exit: Some(exit) }
    }
}

pub(super) fn exited(status: ExitStatus, error: Option<String>) -> Outcome {
    let exit = Exit {
        status: status.cause.shell_status(),
        oom_killed: status.oom_killed,
        error: error.clone(),
    };
    Outcome { event: Event::Exited { status: exit.status, message: error }, exit: Some(exit) }
}
