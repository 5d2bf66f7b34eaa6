//! Archives of file trees, and file trees of archives, as `docker cp` has them: [`pack`] and
//! [`unpack`].
//!
//! Both run on the host and in the guest. The tree may be somebody else's, and change while it is
//! walked: every name is resolved from a descriptor by the kernel (`openat2`), never through links
//! of `/proc`, and what is open decides, not what was seen before.

mod names;
mod pack;
#[cfg(test)]
mod tests;
mod unpack;

use rustix::io::Errno;

pub use names::{Entries, clean};
pub use pack::{PackError, Source, is_of_kernel, pack};
pub use unpack::{Destination, Rights, UnpackError, unpack};

/// A name for a message: one that cannot move the cursor of a terminal, and is not longer than a
/// few lines.
#[must_use]
pub fn show(name: &[u8]) -> String {
    const LONGEST: usize = 400;
    let text = String::from_utf8_lossy(name);
    let mut shown = String::new();
    for (count, char) in text.chars().enumerate() {
        if count == LONGEST {
            shown.push('…');
            break;
        }
        if char.is_control() {
            shown.extend(char.escape_default());
        } else {
            shown.push(char);
        }
    }
    shown
}

/// An error of the kernel's in Docker's words: no capital, no number.
#[must_use]
pub fn words(error: Errno) -> String {
    let text = std::io::Error::from(error).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut chars = text.chars();
    chars.next().map(|first| first.to_ascii_lowercase()).into_iter().chain(chars).collect()
}

/// Whether an extended attribute is copied. The rest belongs to the file system that a file lies
/// on, or to the kernel's security modules on one side.
fn is_carried(name: &[u8]) -> bool {
    name.starts_with(b"user.") && !name.starts_with(b"user.overlay.")
        || name.starts_with(b"system.posix_acl_")
        || name == b"security.capability"
}
