//! The processes beside the agent, by the numbers that the host gave them: the image's command, the
//! commands that joined it, and tasks.

use std::collections::BTreeMap;

use agent_protocol::{MAX_PROCESSES, ProcessId};
use rustix::process::Pid;

use crate::clone::Child;
use crate::container::{Launch, Process};

/// A process and how far it has come.
#[derive(Debug)]
pub(crate) enum Member {
    /// On its way to its command.
    Launching(Launch),
    Running(Process),
    /// Work of the agent's own.
    Task(Child),
}

impl Member {
    fn pid(&self) -> Pid {
        match self {
            Self::Launching(launch) => launch.process().pid(),
            Self::Running(process) => process.pid(),
            Self::Task(child) => child.pid,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Processes(BTreeMap<ProcessId, Member>);

impl Processes {
    /// Whether a process can be added under this number.
    pub(crate) fn has_room_for(&self, id: ProcessId) -> bool {
        self.0.len() <= MAX_PROCESSES && !self.0.contains_key(&id)
    }

    pub(crate) fn insert(&mut self, id: ProcessId, member: Member) {
        self.0.insert(id, member);
    }

    pub(crate) fn remove(&mut self, id: ProcessId) -> Option<Member> {
        self.0.remove(&id)
    }

    /// Which process has this pid.
    pub(crate) fn find(&self, pid: Pid) -> Option<ProcessId> {
        self.0.iter().find(|(_, member)| member.pid() == pid).map(|(id, _)| *id)
    }

    pub(crate) fn launch(&mut self, id: ProcessId) -> Option<&mut Launch> {
        match self.0.get_mut(&id) {
            Some(Member::Launching(launch)) => Some(launch),
            _ => None,
        }
    }

    /// A process of the container, also one that is on its way to its command.
    pub(crate) fn get(&self, id: ProcessId) -> Option<&Process> {
        match self.0.get(&id)? {
            Member::Launching(launch) => Some(launch.process()),
            Member::Running(process) => Some(process),
            Member::Task(_) => None,
        }
    }

    /// The image's command, once it runs.
    pub(crate) fn init(&self) -> Option<&Process> {
        match self.0.get(&ProcessId::INIT)? {
            Member::Running(process) => Some(process),
            _ => None,
        }
    }

    /// Tells a process of the container, or a task, to end.
    pub(crate) fn signal(&self, id: ProcessId, signal: u8) {
        match self.0.get(&id) {
            // A task has no say: whatever asks it to end, ends it.
            Some(Member::Task(child)) => child.kill(),
            _ => {
                if let Some(process) = self.get(id) {
                    process.signal(signal);
                }
            }
        }
    }
}
