//! Resource limits (`--ulimit`) by Docker's names, with the kernel's numbers.

use agent_protocol::Limit;

const LIMITS: [(&str, u8); 15] = [
    ("cpu", 0),
    ("fsize", 1),
    ("data", 2),
    ("stack", 3),
    ("core", 4),
    ("rss", 5),
    ("nproc", 6),
    ("nofile", 7),
    ("memlock", 8),
    ("locks", 10),
    ("sigpending", 11),
    ("msgqueue", 12),
    ("nice", 13),
    ("rtprio", 14),
    ("rttime", 15),
];

/// Not a limit.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    #[error("invalid ulimit argument: {0}")]
    Syntax(String),
    #[error("invalid ulimit type: {0}")]
    Type(String),
    #[error("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")]
    Order { soft: String, hard: u64 },
}

/// Reads `TYPE=SOFT[:HARD]`; -1 is no limit.
pub fn parse(given: &str) -> Result<Limit, LimitError> {
    let wrong = || LimitError::Syntax(given.into());
    let (name, values) = given.split_once('=').ok_or_else(wrong)?;
    let known = LIMITS.iter().find(|(known, _)| *known == name);
    let (_, resource) = known.ok_or_else(|| LimitError::Type(name.into()))?;
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let value = |text: &str| match text {
        "-1" => Ok(None),
        number => number.parse().map(Some).map_err(|_| wrong()),
    };
    let (soft, hard): (Option<u64>, Option<u64>) = (value(soft)?, value(hard)?);
    if let Some(hard) = hard
        && soft.is_none_or(|soft| soft > hard)
    {
        let soft = soft.map_or_else(|| "-1".to_owned(), |soft| soft.to_string());
        return Err(LimitError::Order { soft, hard });
    }
    Ok(Limit { resource: *resource, soft, hard })
}

/// The name of a limit, for `inspect`.
pub fn name(resource: u8) -> &'static str {
    LIMITS.iter().find(|(_, number)| *number == resource).map_or("unknown", |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_in_docker() {
        assert_eq!(
            parse("nofile=10:20"),
            Ok(Limit { resource: 7, soft: Some(10), hard: Some(20) })
        );
        assert_eq!(parse("core=-1"), Ok(Limit { resource: 4, soft: None, hard: None }));
        for wrong in ["nofile", "wings=1", "nofile=20:10", "nofile=x", "nofile=-1:5"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
