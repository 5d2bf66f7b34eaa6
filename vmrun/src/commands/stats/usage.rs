//! What a container uses, in Docker's words.

use std::time::Duration;

use agent_protocol::GuestStats;
use serde_json::{Value, json};

use super::super::listing::Listing;
use crate::size::{ByteSize, binary};

/// Shown of a container that does not tell.
const UNKNOWN: &str = "--";

/// Which container it is that uses something.
#[derive(Clone, Debug)]
pub struct Whose {
    /// As the user named it, or its id.
    pub container: String,
    pub id: String,
    pub name: String,
    /// Bytes that it may use.
    pub memory: u64,
}

/// What a container uses now, and what of it is new.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub now: GuestStats,
    /// The CPU time that it had meanwhile, and how long that was.
    pub cpu: (Duration, Duration),
}

impl Usage {
    /// What the guest tells now, and the CPU time of its VM at two looks, so much time apart; the
    /// first look has none before it.
    pub fn between(
        before: Option<Duration>,
        now: GuestStats,
        cpu_time: Duration,
        apart: Duration,
    ) -> Self {
        let used = before.map_or(Duration::ZERO, |before| cpu_time.saturating_sub(before));
        Self { now, cpu: (used, apart) }
    }
}

/// The table of `docker stats`. A container that does not run uses nothing, as in Docker; of one
/// that does not answer nothing is known.
pub fn listing(usages: &[(Whose, Option<Usage>)], no_trunc: bool) -> Listing {
    Listing {
        columns: vec![
            ("CONTAINER ID", "ID"),
            ("NAME", "Name"),
            ("CPU %", "CPUPerc"),
            ("MEM USAGE / LIMIT", "MemUsage"),
            ("MEM %", "MemPerc"),
            ("NET I/O", "NetIO"),
            ("BLOCK I/O", "BlockIO"),
            ("PIDS", "PIDs"),
        ],
        hidden: &[("CONTAINER", "Container")],
        of: "*formatter.statsContext",
        labels: Vec::new(),
        rows: usages.iter().map(|(whose, usage)| row(whose, usage.as_ref(), no_trunc)).collect(),
    }
}

fn row(whose: &Whose, usage: Option<&Usage>, no_trunc: bool) -> Value {
    let id = if no_trunc { &whose.id } else { whose.id.get(..12).unwrap_or(&whose.id) };
    let text = |show: &dyn Fn(&Usage) -> String| usage.map_or_else(|| UNKNOWN.into(), show);
    let pair = |show: &dyn Fn(&Usage) -> [String; 2]| {
        let [one, other] = usage.map_or_else(|| [UNKNOWN.into(), UNKNOWN.into()], show);
        format!("{one} / {other}")
    };
    json!({
        "BlockIO": pair(&|usage| [usage.now.block_read, usage.now.block_written].map(decimal)),
        "CPUPerc": text(&|usage| percent(usage.cpu.0.as_secs_f64(), usage.cpu.1.as_secs_f64())),
        "Container": whose.container,
        "ID": id,
        "MemPerc": text(&|usage| percent(memory(&usage.now) as f64, limit(usage, whose) as f64)),
        "MemUsage": pair(&|usage| [memory(&usage.now), limit(usage, whose)].map(binary)),
        "Name": whose.name,
        "NetIO": pair(&|usage| [usage.now.network_received, usage.now.network_sent].map(decimal)),
        "PIDs": text(&|usage| usage.now.pids.to_string()),
    })
}

/// What it would miss if it were taken away: as Docker, without files that it did not use lately.
fn memory(stats: &GuestStats) -> u64 {
    stats.memory.saturating_sub(stats.inactive_file)
}

/// A container that does not run has no limit.
fn limit(usage: &Usage, whose: &Whose) -> u64 {
    if usage.now.pids == 0 { 0 } else { whose.memory }
}

fn percent(part: f64, whole: f64) -> String {
    let percent = if whole > 0.0 { 100.0 * part / whole } else { 0.0 };
    format!("{percent:.2}%")
}

fn decimal(bytes: u64) -> String {
    ByteSize(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whose() -> Whose {
        Whose {
            container: "web".into(),
            id: "0123456789abcdef".repeat(4),
            name: "web".into(),
            memory: 512 << 20,
        }
    }

    fn usage() -> Usage {
        let now = GuestStats {
            memory: 5 << 20,
            inactive_file: 1 << 20,
            pids: 3,
            network_received: 1_234,
            network_sent: 0,
            block_read: 12_300_000,
            block_written: 4_096,
        };
        let (before, after) = (Duration::from_secs(1), Duration::from_millis(1500));
        Usage::between(Some(before), now, after, Duration::from_secs(1))
    }

    #[test]
    fn table_is_docker_s() {
        let usages = [(whose(), Some(usage())), (whose(), None), (whose(), Some(Usage::default()))];
        assert_eq!(
            listing(&usages, false).show(None).unwrap(),
            "CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O       \
             BLOCK I/O        PIDS\n\
             0123456789ab   web       50.00%    4MiB / 512MiB       0.78%     1.23kB / 0B   \
             12.3MB / 4.1kB   3\n\
             0123456789ab   web       --        -- / --             --        -- / --       \
             -- / --          --\n\
             0123456789ab   web       0.00%     0B / 0B             0.00%     0B / 0B       \
             0B / 0B          0\n"
        );
    }

    #[test]
    fn templates_and_json_have_docker_s_names() {
        let shown = |format| listing(&[(whose(), Some(usage()))], true).show(Some(format)).unwrap();
        assert_eq!(shown("{{.Container}} {{.ID}} {{.PIDs}}"), format!("web {} 3\n", whose().id));
        let json = shown("json");
        for word in ["\"CPUPerc\":\"50.00%\"", "\"MemUsage\":\"4MiB / 512MiB\"", "\"PIDs\":\"3\""] {
            assert!(json.contains(word), "{json}");
        }
    }

    #[test]
    fn first_look_and_a_vm_that_was_started_again_use_no_cpu() {
        let second = Duration::from_secs(1);
        for before in [None, Some(2 * second)] {
            let usage = Usage::between(before, GuestStats::default(), second, second);
            assert_eq!(usage.cpu.0, Duration::ZERO);
        }
        assert_eq!(percent(1.0, 0.0), "0.00%");
    }
}
