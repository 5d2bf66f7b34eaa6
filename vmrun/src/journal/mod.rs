//! Journals: files of lines that are only appended to, and rotated so that they stay bounded.
//!
//! ```text
//! <folder>/<name>       what is written now
//! <folder>/<name>.1     what was written before
//! <folder>/<name>.2     … and before that; the oldest is deleted
//! ```
//! They are read while others write and rotate them: a file is known by its inode, its name only
//! says how many came after it. Nobody waits for anybody; a reader that is overtaken by two whole
//! rotations misses what was deleted meanwhile.

mod files;
mod lines;
mod watch;

pub use files::Journal;
pub use lines::Lines;
pub use watch::Watch;
