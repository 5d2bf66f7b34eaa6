//! What the container uses and what runs in it, gathered from its cgroup and from `/proc`.
//!
//! To be called in a process of its own: reading `/proc` waits for locks that a process of the
//! container may hold. The agent's own `/proc` is not mounted anywhere ([`open_proc`]).
//!
//! A process is the container's if it has a number in a PID namespace below the agent's. Everything
//! it says of itself (name, arguments) is its own to choose.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use agent_protocol::{GuestStats, MAX_COMMAND_LINE, MAX_LISTED, ProcessEntry, write_frame};
use rustix::fs::{Dir, Mode, OFlags, openat};
use rustix::io::{Errno, read};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen};
use rustix::param::page_size;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// Longest file that is read, in bytes.
const MAX_FILE: usize = 64 << 10;

/// Milliseconds of the kernel's unit of time in `/proc`, on every machine.
const TICK: u64 = 10;

/// `/proc` as the agent's PID namespace has it, without a place in any tree.
pub(crate) fn open_proc() -> rustix::io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let mount = fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)?;
    // That one only stands for a place; this one can be listed, too.
    openat(mount, c".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// What the container of this cgroup uses. What the kernel does not tell is 0.
pub(crate) fn gather(cgroup: BorrowedFd<'_>, proc: BorrowedFd<'_>) -> GuestStats {
    let file = |name| read_file(cgroup, name).unwrap_or_default();
    let (network_received, network_sent) =
        network_bytes(&read_file(proc, "net/dev").unwrap_or_default());
    let io = file("io.stat");
    GuestStats {
        memory: number(&file("memory.current")),
        inactive_file: keyed(&file("memory.stat"), "inactive_file"),
        pids: number(&file("pids.current")),
        network_received,
        network_sent,
        block_read: io_bytes(&io, "rbytes="),
        block_written: io_bytes(&io, "wbytes="),
    }
}

/// Writes a frame for each process of the container, with its user's name. One that ends meanwhile
/// is left out.
pub(crate) fn processes(
    proc: BorrowedFd<'_>,
    users: &BTreeMap<u32, Vec<u8>>,
    out: &mut impl Write,
) -> io::Result<()> {
    let now = milliseconds(clock_gettime(ClockId::Boottime));
    let mut listed = 0;
    for entry in Dir::read_from(proc)? {
        let entry = entry?;
        let name = entry.file_name().to_str().unwrap_or_default();
        if listed == MAX_LISTED || !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let Some(mut process) = process(proc, name, now) else { continue };
        if let Some(user) = users.get(&process.uid) {
            process.user.clone_from(user);
        }
        write_frame(out, &process).map_err(io::Error::other)?;
        listed += 1;
    }
    Ok(())
}

/// A process of the container; `None` for another, or one that is gone.
fn process(proc: BorrowedFd<'_>, pid: &str, now: u64) -> Option<ProcessEntry> {
    let status = read_file(proc, &format!("{pid}/status")).ok()?;
    let inner = |field| field_numbers(&status, field).nth(1);
    let own = inner("NSpid:")?;
    let stat = read_file(proc, &format!("{pid}/stat")).ok()?;
    let stat = Stat::parse(&stat)?;
    let mut command_line = read_file(proc, &format!("{pid}/cmdline")).unwrap_or_default();
    command_line.truncate(MAX_COMMAND_LINE);
    let parent = field_numbers(&status, "PPid:").next().and_then(|parent| {
        let status = read_file(proc, &format!("{parent}/status")).ok()?;
        field_numbers(&status, "NSpid:").nth(1)
    });
    // The real, the effective, the saved, and that of the file system.
    let effective = |field| field_numbers(&status, field).nth(1).unwrap_or_default();
    Some(ProcessEntry {
        pid: own,
        ppid: parent.unwrap_or_default(),
        pgid: inner("NSpgid:").unwrap_or_default(),
        sid: inner("NSsid:").unwrap_or_default(),
        foreground: stat.is_foreground(),
        uid: effective("Uid:"),
        gid: effective("Gid:"),
        user: Vec::new(),
        state: stat.state,
        nice: stat.field(19).and_then(|nice| i8::try_from(nice).ok()).unwrap_or_default(),
        threads: stat.unsigned(20).try_into().unwrap_or_default(),
        tty: stat.field(7).and_then(|tty| u32::try_from(tty).ok()).unwrap_or_default(),
        age_msec: now.saturating_sub(stat.unsigned(22).saturating_mul(TICK)),
        cpu_msec: stat.unsigned(14).saturating_add(stat.unsigned(15)).saturating_mul(TICK),
        virtual_bytes: stat.unsigned(23),
        resident_bytes: stat
            .unsigned(24)
            .saturating_mul(u64::try_from(page_size()).unwrap_or_default()),
        name: stat.name,
        command_line,
    })
}

/// `/proc/<pid>/stat`; the name in it may have anything in it, parentheses and newlines included.
struct Stat {
    name: Vec<u8>,
    state: u8,
    /// From the fourth field on.
    numbers: Vec<i64>,
}

impl Stat {
    fn parse(text: &[u8]) -> Option<Self> {
        let open = text.iter().position(|byte| *byte == b'(')?;
        let close = text.iter().rposition(|byte| *byte == b')')?;
        let name = text.get(open.checked_add(1)?..close)?.to_vec();
        let mut words = words(text.get(close.checked_add(1)?..)?);
        let state = *words.next()?.first()?;
        let numbers = words.map(|word| parse(word).unwrap_or(i64::MAX)).collect();
        Some(Self { name, state, numbers })
    }

    /// A field by its number in proc(5).
    fn field(&self, number: usize) -> Option<i64> {
        self.numbers.get(number.checked_sub(4)?).copied()
    }

    fn unsigned(&self, number: usize) -> u64 {
        self.field(number).and_then(|value| u64::try_from(value).ok()).unwrap_or_default()
    }

    /// Whether its process group is the one that its terminal has in the foreground.
    fn is_foreground(&self) -> bool {
        self.field(8).is_some_and(|group| group > 0 && self.field(5) == Some(group))
    }
}

/// The numbers that follow a name at the beginning of a line.
fn field_numbers(text: &[u8], field: &str) -> impl Iterator<Item = u32> {
    let line = lines(text).find_map(|line| line.strip_prefix(field.as_bytes()));
    words(line.unwrap_or_default()).map_while(parse)
}

/// Received and sent bytes of all interfaces but loopback, from `/proc/net/dev`.
fn network_bytes(text: &[u8]) -> (u64, u64) {
    let mut sum = (0_u64, 0_u64);
    for line in lines(text) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, counters) = line.split_at(colon);
        if name.trim_ascii() == b"lo" {
            continue;
        }
        let mut counters = words(counters.get(1..).unwrap_or_default());
        let mut counter =
            |skipped| counters.nth(skipped).and_then(parse::<u64>).unwrap_or_default();
        sum = (sum.0.saturating_add(counter(0)), sum.1.saturating_add(counter(7)));
    }
    sum
}

/// The sum of a counter over all devices, from `io.stat`.
fn io_bytes(text: &[u8], key: &str) -> u64 {
    let counts = words(text).filter_map(|word| word.strip_prefix(key.as_bytes()));
    counts.filter_map(parse::<u64>).fold(0, u64::saturating_add)
}

/// The number after a name of its own line.
fn keyed(text: &[u8], key: &str) -> u64 {
    lines(text)
        .filter_map(|line| line.strip_prefix(key.as_bytes())?.strip_prefix(b" "))
        .find_map(parse)
        .unwrap_or_default()
}

fn number(text: &[u8]) -> u64 {
    parse(text.trim_ascii()).unwrap_or_default()
}

fn parse<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

fn milliseconds(time: Timespec) -> u64 {
    let (seconds, nanoseconds) = (time.tv_sec, time.tv_nsec / 1_000_000);
    let seconds = u64::try_from(seconds).unwrap_or_default();
    seconds.saturating_mul(1000).saturating_add(u64::try_from(nanoseconds).unwrap_or_default())
}

fn read_file(folder: BorrowedFd<'_>, name: &str) -> rustix::io::Result<Vec<u8>> {
    let file = openat(folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut contents = Vec::new();
    let mut chunk = [0; 4096];
    while contents.len() < MAX_FILE {
        match read(&file, &mut chunk) {
            Ok(0) => break,
            Ok(count) => contents.extend(chunk.iter().take(count)),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;

    use agent_protocol::read_frame;

    use super::*;

    const STATUS: &str = "Name:\tcat\nState:\tS (sleeping)\nPPid:\t11\nUid:\t0\t1000\t0\t0\n\
        Gid:\t0\t100\t0\t0\nNSpid:\t12\t7\nNSpgid:\t12\t7\nNSsid:\t11\t1\n";
    const STAT: &str = "12 (a) b\n(c) S 11 12 11 34816 12 4194304 1 2 3 4 250 50 0 0 20 0 3 0 1000 \
        8192000 150 18446744073709551615 1 1 0\n";

    fn put(folder: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn list(folder: &Path) -> Vec<ProcessEntry> {
        let mut out = Vec::new();
        let proc = File::open(folder).unwrap();
        let users = [(0, b"root".to_vec()), (1000, b"other".to_vec())].into();
        processes(proc.as_fd(), &users, &mut out).unwrap();
        let mut frames = out.as_slice();
        std::iter::from_fn(|| read_frame(&mut frames).unwrap()).collect()
    }

    #[test]
    fn processes_of_the_container_are_told_by_its_own_numbers() {
        let proc = tempfile::tempdir().unwrap();
        put(
            proc.path(),
            &[
                ("1/status", "PPid:\t0\nNSpid:\t1\n"),
                ("1/stat", STAT),
                ("11/status", "PPid:\t1\nUid:\t0\t0\t0\t0\nNSpid:\t11\t1\n"),
                ("11/stat", STAT),
                ("12/status", STATUS),
                ("12/stat", STAT),
                ("12/cmdline", "cat\0-n\0"),
                ("13/status", "PPid:\t11\nNSpid:\t13\t9\n"),
                ("uptime", "1 1"),
            ],
        );
        let mut found = list(proc.path());
        found.sort_by_key(|process| process.pid);
        // Not the agent, nor the one that has ended.
        assert_eq!(found.iter().map(|process| process.pid).collect::<Vec<_>>(), [1, 7]);
        assert_eq!((found[0].ppid, found[0].user.as_slice()), (0, &b"root"[..]));
        let cat = found.remove(1);
        let expected = ProcessEntry {
            pid: 7,
            ppid: 1,
            pgid: 7,
            sid: 1,
            foreground: true,
            uid: 1000,
            gid: 100,
            user: b"other".to_vec(),
            state: b'S',
            nice: 0,
            threads: 3,
            tty: 34816,
            age_msec: cat.age_msec,
            cpu_msec: 3_000,
            virtual_bytes: 8_192_000,
            resident_bytes: 150 * 4096,
            name: b"a) b\n(c".to_vec(),
            command_line: b"cat\0-n\0".to_vec(),
        };
        assert_eq!(cat, expected);
    }

    #[test]
    fn long_command_lines_are_cut() {
        let proc = tempfile::tempdir().unwrap();
        let line = "x".repeat(2 * MAX_COMMAND_LINE);
        put(proc.path(), &[("12/status", STATUS), ("12/stat", STAT), ("12/cmdline", &line)]);
        assert_eq!(list(proc.path())[0].command_line.len(), MAX_COMMAND_LINE);
    }

    #[test]
    fn use_is_read_from_the_cgroup() {
        let folder = tempfile::tempdir().unwrap();
        put(
            folder.path(),
            &[
                ("memory.current", "4096\n"),
                ("memory.stat", "anon 1\nfile 2\ninactive_file 1024\n"),
                ("pids.current", "3\n"),
                ("io.stat", "254:0 rbytes=100 wbytes=0 rios=1\n254:16 rbytes=20 wbytes=5 rios=2\n"),
                (
                    "net/dev",
                    "Inter-|   Receive | Transmit\n face |bytes packets\n\
                     \u{20}   lo: 9 9 0 0 0 0 0 0 9 9 0 0 0 0 0 0\n\
                     \u{20} eth0:1000 1 0 0 0 0 0 0 2000 1 0 0 0 0 0 0\n",
                ),
            ],
        );
        let fd = File::open(folder.path()).unwrap();
        let expected = GuestStats {
            memory: 4096,
            inactive_file: 1024,
            pids: 3,
            network_received: 1000,
            network_sent: 2000,
            block_read: 120,
            block_written: 5,
        };
        assert_eq!(gather(fd.as_fd(), fd.as_fd()), expected);
    }

    #[test]
    fn what_the_kernel_does_not_tell_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let fd = File::open(folder.path()).unwrap();
        assert_eq!(gather(fd.as_fd(), fd.as_fd()), GuestStats::default());
    }
}
