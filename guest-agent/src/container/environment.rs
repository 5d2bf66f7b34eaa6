//! The command's environment.

use std::collections::BTreeSet;
use std::ffi::CString;

/// What the image or the user wrote that cannot be an environment.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum EnvironmentError {
    #[error("invalid environment variable {0:?}: not a name and a value")]
    NotAPair(String),
    #[error("invalid environment variable {0:?}: contains a NUL")]
    Nul(String),
}

/// The environment as `execve` takes it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Environment {
    pub(super) variables: Vec<CString>,
    /// Value of `PATH`, where the command is looked up.
    pub(super) path: Option<Vec<u8>>,
}

impl Environment {
    /// Keeps the last of several values of a name, and sets `HOME` where it is missing or empty.
    pub(super) fn prepare(variables: &[Vec<u8>], home: &[u8]) -> Result<Self, EnvironmentError> {
        let mut seen = BTreeSet::new();
        let mut kept = Vec::with_capacity(variables.len() + 1);
        let mut path = None;
        let mut has_home = false;
        for variable in variables.iter().rev() {
            let (name, value) = split(variable)?;
            if !seen.insert(name) {
                continue;
            }
            match name {
                b"HOME" if value.is_empty() => continue,
                b"HOME" => has_home = true,
                b"PATH" => path = Some(value.to_vec()),
                _ => {}
            }
            kept.push(c_string(variable.clone())?);
        }
        kept.reverse();
        if !has_home {
            kept.push(c_string([b"HOME=", home].concat())?);
        }
        Ok(Self { variables: kept, path })
    }
}

fn split(variable: &[u8]) -> Result<(&[u8], &[u8]), EnvironmentError> {
    let mut parts = variable.splitn(2, |byte| *byte == b'=');
    match (parts.next(), parts.next()) {
        (Some(name @ [_, ..]), Some(value)) => Ok((name, value)),
        _ => Err(EnvironmentError::NotAPair(lossy(variable))),
    }
}

fn c_string(variable: Vec<u8>) -> Result<CString, EnvironmentError> {
    CString::new(variable).map_err(|error| EnvironmentError::Nul(lossy(&error.into_vec())))
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepare(variables: &[&str]) -> Result<Vec<String>, EnvironmentError> {
        let variables: Vec<_> = variables.iter().map(|text| text.as_bytes().to_vec()).collect();
        let environment = Environment::prepare(&variables, b"/home/of/user")?;
        Ok(environment.variables.iter().map(|text| text.to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn last_value_of_a_name_wins() {
        assert_eq!(prepare(&["A=1", "HOME=/h", "A=2"]).unwrap(), ["HOME=/h", "A=2"]);
    }

    #[test]
    fn home_comes_from_the_user_where_missing_or_empty() {
        assert_eq!(prepare(&["A=1"]).unwrap(), ["A=1", "HOME=/home/of/user"]);
        assert_eq!(prepare(&["HOME=/x", "HOME="]).unwrap(), ["HOME=/home/of/user"]);
    }

    #[test]
    fn value_may_be_empty_and_hold_equal_signs() {
        assert_eq!(prepare(&["HOME=/h", "A=", "B=c=d"]).unwrap(), ["HOME=/h", "A=", "B=c=d"]);
    }

    #[test]
    fn variable_without_name_or_value_is_refused() {
        assert_eq!(prepare(&["A"]), Err(EnvironmentError::NotAPair("A".into())));
        assert_eq!(prepare(&["=x"]), Err(EnvironmentError::NotAPair("=x".into())));
        assert_eq!(prepare(&[""]), Err(EnvironmentError::NotAPair(String::new())));
    }

    #[test]
    fn nul_is_refused() {
        assert!(matches!(prepare(&["A=\0"]), Err(EnvironmentError::Nul(_))));
    }

    #[test]
    fn path_is_the_last_one() {
        let variables = [b"PATH=/a".to_vec(), b"PATH=/b:/c".to_vec()];
        let environment = Environment::prepare(&variables, b"/").unwrap();
        assert_eq!(environment.path.as_deref(), Some(b"/b:/c".as_slice()));
    }
}
