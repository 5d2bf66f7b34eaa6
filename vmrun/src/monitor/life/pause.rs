//! Freezing and pausing. Two things are wanted of a container, by the user or by a client that reads
//! its files: that its processes stand still (its cgroup in the guest is frozen), and that its vCPUs
//! do. What is wanted and what is so are kept apart; [`Life::settle_pause`] takes the next step from
//! one to the other, and is called whenever either has changed.
//!
//! ```text
//!              Freeze, Frozen(true)             pause, Paused
//!   going on ──────────────────────→ frozen ──────────────────→ stopped
//!            ←──────────────────────        ←──────────────────
//!             Freeze, Frozen(false)            resume, Resumed
//! ```

use std::time::{Duration, Instant, SystemTime};

use agent_protocol::ToAgent;

use super::{Life, Milestone, Phase};
use crate::monitor::{clients::ClientId, protocol::Event};

/// How long a step may take.
const STEP_PATIENCE: Duration = Duration::from_secs(10);

/// What is asked on the way and not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Freeze(bool),
    Stop(bool),
}

/// A client that waits for what it asked.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    Paused(ClientId),
    Unpaused(ClientId),
    Quiesced(ClientId),
}

#[derive(Debug, Default)]
pub(super) struct Pause {
    /// By the user.
    wanted: bool,
    /// By clients that want a picture of one moment of the container's files.
    quiesced_for: Vec<ClientId>,
    /// Clients that have asked the agent for something: it runs until they have gone with what it
    /// says.
    awake_for: Vec<ClientId>,
    frozen: bool,
    stopped: bool,
    step: Option<(Step, Instant)>,
    waiting: Vec<Waiting>,
}

impl Pause {
    /// Whether the user wants it paused.
    pub(super) fn is_asked(&self) -> bool {
        self.wanted
    }

    /// When the step under way has taken too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.step.map(|(_, begun)| begun + STEP_PATIENCE)
    }

    /// Whether the agent may say this now; takes it in.
    pub(super) fn expects(&mut self, frozen: bool) -> bool {
        let expected = matches!(self.step, Some((Step::Freeze(wanted), _)) if wanted == frozen);
        if expected {
            self.frozen = frozen;
            self.step = None;
        }
        expected
    }

    /// The VM process has stopped the vCPUs, or let them go on.
    pub(super) fn vcpus(&mut self, stopped: bool) {
        self.stopped = stopped;
        self.step = None;
    }

    /// A client has asked for something of the agent's.
    pub(super) fn stay_awake_for(&mut self, client: ClientId) {
        self.awake_for.push(client);
    }

    /// A client has left, and wants nothing any more.
    pub(super) fn forget(&mut self, client: ClientId) {
        self.quiesced_for.retain(|other| *other != client);
        self.awake_for.retain(|other| *other != client);
    }

    /// The next step, from what is so to what is wanted.
    fn next(&self) -> Option<Step> {
        let quiesced = !self.quiesced_for.is_empty();
        let frozen = self.wanted || quiesced;
        let stopped = self.wanted && !quiesced && self.awake_for.is_empty();
        match () {
            // The agent has to run to do anything.
            () if self.stopped && !stopped => Some(Step::Stop(false)),
            () if self.frozen != frozen => Some(Step::Freeze(frozen)),
            () if !self.stopped && stopped => Some(Step::Stop(true)),
            () => None,
        }
    }

    /// Those who have got what they waited for.
    fn satisfied(&mut self) -> Vec<Waiting> {
        let (frozen, stopped) = (self.frozen, self.stopped);
        let wanted = self.wanted;
        let is_so = |waiting: &mut Waiting| match waiting {
            Waiting::Paused(_) => wanted && frozen && stopped,
            Waiting::Unpaused(_) => !wanted && !stopped,
            Waiting::Quiesced(_) => frozen && !stopped,
        };
        self.waiting.extract_if(.., is_so).collect()
    }
}

impl Life<'_> {
    pub(super) fn ask_pause(&mut self, client: ClientId) {
        if !matches!(self.phase, Phase::Running) {
            return self.refuse(client, &format!("Container {} is not running", self.record.id));
        }
        if self.pause.wanted {
            return self.refuse(client, &format!("Container {} is already paused", self.record.id));
        }
        self.pause.wanted = true;
        self.pause.waiting.push(Waiting::Paused(client));
        self.settle_pause();
    }

    pub(super) fn ask_unpause(&mut self, client: ClientId) {
        if !self.pause.wanted {
            return self.refuse(client, &format!("Container {} is not paused", self.record.id));
        }
        self.pause.wanted = false;
        self.pause.waiting.push(Waiting::Unpaused(client));
        self.settle_pause();
    }

    pub(super) fn ask_quiesce(&mut self, client: ClientId) {
        match self.phase {
            Phase::Running => {
                self.pause.quiesced_for.push(client);
                self.pause.waiting.push(Waiting::Quiesced(client));
                self.settle_pause();
            }
            // There is nothing that could move.
            Phase::Held => self.clients.answer(client, &Event::Done),
            _ => self.refuse(client, &format!("Container {} is not running", self.record.id)),
        }
    }

    /// A container that is to end goes on first, so that it can.
    pub(super) fn unpause_for_end(&mut self) {
        if self.pause.wanted {
            self.pause.wanted = false;
            self.note(Milestone::Unpaused);
            self.settle_pause();
        }
    }

    /// Takes the next step, unless one is under way, and answers those who have what they want.
    pub(super) fn settle_pause(&mut self) {
        if !matches!(self.phase, Phase::Running) || self.pause.step.is_some() {
            return;
        }
        for waiting in self.pause.satisfied() {
            let client = match waiting {
                Waiting::Paused(client) => {
                    self.note(Milestone::Paused);
                    client
                }
                Waiting::Unpaused(client) => {
                    self.note(Milestone::Unpaused);
                    client
                }
                Waiting::Quiesced(client) => client,
            };
            self.clients.answer(client, &Event::Done);
        }
        let Some(step) = self.pause.next() else { return };
        self.pause.step = Some((step, Instant::now()));
        match step {
            Step::Freeze(frozen) => self.tell_agent(&ToAgent::Freeze(frozen)),
            Step::Stop(true) => drop(self.vm.pause()),
            Step::Stop(false) => {
                // The guest's clock has stood still, or the host has slept.
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                let nanoseconds = now.map_or(0, |now| now.as_nanos());
                if let Ok(nanoseconds) = u64::try_from(nanoseconds) {
                    self.tell_agent(&ToAgent::SetClock(nanoseconds));
                }
                drop(self.vm.resume());
            }
        }
    }

    /// A step has taken too long: what was wanted is not any more.
    pub(super) fn give_up_pause(&mut self) {
        self.pause.step = None;
        self.pause.wanted = self.pause.stopped;
        self.pause.quiesced_for.clear();
        let what = "the guest did not freeze its processes in time";
        for waiting in std::mem::take(&mut self.pause.waiting) {
            let (Waiting::Paused(client) | Waiting::Unpaused(client) | Waiting::Quiesced(client)) =
                waiting;
            self.refuse(client, what);
        }
        self.settle_pause();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes all steps; gives them.
    fn settle(pause: &mut Pause) -> Vec<Step> {
        let mut steps = Vec::new();
        while let Some(step) = pause.next() {
            match step {
                Step::Freeze(frozen) => pause.frozen = frozen,
                Step::Stop(stopped) => pause.stopped = stopped,
            }
            steps.push(step);
        }
        steps
    }

    #[test]
    fn container_is_frozen_before_its_vcpus_stop_and_thawed_after_they_go_on() {
        let mut pause = Pause { wanted: true, ..Pause::default() };
        assert_eq!(settle(&mut pause), [Step::Freeze(true), Step::Stop(true)]);
        pause.wanted = false;
        assert_eq!(settle(&mut pause), [Step::Stop(false), Step::Freeze(false)]);
    }

    #[test]
    fn who_reads_the_files_of_a_paused_container_has_the_vcpus_and_leaves_it_frozen() {
        let mut pause = Pause { wanted: true, ..Pause::default() };
        settle(&mut pause);
        pause.stay_awake_for(7);
        assert_eq!(settle(&mut pause), [Step::Stop(false)]);
        pause.forget(7);
        assert_eq!(settle(&mut pause), [Step::Stop(true)]);
        pause.quiesced_for.push(1);
        assert_eq!(settle(&mut pause), [Step::Stop(false)]);
        pause.forget(1);
        assert_eq!(settle(&mut pause), [Step::Stop(true)]);
    }

    #[test]
    fn who_wants_it_still_for_a_moment_has_it_frozen_for_that_long() {
        let mut pause = Pause { quiesced_for: vec![1, 2], ..Pause::default() };
        assert_eq!(settle(&mut pause), [Step::Freeze(true)]);
        pause.forget(1);
        assert_eq!(settle(&mut pause), []);
        pause.forget(2);
        assert_eq!(settle(&mut pause), [Step::Freeze(false)]);
    }
}
