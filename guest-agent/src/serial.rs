//! The serial port, for faults of the agent alone: opened when there is something to say. In the
//! normal path nothing is written, as every byte is an exit to the VMM.

use std::panic;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::write;

/// Exit status after a panic; as PID 1's it becomes part of the kernel's own panic.
const PANICKED: i32 = 101;

/// Writes one line, as far as the port takes it; without a port it is lost.
pub(crate) fn report(line: &str) {
    let text = format!("guest-agent: {}\r\n", line.replace('\n', " "));
    if let Ok(port) = open("/dev/ttyS0", OFlags::WRONLY | OFlags::NOCTTY, Mode::empty()) {
        let mut rest = text.as_bytes();
        while let Ok(count @ 1..) = write(&port, rest) {
            rest = rest.get(count..).unwrap_or_default();
        }
    }
}

/// Makes a panic one line on the serial port and the end of the process.
pub(crate) fn report_panics() {
    panic::set_hook(Box::new(|panic| {
        report(&panic.to_string());
        exit(PANICKED);
    }));
}

/// Ends the process at once.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: `_exit` has no precondition; it runs no handlers and flushes nothing.
    unsafe { libc::_exit(status) }
}
