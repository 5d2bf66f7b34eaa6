//! What an image runs on: operating system, architecture and variant, as Docker writes them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What an image runs on; shown and parsed as `os/architecture[/variant]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    variant: String,
}

/// Not a platform that an image here may have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0:?} is not a platform of Linux images: write linux/ARCHITECTURE[/VARIANT]")]
pub struct PlatformError(String);

impl Platform {
    /// The one that guests here are of: Linux on x86-64 as every such processor has it.
    #[must_use]
    pub fn host() -> Self {
        Self::new("linux", "amd64", "")
    }

    pub(crate) fn new(os: &str, architecture: &str, variant: &str) -> Self {
        Self {
            os: os.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }

    /// Whether an image for this platform is one for the `wanted`.
    #[must_use]
    pub fn fits(&self, wanted: &Self) -> bool {
        self.os == wanted.os
            && self.architecture == wanted.architecture
            && self.full_variant() == wanted.full_variant()
    }

    /// The same as far as an image's own config is to be believed: where it says nothing, it is for
    /// what guests here are of, and variants are what an index tells apart, as in Docker.
    pub(crate) fn may_be(&self, wanted: &Self) -> bool {
        let same = |own: &str, wanted: &str, host: &str| {
            if own.is_empty() { host == wanted } else { own == wanted }
        };
        let host = Self::host();
        same(&self.os, &wanted.os, &host.os)
            && same(&self.architecture, &wanted.architecture, &host.architecture)
    }

    /// The variant that is meant where none is written.
    fn full_variant(&self) -> &str {
        match (self.architecture.as_str(), self.variant.as_str()) {
            ("amd64", "") => "v1",
            ("arm64", "") => "v8",
            ("arm", "") => "v7",
            (_, variant) => variant,
        }
    }

    /// Build attestations are listed under a platform of this name.
    pub(crate) fn is_unknown(&self) -> bool {
        self.os == "unknown" || self.architecture == "unknown"
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.variant.is_empty() { "" } else { "/" };
        write!(f, "{}/{}{separator}{}", self.os, self.architecture, self.variant)
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let is_word = |part: &&str| {
            !part.is_empty()
                && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
        };
        let parts: Vec<String> = text.split('/').map(str::to_ascii_lowercase).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).filter(is_word).collect();
        if parts.len() != text.split('/').count() {
            return Err(PlatformError(text.to_owned()));
        }
        let usual = |architecture| match architecture {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        match parts.as_slice() {
            ["linux", architecture] => Ok(Self::new("linux", usual(architecture), "")),
            ["linux", architecture, variant] => {
                Ok(Self::new("linux", usual(architecture), variant))
            }
            ["linux"] => Ok(Self::host()),
            _ => Err(PlatformError(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_that_are_meant_need_not_be_written() {
        let fits = |image: &str, wanted: &str| {
            image.parse::<Platform>().unwrap().fits(&wanted.parse().unwrap())
        };
        for (image, wanted) in [
            ("linux/amd64", "linux/amd64/v1"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64", "linux/aarch64"),
            ("linux/arm/v7", "linux/arm"),
            ("linux/amd64", "linux"),
        ] {
            assert!(fits(image, wanted) && fits(wanted, image), "{image} {wanted}");
        }
        for (image, wanted) in [
            ("linux/amd64/v3", "linux/amd64"),
            ("linux/arm/v6", "linux/arm"),
            ("linux/386", "linux"),
        ] {
            assert!(!fits(image, wanted), "{image} {wanted}");
        }
    }

    #[test]
    fn config_s_platform_is_not_taken_too_exactly() {
        let host = Platform::host();
        for (os, architecture, variant) in
            [("", "", ""), ("linux", "", ""), ("", "amd64", "v1"), ("linux", "amd64", "v3")]
        {
            let config = Platform::new(os, architecture, variant);
            assert!(config.may_be(&host), "{config}");
        }
        assert!(Platform::new("linux", "arm", "").may_be(&Platform::new("linux", "arm", "v6")));
        assert!(!Platform::new("", "", "").may_be(&Platform::new("linux", "arm64", "")));
        assert!(!Platform::new("windows", "amd64", "").may_be(&host));
        assert!(!Platform::new("linux", "386", "").may_be(&host));
    }

    #[test]
    fn other_words_are_refused() {
        for text in ["", "amd64", "windows/amd64", "linux/", "linux/a/b/c", "linux/a b"] {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
        assert_eq!("Linux/ARM/v6".parse::<Platform>().unwrap().to_string(), "linux/arm/v6");
    }
}
