//! The names of content: SHA-256 digests, validated once where they enter.
//!
//! A [`Digest`] is 32 bytes and nothing else, so it is safe in a path by construction: what is not
//! `sha256:` and 64 lower-case hex digits never becomes one (threats.md row 14).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// The only algorithm accepted, with its separator.
const PREFIX: &str = "sha256:";

/// Hex digits of a SHA-256.
const HEX_LEN: usize = 64;

/// Why a string is not a digest.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DigestError {
    /// Another algorithm, or none.
    #[error("digest {0:?} is not a sha256 digest")]
    Algorithm(String),
    /// Not 64 lower-case hex digits.
    #[error("digest {0:?} is not 64 lower-case hex digits")]
    Hex(String),
}

/// The SHA-256 of some content; shown and parsed as `sha256:<64 lower-case hex digits>`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The raw hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The 64 hex digits without the algorithm: what files are named after.
    #[must_use]
    pub fn hex(&self) -> String {
        let mut hex = String::with_capacity(HEX_LEN);
        for byte in self.0 {
            for nibble in [byte >> 4, byte & 0xf] {
                hex.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
            }
        }
        hex
    }

    /// Parses 64 lower-case hex digits without the algorithm.
    pub fn from_hex(hex: &str) -> Result<Self, DigestError> {
        let wrong = || DigestError::Hex(shorten(hex));
        if hex.len() != HEX_LEN {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            for &digit in pair {
                let value = match digit {
                    b'0'..=b'9' => digit - b'0',
                    b'a'..=b'f' => digit - b'a' + 10,
                    _ => return Err(wrong()),
                };
                *byte = (*byte << 4) | value;
            }
        }
        Ok(Self(bytes))
    }
}

/// A hostile digest may be megabytes long; an error message shows its start.
fn shorten(text: &str) -> String {
    text.chars().take(HEX_LEN + PREFIX.len() + 1).collect()
}

impl From<[u8; 32]> for Digest {
    fn from(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        match text.strip_prefix(PREFIX) {
            Some(hex) => Self::from_hex(hex),
            None => Err(DigestError::Algorithm(shorten(text))),
        }
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The names of stacks of layers (OCI image spec, "Layer ChainID"): for each layer, lowest first, that
/// of it and all below.
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let chain = diff_ids.iter().scan(None, |below: &mut Option<Digest>, diff_id| {
        *below = Some(match *below {
            None => *diff_id,
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        });
        *below
    });
    chain.collect()
}

/// An image's identity as Docker has it: the digest of its config blob.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ImageId(pub Digest);

impl ImageId {
    /// The first 12 hex digits, as `docker images` shows them.
    #[must_use]
    pub fn short(&self) -> String {
        self.0.hex().chars().take(12).collect()
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn digest_of_nothing_is_shown_as_everybody_shows_it() {
        assert_eq!(Digest::of(b"").to_string(), EMPTY);
        assert_eq!(EMPTY.parse::<Digest>(), Ok(Digest::of(b"")));
        assert_eq!(ImageId(Digest::of(b"")).short(), "e3b0c44298fc");
    }

    #[test]
    fn chain_ids_are_the_specification_s() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let both = Digest::of(format!("{a} {b}").as_bytes());
        assert_eq!(chain_ids(&[a, b]), [a, both]);
        assert_eq!(chain_ids(&[]), []);
    }

    #[test]
    fn row14_a_digest_that_is_not_hex_is_refused_before_any_path_is_made_of_it() {
        let upper = EMPTY.to_uppercase().replace("SHA256", "sha256");
        let long = format!("sha256:{}", "a".repeat(1 << 20));
        for text in ["", "sha256:", "sha256:../../x", "sha512:00", "md5:0", &upper, &long] {
            let error = text.parse::<Digest>().expect_err(text);
            assert!(error.to_string().len() < 200);
        }
        assert!(format!("{EMPTY}0").parse::<Digest>().is_err());
        assert!(EMPTY.replace('e', "/").parse::<Digest>().is_err());
    }
}
