//! Values of options, read and refused as Docker's CLI does while it reads the line.

use std::{ffi::OsString, net::IpAddr, os::unix::ffi::OsStrExt, time::Duration};

use crate::{
    disk::DiskSize,
    size::{ByteSize, SizeError},
};

/// Not such a value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    #[error("invalid environment variable: {0}")]
    Variable(String),
    #[error("invalid label '{0}': empty name")]
    Label(String),
    #[error("sysctl '{0}' is not whitelisted")]
    Sysctl(String),
    #[error("bad format for add-host: {0:?}")]
    Host(String),
    #[error("invalid IP address in add-host: {0:?}")]
    HostAddress(String),
    #[error("{0} is not an ip address")]
    Address(String),
    #[error("valid streams are STDIN, STDOUT and STDERR")]
    Stream,
    #[error("unknown option {0:?}: there is size=SIZE")]
    Storage(String),
    #[error(transparent)]
    Size(#[from] SizeError),
    #[error("failed to parse {0} as a rational number")]
    Number(String),
    #[error("time: invalid duration {0:?}")]
    Duration(String),
    #[error("time: missing unit in duration {0:?}")]
    Unit(String),
    #[error("time: unknown unit {unit:?} in duration {text:?}")]
    UnknownUnit { text: String, unit: String },
}

/// `NAME=VALUE`, or `NAME`.
pub fn variable(given: OsString) -> Result<OsString, ValueError> {
    match given.as_bytes() {
        [] | [b'=', ..] => Err(ValueError::Variable(given.to_string_lossy().into_owned())),
        _ => Ok(given),
    }
}

/// `NAME=VALUE`, or `NAME`.
pub fn label(given: &str) -> Result<String, ValueError> {
    match given.is_empty() || given.starts_with('=') {
        true => Err(ValueError::Label(given.into())),
        false => Ok(given.into()),
    }
}

/// `NAME=VALUE`
pub fn sysctl(given: &str) -> Result<(String, String), ValueError> {
    match given.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err(ValueError::Sysctl(given.into())),
    }
}

/// `NAME:ADDRESS`; the address may be in brackets.
pub fn host(given: &str) -> Result<(String, String), ValueError> {
    let pair = given.split_once(':').filter(|(name, _)| !name.is_empty());
    let (name, address) = pair.ok_or_else(|| ValueError::Host(given.into()))?;
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(_) => Ok((name.to_owned(), bare.to_owned())),
        Err(_) => Err(ValueError::HostAddress(address.into())),
    }
}

/// An IP address, as it was written.
pub fn address(given: &str) -> Result<String, ValueError> {
    match given.parse::<IpAddr>() {
        Ok(_) => Ok(given.to_owned()),
        Err(_) => Err(ValueError::Address(given.into())),
    }
}

/// What memory and swap may be together, in bytes; `-1` for any.
pub fn memory_swap(given: &str) -> Result<u64, SizeError> {
    match given {
        "-1" => Ok(u64::MAX),
        size => size.parse().map(|ByteSize(bytes)| bytes),
    }
}

/// `size=SIZE`
pub fn storage(given: &str) -> Result<DiskSize, ValueError> {
    let size = given.strip_prefix("size=").ok_or_else(|| ValueError::Storage(given.into()))?;
    Ok(size.parse()?)
}

/// A number of CPUs, of any size.
pub fn cpus(given: &str) -> Result<f64, ValueError> {
    match given.parse::<f64>() {
        Ok(cpus) if cpus.is_finite() => Ok(cpus),
        _ => Err(ValueError::Number(given.into())),
    }
}

/// A time as Go writes it: `1h30m`, `1.5s`, `250ms`.
pub fn duration(given: &str) -> Result<Duration, ValueError> {
    let wrong = || ValueError::Duration(given.into());
    if given == "0" {
        return Ok(Duration::ZERO);
    }
    let (mut rest, mut nanoseconds) = (given, 0.0);
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let (number, after) = rest.split_at(rest.find(|c| !is_number(c)).unwrap_or(rest.len()));
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let scale = match unit {
            "ns" => 1.0,
            "us" | "µs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "" => return Err(ValueError::Unit(given.into())),
            unit => return Err(ValueError::UnknownUnit { text: given.into(), unit: unit.into() }),
        };
        (rest, nanoseconds) = (after, nanoseconds + number * scale);
    }
    if given.is_empty() {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(nanoseconds / 1e9).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_go_s() {
        assert_eq!(duration("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("1us"), Ok(Duration::from_micros(1)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        let refused = |text| duration(text).unwrap_err().to_string();
        assert_eq!(refused("1"), "time: missing unit in duration \"1\"");
        assert_eq!(refused("1d"), "time: unknown unit \"d\" in duration \"1d\"");
        for wrong in ["", "s", "-1s", "1..s", "x"] {
            assert_eq!(duration(wrong), Err(ValueError::Duration(wrong.into())), "{wrong}");
        }
    }

    #[test]
    fn hosts_and_addresses_are_checked() {
        assert_eq!(host("db:10.0.0.1"), Ok(("db".into(), "10.0.0.1".into())));
        assert_eq!(host("v6:[::1]"), Ok(("v6".into(), "::1".into())));
        for wrong in ["db", ":1.2.3.4", "db:x"] {
            assert!(host(wrong).is_err(), "{wrong}");
        }
        assert!(address("nowhere").is_err() && address("::1").is_ok());
    }

    #[test]
    fn variables_and_sysctls_have_names() {
        assert!(variable("A".into()).is_ok() && variable("A=".into()).is_ok());
        assert!(variable("=x".into()).is_err() && variable("".into()).is_err());
        assert!(sysctl("a=1").is_ok() && sysctl("a").is_err() && sysctl("=1").is_err());
    }
}
