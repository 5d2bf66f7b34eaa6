//! What the agent does before it knows the container: everything that depends on the guest alone,
//! so that it overlaps with the host's answer to the dial.

pub(crate) mod clock;
pub(crate) mod entropy;
pub(crate) mod mounts;
pub(crate) mod network;
pub(crate) mod resize;

use rustix::io::Errno;

use crate::container::cgroup::{CgroupError, ContainerCgroup};
use mounts::MountError;

/// The guest, ready for a container.
#[derive(Debug)]
pub(crate) struct Guest {
    pub(crate) cgroup: ContainerCgroup,
}

/// Why the guest could not be made ready; told to the host when it asks for the container.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BootError {
    #[error(transparent)]
    Mount(#[from] MountError),
    #[error("cannot bring the loopback interface up")]
    Loopback(#[source] Errno),
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
}

impl Guest {
    /// Makes the guest ready.
    pub(crate) fn prepare() -> Result<Self, BootError> {
        mounts::enter_own_root()?;
        mounts::mount_devices()?;
        mounts::mount_root()?;
        network::bring_loopback_up().map_err(BootError::Loopback)?;
        Ok(Self { cgroup: ContainerCgroup::create()? })
    }
}
