//! Asks the container for its health now and then: a command in it, whose exit status is the answer.

use std::{io::Read, path::Path, thread, time::Instant};

use agent_protocol::{ExitStatus, ProcessId, ProcessSpec, Stream, ToAgent, Work};
use jiff::Timestamp;

use super::{Happened, Life, Milestone, Phase, SIGKILL, Teller, processes::Owner};
use crate::{
    container::{Health, HealthCheck, HealthResult},
    monitor::{carry, protocol::Event},
};

/// Bytes of a check's output that are kept.
const OUTPUT_KEPT: u64 = 4096;

/// Exit code of a check that took too long, as in Docker.
const TIMED_OUT: i32 = -1;

/// Asks, waits and counts.
#[derive(Debug)]
pub(super) struct Checker {
    check: HealthCheck,
    health: Health,
    /// When the command began to run.
    begun: Option<Instant>,
    next: Option<Instant>,
    running: Option<Running>,
}

/// A check that is under way.
#[derive(Debug)]
struct Running {
    process: ProcessId,
    start: Timestamp,
    deadline: Instant,
    timed_out: bool,
    status: Option<ExitStatus>,
    output: Option<String>,
}

impl Checker {
    pub(super) fn new(check: HealthCheck) -> Self {
        Self { check, health: Health::default(), begun: None, next: None, running: None }
    }

    /// The command runs: the first check is due after an interval.
    pub(super) fn begin(&mut self) {
        let now = Instant::now();
        self.begun = Some(now);
        self.next = now.checked_add(self.check.interval);
    }

    fn is_running(&self, process: ProcessId) -> bool {
        self.running.as_ref().is_some_and(|running| running.process == process)
    }

    /// Takes in an answer; gives what the health is now.
    fn take(&mut self, exit_code: i32, output: String) -> Health {
        let start = self.running.take().map_or_else(Timestamp::now, |running| running.start);
        let in_start_period =
            self.begun.is_some_and(|begun| begun.elapsed() < self.check.start_period);
        let result = HealthResult { start, end: Timestamp::now(), exit_code, output };
        self.health.take(&self.check, result, in_start_period);
        self.next = Instant::now().checked_add(self.check.interval);
        self.health.clone()
    }
}

impl Life<'_> {
    /// When there is something to do about health.
    pub(super) fn next_check(&self) -> Option<Instant> {
        let checker = self.checker.as_ref()?;
        match &checker.running {
            Some(running) if running.timed_out => None,
            Some(running) => Some(running.deadline),
            None => checker.next,
        }
    }

    /// Begins a check, or ends one that takes too long.
    pub(super) fn check(&mut self) {
        let paused = self.pause.is_asked() || !matches!(self.phase, Phase::Running);
        let Some(checker) = &mut self.checker else { return };
        if let Some(running) = &mut checker.running {
            running.timed_out = true;
            let kill = ToAgent::Signal { process: running.process, signal: SIGKILL };
            return self.tell_agent(&kill);
        }
        // Tried again after an interval if it does not come to run.
        checker.next = Instant::now().checked_add(checker.check.interval);
        if paused {
            return;
        }
        let command = &self.record.command;
        let spec = ProcessSpec {
            args: checker.check.command.iter().map(|word| word.clone().into_bytes()).collect(),
            env: command.env.clone(),
            cwd: command.cwd.clone().into_bytes(),
            user: command.user.clone(),
            groups: command.groups.clone(),
            terminal: None,
            stdin: false,
            output: true,
        };
        let deadline = Instant::now().checked_add(checker.check.timeout);
        let Some(process) = self.begin_process(Owner::Health, Work::Command(spec)) else {
            return;
        };
        if let Some(checker) = &mut self.checker {
            checker.running = Some(Running {
                process,
                start: Timestamp::now(),
                deadline: deadline.unwrap_or_else(Instant::now),
                timed_out: false,
                status: None,
                output: None,
            });
        }
    }

    /// The agent has told of a check's process.
    pub(super) fn check_heard(&mut self, process: ProcessId, event: Event) {
        let Some(checker) = self.checker.as_mut().filter(|checker| checker.is_running(process))
        else {
            return;
        };
        match event {
            Event::ExecStarted { .. } => {
                let happened = self.happened.clone();
                if listen(&self.runtime, process, happened).is_err() {
                    self.check_output(process, String::new());
                }
            }
            Event::ExecFailed { message, .. } => {
                let health = checker.take(TIMED_OUT, message);
                self.note(Milestone::Health(health));
            }
            Event::ExecEnded { status, .. } => {
                if let Some(running) = &mut checker.running {
                    running.status = Some(status);
                }
                self.finish_check();
            }
            _ => {}
        }
    }

    /// All output of a check has come.
    pub(super) fn check_output(&mut self, process: ProcessId, output: String) {
        if let Some(checker) = self.checker.as_mut().filter(|checker| checker.is_running(process)) {
            if let Some(running) = &mut checker.running {
                running.output = Some(output);
            }
            self.finish_check();
        }
    }

    /// A check is over when its process has ended and its output has come; one that took too long
    /// has no output.
    fn finish_check(&mut self) {
        let Some(checker) = &mut self.checker else { return };
        let Some(Running { status: Some(status), output, timed_out, .. }) = &checker.running else {
            return;
        };
        let (code, output) = match (timed_out, output) {
            (true, _) => {
                let timeout = checker.check.timeout;
                (TIMED_OUT, format!("Health check exceeded timeout ({timeout:?})"))
            }
            (false, Some(output)) => (status.cause.shell_status().into(), output.clone()),
            (false, None) => return,
        };
        let health = checker.take(code, output);
        self.note(Milestone::Health(health));
    }
}

/// Reads a check's stdout and stderr in a thread, one after the other as far as they are kept.
fn listen(runtime: &Path, process: ProcessId, happened: Teller) -> std::io::Result<()> {
    let stdout = carry::dial(runtime, process, Stream::Stdout)?;
    let stderr = carry::dial(runtime, process, Stream::Stderr)?;
    thread::Builder::new().name("health".into()).spawn(move || {
        let mut output = Vec::new();
        for mut socket in [stdout, stderr] {
            if carry::read_answer(&mut socket).is_ok() {
                let _ = (&socket).take(OUTPUT_KEPT).read_to_end(&mut output);
                // What is too much is not waited for: closing the stream tells the command so.
            }
        }
        output.truncate(usize::try_from(OUTPUT_KEPT).unwrap_or(usize::MAX));
        let output = String::from_utf8_lossy(&output).into_owned();
        let _ = happened.send(Happened::CheckOutput(process, output));
    })?;
    Ok(())
}
