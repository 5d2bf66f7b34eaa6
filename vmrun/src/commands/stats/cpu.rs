//! CPU time as the host counts it. A guest's own clocks run on while its VM is held back, by
//! `--cpus` for one, so what it tells is not what it was given.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

/// What the threads of a process's children have used, those that have ended left out.
pub fn time_of_children(process: u32) -> io::Result<Duration> {
    let mut total = Duration::ZERO;
    for thread in threads(process)? {
        let children = match fs::read_to_string(thread.join("children")) {
            Err(_) if !thread.exists() => continue,
            // A kernel without CONFIG_PROC_CHILDREN.
            children => children?,
        };
        for child in children.split_ascii_whitespace().filter_map(|child| child.parse().ok()) {
            // One that has ended meanwhile used nothing that matters.
            total += time_of(child).unwrap_or_default();
        }
    }
    Ok(total)
}

/// proc(5), `/proc/pid/task/tid/schedstat`: nanoseconds on a CPU, then what else the scheduler knows.
fn time_of(process: u32) -> io::Result<Duration> {
    let time = |thread: &Path| {
        let told = fs::read_to_string(thread.join("schedstat")).unwrap_or_default();
        let used = told.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
        Duration::from_nanos(used.unwrap_or_default())
    };
    Ok(threads(process)?.iter().map(|thread| time(thread)).sum())
}

/// The folders of a process's threads.
fn threads(process: u32) -> io::Result<Vec<PathBuf>> {
    let threads = fs::read_dir(format!("/proc/{process}/task"))?;
    threads.map(|thread| Ok(thread?.path())).collect()
}

#[cfg(test)]
mod tests {
    use std::{process::Command, thread, time::Instant};

    use super::*;

    #[test]
    fn child_that_burns_is_seen_to() {
        let start = Instant::now();
        let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        let mut used = Duration::ZERO;
        while used < Duration::from_millis(50) && start.elapsed() < Duration::from_secs(60) {
            thread::sleep(Duration::from_millis(10));
            used = time_of(child.id()).unwrap();
        }
        // The kernel may leave a child out while others end (proc(5)), and other tests have some.
        let of_children = || time_of_children(std::process::id()).unwrap();
        let seen = (0..100).any(|_| of_children() >= used);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(used >= Duration::from_millis(50) && used <= start.elapsed(), "{used:?}");
        assert!(seen);
    }

    #[test]
    fn process_that_is_gone_is_an_error() {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(time_of_children(child.id()).is_err());
    }
}
