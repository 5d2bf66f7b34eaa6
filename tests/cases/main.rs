//! End-to-end cases: the built `vmrun` as an ordinary user meets it, on real images, inside the test
//! host. `scripts/test` runs them; each file is one feature.

#![allow(clippy::unwrap_used, reason = "a case that cannot go on fails")]
#![allow(missing_debug_implementations, unreachable_pub, reason = "nothing outside sees them")]

mod support;

mod cli;
mod command;
mod commit;
mod confinement;
mod containers;
mod cp;
mod cpu;
mod differential;
mod disk;
mod exec;
mod golden;
mod guest;
mod host_disk_full;
mod hostile;
mod image_commands;
mod images;
mod kills;
mod lifecycle;
mod memory;
mod observe;
mod postgres;
mod registry;
mod streams;
mod terminal;
mod tutorial;
mod workloads;
