//! `vmrun top`: what runs in a container, as `ps` would show it.

mod columns;
mod options;

use agent_protocol::ProcessEntry;

use super::table;
use columns::Moment;
use options::Shown;

/// Docker lays this table out with columns at least this wide.
const NARROWEST: usize = 20;

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
        let now: jiff::Zoned = "2026-03-02T10:30:00[UTC]".parse().unwrap();
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
