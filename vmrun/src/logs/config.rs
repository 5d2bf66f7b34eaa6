//! `--log-driver` and `--log-opt`.

use serde::{Deserialize, Serialize};

use crate::size::{self, SizeError};

/// Where the output of a container is kept, and how much of it.
///
/// Docker keeps everything where nothing is said; here a log is always bounded, by what Docker's
/// driver `local` has as its default: five files of 20 MB. Where `max-size` alone is said there is
/// one file, as in Docker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    pub driver: LogDriver,
    /// Bytes of a file before it is rotated.
    pub max_size: u64,
    /// Files, the one that is written included.
    pub max_file: u32,
}

/// What keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// Nothing does.
    None,
    JsonFile,
}

/// Options of a log that there are not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogConfigError {
    #[error("error looking up logging plugin {0}: plugin {0:?} not found")]
    Driver(String),
    #[error("invalid logging opts for driver none")]
    OptionsOfNone,
    #[error("unknown log opt '{0}' for json-file log driver")]
    Option(String),
    #[error("bad format of log opt '{0}' (expected name=value)")]
    Format(String),
    #[error("max-size must be a positive number")]
    NoSize,
    #[error("invalid value for max-size")]
    Size(#[from] SizeError),
    #[error("max-file must be from 1 to {most}, not '{0}'", most = MOST_FILES)]
    Files(String),
}

/// Most files of a log: a reader looks at each of their names.
const MOST_FILES: u32 = 1000;

impl Default for LogConfig {
    fn default() -> Self {
        Self { driver: LogDriver::JsonFile, max_size: 20_000_000, max_file: 5 }
    }
}

impl LogConfig {
    /// What the command line says of it: a driver, and `name=value` each.
    pub fn parse(driver: Option<&str>, options: &[String]) -> Result<Self, LogConfigError> {
        let driver = match driver {
            None | Some("json-file") => LogDriver::JsonFile,
            Some("none") if options.is_empty() => LogDriver::None,
            Some("none") => return Err(LogConfigError::OptionsOfNone),
            Some(other) => return Err(LogConfigError::Driver(other.into())),
        };
        let mut config = Self { driver, ..Self::default() };
        let (mut size, mut files) = (None, None);
        for option in options {
            match option.split_once('=') {
                Some(("max-size", text)) => size = Some(parse_size(text)?),
                Some(("max-file", text)) => files = Some(parse_files(text)?),
                Some((name, _)) => return Err(LogConfigError::Option(name.into())),
                None => return Err(LogConfigError::Format(option.clone())),
            }
        }
        if let Some(size) = size {
            config.max_size = size;
            config.max_file = 1;
        }
        config.max_file = files.unwrap_or(config.max_file);
        Ok(config)
    }

    /// Docker's name of the driver.
    pub fn driver_name(&self) -> &'static str {
        match self.driver {
            LogDriver::None => "none",
            LogDriver::JsonFile => "json-file",
        }
    }
}

fn parse_size(text: &str) -> Result<u64, LogConfigError> {
    match size::decimal(text)? {
        0 => Err(LogConfigError::NoSize),
        size => Ok(size),
    }
}

fn parse_files(text: &str) -> Result<u32, LogConfigError> {
    let files = text.parse().ok().filter(|files| (1..=MOST_FILES).contains(files));
    files.ok_or_else(|| LogConfigError::Files(text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(driver: Option<&str>, options: &[&str]) -> Result<LogConfig, LogConfigError> {
        let options: Vec<_> = options.iter().map(|&option| option.to_owned()).collect();
        LogConfig::parse(driver, &options)
    }

    #[test]
    fn options_are_docker_s_and_the_log_is_always_bounded() {
        for (options, max_size, max_file) in [
            (&[][..], 20_000_000, 5),
            (&["max-size=10m"], 10_000_000, 1),
            (&["max-size=10m", "max-file=3"], 10_000_000, 3),
            (&["max-file=2"], 20_000_000, 2),
            (&["max-size=1.5k"], 1_500, 1),
        ] {
            let expected = LogConfig { driver: LogDriver::JsonFile, max_size, max_file };
            assert_eq!(parse(None, options), Ok(expected), "{options:?}");
            assert_eq!(parse(Some("json-file"), options), Ok(expected), "{options:?}");
        }
        assert_eq!(parse(Some("none"), &[]).unwrap().driver_name(), "none");
    }

    #[test]
    fn what_there_is_not_is_refused() {
        for (driver, options, message) in [
            (
                Some("syslog"),
                &[][..],
                "error looking up logging plugin syslog: plugin \"syslog\" not found",
            ),
            (Some("none"), &["max-file=2"], "invalid logging opts for driver none"),
            (None, &["colour=red"], "unknown log opt 'colour' for json-file log driver"),
            (None, &["max-size=0"], "max-size must be a positive number"),
            (None, &["max-size=-1"], "invalid value for max-size"),
            (None, &["max-file=0"], "max-file must be from 1 to 1000, not '0'"),
            (None, &["max-file"], "bad format of log opt 'max-file' (expected name=value)"),
        ] {
            assert_eq!(parse(driver, options).unwrap_err().to_string(), message);
        }
    }
}
