//! A container's life on disk: what it is (`config.json`), what became of it
//! (`state.json`, written by its monitor), and its writable disk.
//!
//! ```text
//! containers/
//!   names/<name>         a link to the id
//!   lock                 held while a container is made, named or removed
//!   <id>/
//!     config.json        the record: image, root, command, settings
//!     state.json         created, running, paused, restarting or exited, and how
//!     disk.ext4          the writable disk
//!     lock               held by the monitor as long as it lives: a held lock *is* "running"
//! ```
//!
//! There is no PID file: a lock can not outlive its process, nor be mistaken for another's.

mod files;
mod health;
mod id;
mod names;
mod record;
mod restart;
mod state;
mod store;
mod words;

pub use health::{Health, HealthCheck, HealthConfig, HealthResult, SHORTEST};
pub use id::{ContainerId, ContainerName, NameError};
pub use record::{Attached, Command, GuestSettings, ImageUse, NetworkFiles, Record, Resources};
pub use restart::{Backoff, PolicyError, RestartPolicy};
pub use state::{Condition, Exit, State, Status, ago};
pub use store::{Container, ContainerError, Containers, RunLock};
