//! Waiting for something to happen in folders.

use std::{io, mem::MaybeUninit, os::fd::OwnedFd, path::PathBuf, thread, time::Duration};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{self, CreateFlags, WatchFlags},
    io::Errno,
};

/// How often to look where the kernel has no watch left for this user.
const LOOK: Duration = Duration::from_millis(200);

/// Folders under watch, those too that are not there yet.
#[derive(Debug)]
pub struct Watch {
    inotify: Option<OwnedFd>,
    folders: Vec<(PathBuf, bool)>,
}

impl Watch {
    /// Watches folders from now on.
    pub fn new(folders: impl IntoIterator<Item = PathBuf>) -> Self {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        let folders = folders.into_iter().map(|folder| (folder, false)).collect();
        let mut watch = Self { inotify, folders };
        watch.begin();
        watch
    }

    /// Waits until something has changed since it was asked last, or for as long as this.
    pub fn wait(&mut self, most: Duration) -> io::Result<()> {
        let begun = self.begin();
        let Some(inotify) = &self.inotify else {
            thread::sleep(most.min(LOOK));
            return Ok(());
        };
        // What happened in a folder before it was watched is a change, too.
        let wait = if begun { Duration::ZERO } else { most };
        let timeout = Timespec::try_from(wait).unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        match poll(&mut [PollFd::new(inotify, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut events = inotify::Reader::new(inotify, &mut buffer);
        while events.next().is_ok() {}
        Ok(())
    }

    /// Watches the folders that were not there before; whether there are such.
    fn begin(&mut self) -> bool {
        let Some(inotify) = &self.inotify else { return false };
        let what = WatchFlags::MODIFY
            | WatchFlags::CREATE
            | WatchFlags::MOVED_TO
            | WatchFlags::DELETE_SELF
            | WatchFlags::MOVE_SELF
            | WatchFlags::ONLYDIR;
        let mut begun = false;
        for (folder, watched) in self.folders.iter_mut().filter(|(_, watched)| !watched) {
            *watched = inotify::add_watch(inotify, folder.as_path(), what).is_ok();
            begun |= *watched;
        }
        begun
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Instant};

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn change_ends_the_wait() {
        let folder = tempfile::tempdir().unwrap();
        let later = folder.path().join("later");
        let mut watch = Watch::new([folder.path().to_owned(), later.clone()]);
        let begun = Instant::now();
        fs::create_dir(&later).unwrap();
        watch.wait(LONG).unwrap();
        // The new folder is watched as well, what was written before included.
        fs::write(later.join("file"), "x").unwrap();
        watch.wait(LONG).unwrap();
        let writer = thread::spawn(move || {
            thread::sleep(Duration::from_millis(30));
            fs::write(later.join("file"), "y").unwrap();
        });
        watch.wait(LONG).unwrap();
        writer.join().unwrap();
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn wait_ends_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new([folder.path().to_owned()]);
        watch.wait(Duration::from_millis(1)).unwrap();
    }
}
