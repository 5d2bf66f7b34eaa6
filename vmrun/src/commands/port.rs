//! `vmrun port`: containers have no network yet, so none of their ports is published.

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
    if number.parse::<u16>().is_err() {
        bail!("invalid port {number:?}: a number from 0 to 65535 is wanted");
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
