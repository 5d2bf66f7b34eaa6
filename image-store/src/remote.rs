//! What a pull needs of a registry. The store decides what of an image it lacks and verifies all it
//! gets; how it comes is not its business.

use std::io::Read;

use crate::Digest;

/// Why something did not come; its own chain of causes says.
pub type RemoteError = Box<dyn std::error::Error + Send + Sync>;

/// Content of one repository, by digest. Called by several threads at once.
pub trait Remote: Sync {
    /// A manifest or an index, which the caller verifies.
    fn manifest(&self, digest: &Digest) -> Result<Vec<u8>, RemoteError>;

    /// The bytes of a blob, which the caller verifies. Reading them gives `size` bytes or an error.
    fn blob(&self, digest: &Digest, size: u64) -> Result<Box<dyn Read + '_>, RemoteError>;
}
