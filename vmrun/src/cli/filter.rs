//! `--filter NAME=VALUE`

use std::str::FromStr;

/// One filter, its name in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    pub name: String,
    pub value: String,
}

/// Not of a filter's form.
#[derive(Debug, thiserror::Error)]
#[error("bad format of filter (expected name=value)")]
pub struct FilterError;

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        let (name, value) = text.split_once('=').ok_or(FilterError)?;
        Ok(Self { name: name.trim().to_lowercase(), value: value.trim().into() })
    }
}
