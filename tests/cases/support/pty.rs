//! A person at a terminal: `vmrun` with a pseudo-terminal that it controls.

use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{Mode, OFlags},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Termios, Winsize, tcgetattr, tcsetwinsize},
};

use super::{PATIENCE, eventually};

pub struct Terminal {
    master: File,
    slave: OwnedFd,
    screen: Arc<Mutex<Vec<u8>>>,
    pub child: Child,
}

impl Terminal {
    /// Starts a command with a terminal of 24 rows and 80 columns.
    pub fn start(command: &Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("grantpt");
        unlockpt(&master).expect("unlockpt");
        let name = ptsname(&master, Vec::new()).expect("its name");
        // Not to become the terminal of the cases themselves.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = rustix::fs::open(name, flags, Mode::empty()).expect("its other side");
        let clone = || slave.try_clone().expect("a descriptor");
        // setsid makes the terminal the command's own, so that it hears of window changes.
        let mut with_terminal = Command::new("setsid");
        with_terminal.args(["--ctty", "--wait"]).arg(command.get_program());
        with_terminal.args(command.get_args());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                with_terminal.env(name, value);
            }
        }
        with_terminal.stdin(clone()).stdout(clone()).stderr(clone());
        let mut terminal = Self {
            screen: Arc::default(),
            child: with_terminal.spawn().expect("setsid starts"),
            master: File::from(master),
            slave,
        };
        terminal.resize(24, 80);
        let (mut from, screen) =
            (terminal.master.try_clone().expect("a descriptor"), Arc::clone(&terminal.screen));
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut chunk) {
                screen.lock().expect("the screen").extend(&chunk[..count]);
            }
        });
        terminal
    }

    pub fn resize(&mut self, rows: u16, columns: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.master, size).expect("a size");
    }

    pub fn types(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("typing");
    }

    /// Everything that was shown.
    pub fn screen(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().expect("the screen")).into_owned()
    }

    #[track_caller]
    pub fn shows(&self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.screen().contains(text) {
            assert!(Instant::now() < end, "no {text:?} on the screen:\n{}", self.screen());
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn settings(&self) -> Termios {
        tcgetattr(&self.slave).expect("settings")
    }

    /// Waits for the command's end.
    pub fn status(&mut self) -> i32 {
        let mut status = None;
        eventually("the end of the command", || {
            status = self.child.try_wait().expect("a child");
            status.is_some()
        });
        status.and_then(|status| status.code()).unwrap_or(-1)
    }
}
