//! What the agent says of a path in the container.

use serde::{Deserialize, Serialize};

/// The answer to a look at a path: one frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathAnswer {
    Found(PathStat),
    /// Nothing is there.
    Missing,
    /// It cannot be looked at, such as `file/`: why, in Docker's words.
    Failed(String),
}

/// What is at a path, as Docker's API says it (`ContainerPathStat`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathStat {
    /// The last name of the path as it was asked for; `/` for the root, `.` after `/.`.
    pub name: Vec<u8>,
    /// In bytes.
    pub size: u64,
    /// `st_mode`: kind and permissions. A symbolic link is not followed.
    pub mode: u32,
    /// Of the last modification, since 1970.
    pub mtime_seconds: i64,
    pub mtime_nanoseconds: u32,
    /// Where a symbolic link leads in the end, as an absolute path in the container, whether
    /// something is there or not; empty for everything else.
    pub link_target: Vec<u8>,
}

impl PathStat {
    /// Kind bits of a mode.
    const KIND: u32 = 0o170_000;

    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.mode & Self::KIND == 0o040_000
    }

    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.mode & Self::KIND == 0o120_000
    }

    #[must_use]
    pub fn is_device(&self) -> bool {
        matches!(self.mode & Self::KIND, 0o020_000 | 0o060_000)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{decode, encode};

    #[test]
    fn answer_survives_the_wire() {
        let stat = PathStat {
            name: vec![0xff],
            size: u64::MAX,
            mode: 0o100_644,
            mtime_seconds: -1,
            mtime_nanoseconds: 5,
            link_target: Vec::new(),
        };
        for answer in [PathAnswer::Found(stat), PathAnswer::Missing, PathAnswer::Failed("x".into())]
        {
            assert_eq!(decode::<PathAnswer>(&encode(&answer).unwrap()[4..]).unwrap(), answer);
        }
    }

    proptest! {
        #[test]
        fn hostile_answers_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            if let Ok(PathAnswer::Found(stat)) = decode::<PathAnswer>(&bytes) {
                let kinds = [stat.is_directory(), stat.is_symlink(), stat.is_device()];
                prop_assert!(kinds.iter().filter(|&&kind| kind).count() <= 1);
            }
        }
    }
}
