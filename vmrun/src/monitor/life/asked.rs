//! What clients ask of a run.

use std::time::{Duration, Instant};

use agent_protocol::{ProcessId, ToAgent};

use super::{Life, Milestone, Phase, SIGKILL};
use crate::monitor::{
    clients::{Asked, ClientId},
    protocol::{Event, Request},
};

impl Life<'_> {
    pub(super) fn asked(&mut self, client: ClientId, Asked { request, fds }: Asked) {
        match request {
            Request::Attach { .. } | Request::Stop { .. } | Request::Signal(_) if self.hold => {
                self.refuse(client, "the container's files are in use; try again");
            }
            Request::Attach { stdin, stdout, stderr, size } => {
                if stdin || stdout || stderr {
                    self.note(Milestone::Attached);
                }
                self.size = size.or(self.size);
                if !self.streams.attach(client, [stdin, stdout, stderr], fds) {
                    self.clients.remove(client);
                }
                // One that comes late is told what the first one was.
                if matches!(self.phase, Phase::Running) {
                    self.clients.answer(client, &Event::Started);
                }
            }
            Request::Signal(signal) => {
                if signal == SIGKILL || signal == self.record.command.stop_signal {
                    self.note(Milestone::Stopped { for_good: true, gently: false });
                    self.unpause_for_end();
                }
                self.signal(signal);
            }
            Request::Stop { signal, patience, for_good } => {
                self.note(Milestone::Stopped { for_good, gently: signal != SIGKILL });
                self.stop(signal, patience);
            }
            Request::Resize(size) => {
                self.size = Some(size);
                if matches!(self.phase, Phase::Running) {
                    self.tell_agent(&ToAgent::Resize { process: ProcessId::INIT, size });
                }
            }
            Request::Close(stream) => self.streams.close(stream),
            Request::Detach => {
                self.streams.leaves(client);
                self.clients.answer(client, &Event::Done);
            }
            Request::Hold => self.hold(client),
            Request::Exec(work) => self.exec(client, *work),
            Request::SignalProcess { process, signal } if process != ProcessId::INIT => {
                self.tell_agent(&ToAgent::Signal { process, signal });
            }
            Request::ResizeProcess { process, size } if process != ProcessId::INIT => {
                self.tell_agent(&ToAgent::Resize { process, size });
            }
            Request::SignalProcess { .. } | Request::ResizeProcess { .. } => {}
            Request::Pause => self.ask_pause(client),
            Request::Unpause => self.ask_unpause(client),
            Request::Quiesce => self.ask_quiesce(client),
        }
    }

    pub(super) fn refuse(&self, client: ClientId, why: &str) {
        self.clients.answer(client, &Event::Refused(why.into()));
    }

    /// The files are wanted: of a run that has the command they can be had as well, and one that is
    /// about to start it has the last word.
    fn hold(&mut self, client: ClientId) {
        match self.phase {
            Phase::Booting | Phase::Starting if self.hold => self.holders.push(client),
            Phase::Held => {
                self.holders.push(client);
                self.clients.answer(client, &Event::Done);
            }
            Phase::Running => self.clients.answer(client, &Event::Done),
            Phase::Booting | Phase::Starting | Phase::Ending { .. } => {
                self.refuse(client, "the container is starting or ending; try again");
            }
        }
    }

    /// The user's end of the run, by degrees.
    fn stop(&mut self, signal: u8, patience: Duration) {
        self.unpause_for_end();
        self.signal(signal);
        if matches!(self.phase, Phase::Running) && signal != SIGKILL {
            let at = Instant::now() + patience;
            self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
        }
    }

    pub(super) fn signal(&mut self, signal: u8) {
        match self.phase {
            // There is no command yet that could decide for itself.
            Phase::Booting | Phase::Starting => {
                if matches!(
                    i32::from(signal),
                    libc::SIGINT | libc::SIGTERM | libc::SIGKILL | libc::SIGQUIT | libc::SIGHUP
                ) {
                    self.aborted = Some(signal.saturating_add(128));
                }
            }
            Phase::Running => {
                self.note(Milestone::Signalled(signal));
                self.tell_agent(&ToAgent::Signal { process: ProcessId::INIT, signal });
                if signal == SIGKILL {
                    self.deadline = Some(Instant::now() + self.patience.kill);
                }
            }
            // The status is known; the end of the VM is not waited for any longer.
            Phase::Ending { unmounted, .. } if signal == SIGKILL => {
                self.killed = true;
                let patience = if unmounted { Duration::ZERO } else { self.patience.kill };
                self.deadline = Some(Instant::now() + patience);
            }
            Phase::Ending { .. } | Phase::Held => {}
        }
    }
}
