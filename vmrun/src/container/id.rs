//! What a container is called: an id of 64 hexadecimal digits, and a name.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A container's id: 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

impl ContainerId {
    const DIGITS: usize = 64;

    /// A new random id.
    pub fn random() -> Self {
        let mut bytes = [0; Self::DIGITS / 2];
        crate::random::fill(&mut bytes);
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// All 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first 12 digits, as tables show them.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for ContainerId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == Self::DIGITS && text.bytes().all(digit) {
            Ok(Self(text))
        } else {
            Err(NameError::Id(text))
        }
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> Self {
        id.0
    }
}

/// A container's name: `[a-zA-Z0-9][a-zA-Z0-9_.-]+`, as Docker's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerName(String);

impl ContainerName {
    const LONGEST: usize = 128;

    /// The name as given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ContainerName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
        let valid = matches!(text.as_bytes(), [first, rest @ ..]
            if first.is_ascii_alphanumeric()
                && !rest.is_empty()
                && text.len() <= Self::LONGEST
                && rest.iter().copied().all(inner));
        if valid { Ok(Self(text.into())) } else { Err(NameError::Name(text.into())) }
    }
}

impl fmt::Display for ContainerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl TryFrom<String> for ContainerName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ContainerName> for String {
    fn from(name: ContainerName) -> Self {
        name.0
    }
}

/// Not an id or a name.
#[derive(Debug, thiserror::Error)]
pub enum NameError {
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    Name(String),
    #[error("{0:?} is not a container id")]
    Id(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_ids_differ_and_are_valid() {
        let (one, two) = (ContainerId::random(), ContainerId::random());
        assert_ne!(one, two);
        assert!(ContainerId::try_from(String::from(one)).is_ok());
    }

    #[test]
    fn ids_that_could_be_paths_are_refused() {
        for text in ["", "..", &"A".repeat(64), &"/".repeat(64)] {
            assert!(ContainerId::try_from(text.to_owned()).is_err());
        }
    }

    #[test]
    fn names_follow_docker() {
        for good in ["web", "a1", "a_b-c.d", "0x"] {
            assert!(good.parse::<ContainerName>().is_ok(), "{good}");
        }
        for bad in ["", "a", "-a", ".x", "a b", "a/b", "ä1", &"a".repeat(129)] {
            assert!(bad.parse::<ContainerName>().is_err(), "{bad}");
        }
    }
}
