//! `/init` of the guest: the entry point and nothing else; the agent is the library `guest_agent`.
//!
//! There is no `fn main`: std's start-up code opens `/dev/null` over a closed stdin, stdout or
//! stderr and aborts where there is none, and the kernel starts the agent with all three closed
//! and no `/dev`. So libc calls the `main` here directly. What std would have set up is not missed:
//! `SIGPIPE` is blocked with every other signal, and nothing reads the command line.

#![no_main]

use std::ffi::{c_char, c_int};

/// Called by libc, once, in the only thread.
// SAFETY: `main` is defined nowhere else, and has the signature libc calls it with.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    guest_agent::run()
}
