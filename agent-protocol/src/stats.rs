//! What a container uses and what runs in it, as the guest tells it: one [`GuestStats`] frame when
//! that is asked for, a [`ProcessEntry`] frame for each process.
//!
//! The guest may say anything: a frame is bounded by [`MAX_FRAME`](crate::MAX_FRAME), a list by the
//! one who reads it, [`MAX_LISTED`] entries.

use serde::{Deserialize, Serialize};

/// Most processes of a list; as many as there can be in a guest by default.
pub const MAX_LISTED: usize = 32_768;

/// Longest command line told, in bytes.
pub const MAX_COMMAND_LINE: usize = 4096;

/// What a container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestStats {
    /// Bytes of memory, its files in the page cache included.
    pub memory: u64,
    /// Of these, files that were not used lately: memory that it would not miss.
    pub inactive_file: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Bytes through its network interfaces, loopback left out.
    pub network_received: u64,
    pub network_sent: u64,
    /// Bytes of its disks.
    pub block_read: u64,
    pub block_written: u64,
}

/// A process of a container, by the container's own numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessEntry {
    pub pid: u32,
    /// 0 where the parent is not in the container.
    pub ppid: u32,
    /// Process group and session; 0 if not in the container.
    pub pgid: u32,
    pub sid: u32,
    /// Its process group is the one that its terminal has in the foreground.
    pub foreground: bool,
    pub uid: u32,
    pub gid: u32,
    /// By the container's `/etc/passwd`; empty where that does not say it.
    pub user: Vec<u8>,
    /// The kernel's letter: `R`, `S`, `D`, `Z`, `T` …; 0 if it has none.
    pub state: u8,
    pub nice: i8,
    pub threads: u32,
    /// The kernel's device number of its terminal, 0 for none.
    pub tty: u32,
    /// Since it was started, and how much of that it had a CPU, in milliseconds.
    pub age_msec: u64,
    pub cpu_msec: u64,
    /// Bytes of address space, and of memory.
    pub virtual_bytes: u64,
    pub resident_bytes: u64,
    /// The name of the program, cut by the kernel.
    pub name: Vec<u8>,
    /// Each argument ended by a NUL, the first [`MAX_COMMAND_LINE`] bytes of them; empty for one
    /// that has ended.
    pub command_line: Vec<u8>,
}
