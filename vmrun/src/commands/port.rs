//! `vmrun port`: containers have no network yet, so none of their ports is published.

use std::num::IntErrorKind;

use anyhow::{Result, bail};

use super::Host;
use crate::cli::PortArgs;

pub fn port(args: &PortArgs) -> Result<()> {
    let container = &args.container;
    Host::open()?.containers.find(container)?;
    match &args.port {
        Some(port) => bail!("No public port '{}' published for {container}", canonical(port)?),
        None => Ok(()),
    }
}

/// A port with its protocol.
fn canonical(port: &str) -> Result<String> {
    let (number, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    // Docker's words, though it is not Go that looks at it.
    if let Err(error) = number.parse::<u16>() {
        let why = match error.kind() {
            IntErrorKind::PosOverflow => "value out of range",
            _ => "invalid syntax",
        };
        bail!("strconv.ParseUint: parsing {number:?}: {why}");
    }
    Ok(format!("{number}/{protocol}"))
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn port_without_a_protocol_is_tcp() {
        assert_eq!(canonical("80").unwrap(), "80/tcp");
        assert_eq!(canonical("53/udp").unwrap(), "53/udp");
        assert!(canonical("http").is_err() && canonical("65536").is_err());
    }
}
