//! The processes beside the command: who asked for each, and how far it has come.

use std::collections::BTreeMap;

use agent_protocol::{FromAgent, MAX_PROCESSES, ProcessId, StartFailure, ToAgent, Work};

use super::{Life, Milestone, Phase};
use crate::{
    container::ContainerId,
    monitor::{clients::ClientId, protocol::Event, vm::printable},
};

/// On whose behalf a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Client(ClientId),
    Health,
}

#[derive(Debug)]
struct Member {
    owner: Owner,
    /// As Docker's events name it, where it is a command.
    id: Option<String>,
    started: bool,
}

#[derive(Debug, Default)]
pub(super) struct Processes {
    members: BTreeMap<ProcessId, Member>,
    last: u32,
}

impl Processes {
    /// A number for one more process, if there may be one.
    fn add(&mut self, owner: Owner, id: Option<String>) -> Option<ProcessId> {
        if self.members.len() >= MAX_PROCESSES {
            return None;
        }
        self.last = self.last.checked_add(1)?;
        let process = ProcessId(self.last);
        self.members.insert(process, Member { owner, id, started: false });
        Some(process)
    }

    /// Whether the agent may say this of the process now.
    pub(super) fn expects(&self, process: ProcessId, message: &FromAgent) -> bool {
        let started = self.members.get(&process).map(|member| member.started);
        started == Some(matches!(message, FromAgent::Exited { .. }))
    }

    fn started(&mut self, process: ProcessId) -> Option<Owner> {
        let member = self.members.get_mut(&process)?;
        member.started = true;
        Some(member.owner)
    }

    fn ended(&mut self, process: ProcessId) -> Option<Member> {
        self.members.remove(&process)
    }
}

impl Life<'_> {
    /// Starts a process for a client.
    pub(super) fn exec(&mut self, client: ClientId, work: Work) {
        let is_task = matches!(work, Work::Task(_));
        let refused = match (&self.phase, is_task) {
            (Phase::Running, false) if self.pause.is_asked() => {
                Some("is paused, unpause the container before exec")
            }
            (Phase::Running, _) | (Phase::Held, true) => None,
            _ => Some("is not running"),
        };
        if let Some(why) = refused {
            let message = format!("Container {} {why}", self.record.id);
            let reason = StartFailure::Setup;
            return self.clients.answer(client, &Event::ExecFailed { reason, message });
        }
        if is_task {
            self.pause.stay_awake_for(client);
        }
        if self.begin_process(Owner::Client(client), work).is_none() {
            let message = "there are too many processes in the container".to_owned();
            let reason = StartFailure::Setup;
            self.clients.answer(client, &Event::ExecFailed { reason, message });
        }
    }

    /// Asks the agent for one more process.
    pub(super) fn begin_process(&mut self, owner: Owner, work: Work) -> Option<ProcessId> {
        let words = match &work {
            Work::Command(command) => {
                let words = command.args.iter().map(|word| String::from_utf8_lossy(word));
                Some(printable(&words.collect::<Vec<_>>().join(" ")))
            }
            Work::Task(_) => None,
        };
        let id = words.is_some().then(|| ContainerId::random().to_string());
        let process = self.processes.add(owner, id.clone())?;
        if let (Some(words), Some(id)) = (words, id) {
            let is_probe = owner == Owner::Health;
            for action in ["exec_create", "exec_start"] {
                let (action, id) = (format!("{action}: {words}"), id.clone());
                self.note(Milestone::Exec { action, id, exit: None, is_probe });
            }
        }
        self.tell_agent(&ToAgent::Exec { process, work: Box::new(work) });
        self.settle_pause();
        Some(process)
    }

    /// The agent has told of a process that it may tell of.
    pub(super) fn heard_of_process(&mut self, process: ProcessId, message: FromAgent) {
        let (owner, event) = match message {
            FromAgent::Started { .. } => {
                (self.processes.started(process), Event::ExecStarted { process })
            }
            FromAgent::StartFailed { reason, message, .. } => {
                let message = printable(&message);
                let member = self.processes.ended(process);
                (member.map(|member| member.owner), Event::ExecFailed { reason, message })
            }
            FromAgent::Exited { status, .. } => {
                let member = self.processes.ended(process);
                if let Some(Member { owner, id: Some(id), .. }) = &member {
                    let (action, id) = ("exec_die".into(), id.clone());
                    let exit = Some(status.cause.shell_status());
                    let is_probe = *owner == Owner::Health;
                    self.note(Milestone::Exec { action, id, exit, is_probe });
                }
                (member.map(|member| member.owner), Event::ExecEnded { process, status })
            }
            _ => return,
        };
        match owner {
            Some(Owner::Client(client)) => self.clients.answer(client, &event),
            Some(Owner::Health) => self.check_heard(process, event),
            None => {}
        }
        self.settle_pause();
    }
}
