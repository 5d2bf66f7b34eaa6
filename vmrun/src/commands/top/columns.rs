//! What `ps` can show of a process.

use agent_protocol::ProcessEntry;
use jiff::{SignedDuration, Zoned};

/// What a column needs to know beside the process.
pub struct Moment {
    /// In the user's time zone.
    pub now: Zoned,
    /// Bytes of the guest's memory.
    pub memory: u64,
}

/// A column: the names it goes by after `-o`, its header, what it shows.
pub struct Column {
    names: &'static [&'static str],
    pub header: &'static str,
    pub show: fn(&ProcessEntry, &Moment) -> String,
}

static COLUMNS: &[Column] = &[
    column(&["pid", "tgid"], "PID", |process, _| process.pid.to_string()),
    column(&["ppid"], "PPID", |process, _| process.ppid.to_string()),
    column(&["pgid", "pgrp"], "PGID", |process, _| process.pgid.to_string()),
    column(&["sid", "sess", "session"], "SID", |process, _| process.sid.to_string()),
    column(&["user", "euser", "uname"], "USER", |process, _| user(process)),
    column(&["uid", "euid"], "UID", |process, _| process.uid.to_string()),
    column(&["gid", "egid"], "GID", |process, _| process.gid.to_string()),
    column(&["%cpu", "pcpu"], "%CPU", |process, _| tenths(cpu_share(process))),
    column(&["c", "cp"], "C", |process, _| (cpu_share(process) / 10).min(99).to_string()),
    column(&["%mem", "pmem"], "%MEM", |process, moment| tenths(memory_share(process, moment))),
    column(&["vsz", "vsize"], "VSZ", |process, _| kib(process.virtual_bytes)),
    column(&["rss", "rssize", "rsz"], "RSS", |process, _| kib(process.resident_bytes)),
    column(&["tty", "tt", "tname"], "TTY", |process, _| terminal(process.tty)),
    column(&["stat"], "STAT", |process, _| state(process)),
    column(&["s", "state"], "S", |process, _| letter(process)),
    column(&["ni", "nice"], "NI", |process, _| process.nice.to_string()),
    column(&["nlwp", "thcount"], "NLWP", |process, _| process.threads.to_string()),
    column(&["stime", "start_time"], "STIME", began),
    column(&["start", "bsdstart"], "START", began),
    column(&["lstart"], "STARTED", |process, moment| {
        start(process, moment).strftime("%a %b %e %H:%M:%S %Y").to_string()
    }),
    column(&["etime"], "ELAPSED", |process, _| elapsed(process.age_msec / 1000)),
    column(&["etimes"], "ELAPSED", |process, _| (process.age_msec / 1000).to_string()),
    column(&["time", "cputime"], "TIME", |process, _| cpu_time(process.cpu_msec / 1000)),
    column(&["bsdtime"], "TIME", |process, _| {
        let seconds = process.cpu_msec / 1000;
        format!("{}:{:02}", seconds / 60, seconds % 60)
    }),
    column(&["comm", "ucmd", "ucomm"], "COMMAND", |process, _| harmless(&process.name)),
    column(&["args", "command"], "COMMAND", |process, _| command(process)),
    column(&["cmd"], "CMD", |process, _| command(process)),
];

const fn column(
    names: &'static [&'static str],
    header: &'static str,
    show: fn(&ProcessEntry, &Moment) -> String,
) -> Column {
    Column { names, header, show }
}

/// The column of this name.
pub fn find(name: &str) -> Option<&'static Column> {
    COLUMNS.iter().find(|column| column.names.contains(&name))
}

/// The columns of these names, all of them known.
pub fn known(names: &str) -> Vec<&'static Column> {
    names.split(',').filter_map(find).collect()
}

/// By name; root has one in an image without users, too.
fn user(process: &ProcessEntry) -> String {
    match (process.user.as_slice(), process.uid) {
        ([], 0) => "root".into(),
        ([], uid) => uid.to_string(),
        (name, _) => harmless(name),
    }
}

/// CPU time of the life so far, in thousandths.
fn cpu_share(process: &ProcessEntry) -> u64 {
    process.cpu_msec.saturating_mul(1000).checked_div(process.age_msec).unwrap_or(0)
}

fn memory_share(process: &ProcessEntry, moment: &Moment) -> u64 {
    process.resident_bytes.saturating_mul(1000).checked_div(moment.memory).unwrap_or(0)
}

fn tenths(thousandths: u64) -> String {
    format!("{}.{}", thousandths / 10, thousandths % 10)
}

fn kib(bytes: u64) -> String {
    (bytes / 1024).to_string()
}

/// The name of a terminal by its device number.
fn terminal(device: u32) -> String {
    let (major, minor) = (device >> 8 & 0xfff, (device & 0xff) | (device >> 12 & 0xf_ff00));
    match (major, minor) {
        (4, 0..64) => format!("tty{minor}"),
        (4, _) => format!("ttyS{}", minor - 64),
        (5, 1) => "console".into(),
        (136..=143, _) => format!("pts/{}", minor + 256 * (major - 136)),
        _ => "?".into(),
    }
}

fn letter(process: &ProcessEntry) -> String {
    harmless(&[process.state])
}

fn state(process: &ProcessEntry) -> String {
    let mut state = letter(process);
    for (is_so, letter) in [
        (process.nice < 0, '<'),
        (process.nice > 0, 'N'),
        (process.sid != 0 && process.sid == process.pid, 's'),
        (process.threads > 1, 'l'),
        (process.foreground, '+'),
    ] {
        if is_so {
            state.push(letter);
        }
    }
    state
}

fn start(process: &ProcessEntry, moment: &Moment) -> Zoned {
    let age = SignedDuration::from_millis(process.age_msec.try_into().unwrap_or(i64::MAX));
    moment.now.checked_sub(age).unwrap_or_else(|_| moment.now.clone())
}

/// The time of today, the day of this year, or the year.
fn began(process: &ProcessEntry, moment: &Moment) -> String {
    let start = start(process, moment);
    let format = if start.year() != moment.now.year() {
        "%Y"
    } else if start.day_of_year() != moment.now.day_of_year() {
        "%b%d"
    } else {
        "%H:%M"
    };
    start.strftime(format).to_string()
}

/// `[days-]hours:minutes:seconds`
fn cpu_time(seconds: u64) -> String {
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let time = format!("{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    if days > 0 { format!("{days}-{time}") } else { time }
}

/// `[[days-]hours:]minutes:seconds`
fn elapsed(seconds: u64) -> String {
    if seconds >= 3600 {
        return cpu_time(seconds);
    }
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

/// The arguments, or the name of one that has none any more.
fn command(process: &ProcessEntry) -> String {
    let line = process.command_line.strip_suffix(b"\0").unwrap_or(&process.command_line);
    if line.is_empty() {
        return format!("[{}]", harmless(&process.name));
    }
    let words: Vec<_> = line.split(|byte| *byte == 0).map(harmless).collect();
    words.join(" ")
}

/// Text of the container's, without what a terminal would act on; `ps` shows a question mark, too.
fn harmless(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment() -> Moment {
        Moment { now: "2026-03-02T10:30:00[UTC]".parse().unwrap(), memory: 1 << 30 }
    }

    fn process() -> ProcessEntry {
        ProcessEntry {
            pid: 7,
            ppid: 1,
            sid: 7,
            state: b'S',
            threads: 2,
            tty: 34816,
            age_msec: 100_000,
            cpu_msec: 12_340,
            virtual_bytes: 8 << 20,
            resident_bytes: 16 << 20,
            foreground: true,
            name: b"sh".to_vec(),
            command_line: b"sh\0-c\0echo \x1b[2J\xff\0".to_vec(),
            ..ProcessEntry::default()
        }
    }

    fn show(name: &str, process: &ProcessEntry) -> String {
        (find(name).unwrap().show)(process, &moment())
    }

    #[test]
    fn processes_read_as_ps_has_them() {
        for (name, expected) in [
            ("pid", "7"),
            ("user", "root"),
            ("pcpu", "12.3"),
            ("c", "12"),
            ("pmem", "1.5"),
            ("vsz", "8192"),
            ("rss", "16384"),
            ("tty", "pts/0"),
            ("stat", "Ssl+"),
            ("s", "S"),
            ("time", "00:00:12"),
            ("bsdtime", "0:12"),
            ("etime", "01:40"),
            ("stime", "10:28"),
            ("comm", "sh"),
            ("args", "sh -c echo ?[2J\u{fffd}"),
        ] {
            assert_eq!(show(name, &process()), expected, "{name}");
        }
    }

    #[test]
    fn start_is_a_time_a_day_or_a_year() {
        let hours = |hours: u64| ProcessEntry { age_msec: hours * 3_600_000, ..process() };
        assert_eq!(show("stime", &hours(1)), "09:30");
        assert_eq!(show("stime", &hours(24)), "Mar01");
        assert_eq!(show("stime", &hours(24 * 100)), "2025");
        assert_eq!(show("etime", &hours(50)), "2-02:00:00");
    }

    #[test]
    fn what_a_guest_may_say_breaks_nothing() {
        let process = ProcessEntry {
            age_msec: u64::MAX,
            cpu_msec: u64::MAX,
            virtual_bytes: u64::MAX,
            resident_bytes: u64::MAX,
            tty: u32::MAX,
            user: b"\x1b[2Jroot\n".to_vec(),
            ..ProcessEntry::default()
        };
        for column in COLUMNS {
            let shown = (column.show)(&process, &moment());
            assert!(!shown.contains(char::is_control), "{shown:?}");
        }
        let nothing = Moment { memory: 0, ..moment() };
        assert_eq!((find("pmem").unwrap().show)(&process, &nothing), "0.0");
    }

    #[test]
    fn terminals_go_by_their_device_numbers() {
        for (device, name) in [
            (0, "?"),
            (0x8801, "pts/1"),
            (0x8900, "pts/256"),
            (0x0401, "tty1"),
            (0x0501, "console"),
        ] {
            assert_eq!(terminal(device), name);
        }
    }
}
