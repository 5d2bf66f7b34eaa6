//! `vmrun top`: what runs in a container, as `ps` would show it.

mod columns;
mod options;

use std::io::Read;

use agent_protocol::{MAX_COMMAND_LINE, MAX_LISTED, ProcessEntry, Task, read_frame};
use anyhow::{Context, Result, bail};
use jiff::Zoned;

use super::{Host, print, table};
use crate::{cli::TopArgs, client::Session, container::Status};
use columns::Moment;
use options::Shown;

/// Docker lays this table out with columns at least this wide.
const NARROWEST: usize = 20;

/// Bytes of a guest's list that are taken.
const MAX_LIST: u64 = 32 << 20;

/// Longest name of a user or a program that is taken, in bytes.
const MAX_NAME: usize = 256;

pub fn top(args: &TopArgs) -> Result<()> {
    let shown = options::parse(&args.options)?;
    let host = Host::open()?;
    let container = host.containers.find(&args.container)?;
    let id = &container.record.id;
    match host.containers.status(&container)? {
        Status::Running { .. } | Status::Paused { .. } => {}
        Status::Restarting { .. } => {
            bail!("Container {id} is restarting, wait until the container is running");
        }
        Status::Created | Status::Exited { .. } => bail!("Container {id} is not running"),
    }
    let session = Session::with_running(&host.paths, &container)?;
    let mut processes = read(session.read(Task::Processes)?)?;
    let memory = container.record.resources.memory_mib << 20;
    let moment = Moment { now: Zoned::now(), memory };
    print(&layout(&shown, &mut processes, &moment))
}

/// Reads a guest's list, as much as a list can be.
fn read(from: impl Read) -> Result<Vec<ProcessEntry>> {
    let mut from = from.take(MAX_LIST);
    let mut processes = Vec::new();
    loop {
        let process = read_frame(&mut from).context("the guest's list cannot be understood")?;
        let Some(mut process): Option<ProcessEntry> = process else { return Ok(processes) };
        if processes.len() == MAX_LISTED {
            bail!("the guest's list does not end");
        }
        process.user.truncate(MAX_NAME);
        process.name.truncate(MAX_NAME);
        process.command_line.truncate(MAX_COMMAND_LINE);
        processes.push(process);
    }
}

/// Processes as a table, in the order of their numbers.
fn layout(shown: &[Shown], processes: &mut [ProcessEntry], moment: &Moment) -> String {
    processes.sort_by_key(|process| process.pid);
    let mut lines = vec![shown.iter().map(|shown| shown.header.clone()).collect::<Vec<_>>()];
    let row = |process: &ProcessEntry| {
        shown.iter().map(|shown| (shown.column.show)(process, moment)).collect()
    };
    lines.extend(processes.iter().map(row));
    table::layout_with(NARROWEST, &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `threats.md` row 28.
    #[test]
    fn row28_list_without_end_is_given_up() {
        let entry = ProcessEntry { command_line: vec![b'x'; 8192], ..ProcessEntry::default() };
        let frame = agent_protocol::encode(&entry).unwrap();
        let list = read(frame.repeat(3).as_slice()).unwrap();
        assert!(list.len() == 3 && list[0].command_line.len() == MAX_COMMAND_LINE);
        assert!(read(frame.repeat(5_000).as_slice()).is_err());
        let short = agent_protocol::encode(&ProcessEntry::default()).unwrap();
        assert!(read(short.repeat(MAX_LISTED + 1).as_slice()).is_err());
        assert!(read(&short[..5]).is_err());
    }

    #[test]
    fn table_is_docker_s() {
        let process = |pid, ppid, line: &[u8]| ProcessEntry {
            pid,
            ppid,
            user: b"root".to_vec(),
            age_msec: 60_000,
            command_line: line.to_vec(),
            ..ProcessEntry::default()
        };
        let mut processes = [process(12, 1, b"sleep\x0060\0"), process(1, 0, b"sh\0")];
        let now: Zoned = "2026-03-02T10:30:00[UTC]".parse().unwrap();
        let moment = Moment { now, memory: 1 << 30 };
        let shown = options::parse(&[]).unwrap();
        assert_eq!(
            layout(&shown, &mut processes, &moment),
            "UID                 PID                 PPID                C                   \
             STIME               TTY                 TIME                CMD\n\
             root                1                   0                   0                   \
             10:29               ?                   00:00:00            sh\n\
             root                12                  1                   0                   \
             10:29               ?                   00:00:00            sleep 60\n"
        );
    }
}
