//! A container's files, as `vmrun cp` needs them. Everything that comes from there is what a guest
//! says.

use std::io::Read;

use agent_protocol::{PathAnswer, Task, read_frame};
use anyhow::{Context, Result, bail};

use crate::client::Session;

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

/// The files by way of the guest's agent.
#[derive(Debug)]
pub struct SessionFiles {
    pub session: Session,
    /// `--read-only`: also where the files are at hand without the container's own mounts.
    pub read_only: bool,
}

impl ContainerFiles for SessionFiles {
    fn stat(&self, path: &[u8]) -> Result<PathAnswer> {
        let mut output = self.session.read(Task::Stat { path: path.to_vec() })?;
        let answer = read_frame(&mut output).context("the guest's answer cannot be understood")?;
        // What went wrong in the guest comes at the end.
        let mut rest = [0];
        let _ = output.read(&mut rest)?;
        answer.context("the guest did not answer")
    }

    fn archive(&self, path: &[u8]) -> Result<Box<dyn Read + '_>> {
        Ok(Box::new(self.session.read(Task::Archive { path: path.to_vec() })?))
    }

    fn extract(&self, folder: &[u8], archive: &mut dyn Read) -> Result<()> {
        if self.read_only {
            bail!("container rootfs is marked read-only");
        }
        self.session.write(Task::Extract { folder: folder.to_vec() }, archive)
    }
}
