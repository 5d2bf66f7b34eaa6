//! A container's files, as `vmrun cp` needs them. Everything that comes from there is what a guest
//! says.

use std::io::Read;

use agent_protocol::PathAnswer;
use anyhow::Result;

/// The files of one container, running or not. Paths are absolute or relative to its root.
pub trait ContainerFiles {
    /// What is at a path; an error is one of reaching the guest.
    fn stat(&self, path: &[u8]) -> Result<PathAnswer>;

    /// A tar archive of what is at a path; a symbolic link is not followed. A failure in the guest
    /// is one of reading the end.
    fn archive(&self, path: &[u8]) -> Result<Box<dyn Read + '_>>;

    /// Unpacks a tar archive into a directory, with the owners that it names. Where the guest gives
    /// up before the end, its reason is the error.
    fn extract(&self, folder: &[u8], archive: &mut dyn Read) -> Result<()>;
}
