//! The page cache, trimmed: what the guest has read and no longer reads is dropped, so that its
//! kernel reports the memory as free and the host takes it back. The files are in the host's page
//! cache, or on its disks, all the same.
//!
//! `policy` decides when and how much; here are the timer that drives it, and the kernel's figures
//! and its reclaim (`memory.reclaim` of the root cgroup), which takes the pages that were used
//! least. In a guest that does nothing, a look is a timer and one system call, every few seconds.
//!
//! Not trimmed are dirty pages, which the kernel writes back by itself, and pages that are mapped,
//! such as the programs that run.

mod policy;

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io;
use rustix::system::sysinfo;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use policy::{Cache, Memory, Policy};

const STATISTICS: &str = "/cgroup/memory.stat";
const DISKS: &str = "/cgroup/io.stat";
const RECLAIM: &str = "/cgroup/memory.reclaim";

const PAGE_SIZE: u64 = 4096;

/// Trims the page cache from time to time, by the agent's loop.
#[derive(Debug)]
pub(crate) struct Trim {
    timer: OwnedFd,
    policy: Policy,
}

impl Trim {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let trim = Self { timer, policy: Policy::default() };
        trim.wake_in(policy::FIRST_LOOK)?;
        Ok(trim)
    }

    /// Readable when [`Self::on_timer`] has something to do.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    /// Looks, and perhaps drops a piece; never more than what takes a moment.
    pub(crate) fn on_timer(&mut self) -> io::Result<()> {
        let wait = self.policy.turn(Instant::now(), &Kernel);
        // Setting the timer takes its being readable back.
        self.wake_in(wait)
    }

    fn wake_in(&self, wait: Duration) -> io::Result<()> {
        let wait = Timespec::try_from(wait).map_err(|_| io::Errno::INVAL)?;
        let never_again = Timespec { tv_sec: 0, tv_nsec: 0 };
        let once = Itimerspec { it_interval: never_again, it_value: wait };
        timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &once).map(drop)
    }
}

/// The guest's own kernel.
struct Kernel;

impl Memory for Kernel {
    fn free(&self) -> u64 {
        let info = sysinfo();
        info.freeram.saturating_mul(info.mem_unit.max(1).into())
    }

    fn cache(&self) -> Option<Cache> {
        let statistics = fs::read_to_string(STATISTICS).ok()?;
        let disks = fs::read_to_string(DISKS).ok()?;
        Some(cache(&statistics, &disks))
    }

    fn reclaim(&self, bytes: u64) -> bool {
        fs::write(RECLAIM, bytes.to_string()).is_ok()
    }
}

/// What the files of the root cgroup say.
fn cache(statistics: &str, disks: &str) -> Cache {
    let field = |name: &str| {
        let values =
            statistics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        values.filter_map(|value| value.parse::<u64>().ok()).next().unwrap_or_default()
    };
    let file = field("inactive_file") + field("active_file");
    let dirty = field("file_dirty") + field("file_writeback");
    let words = disks.split_ascii_whitespace();
    let read = words.filter_map(|word| word.strip_prefix("rbytes=")?.parse::<u64>().ok());
    Cache {
        idle: file.saturating_sub(dirty + field("file_mapped")),
        dirty,
        read: read.sum(),
        refaulted: field("workingset_refault_file") * PAGE_SIZE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_come_from_the_root_cgroup_s_files() {
        let statistics = "anon 1\nfile 9000\nfile_mapped 100\nfile_dirty 20\nfile_writeback 3\n\
                          inactive_file 5000\nactive_file 3000\nworkingset_refault_anon 7\n\
                          workingset_refault_file 2\n";
        let disks = "254:0 rbytes=1000 wbytes=5 rios=3 wios=1 dbytes=0 dios=0\n\
                     254:16 rbytes=24 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n";
        let seen = cache(statistics, disks);
        assert_eq!(seen, Cache { idle: 7877, dirty: 23, read: 1024, refaulted: 8192 });
    }

    #[test]
    fn missing_figures_are_nothing_to_trim() {
        assert_eq!(cache("", ""), Cache::default());
        assert_eq!(cache("inactive_file 5\nfile_mapped 9\n", "254:0"), Cache::default());
    }
}
