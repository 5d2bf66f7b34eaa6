//! The files by which a container finds its way in the network. There is no network but loopback
//! yet: names resolve for the container itself.

use crate::container::NetworkFiles;

/// `/etc/hosts`
pub fn hosts(hostname: &str, wanted: &NetworkFiles) -> String {
    let more = wanted.hosts.iter().map(|(name, address)| format!("{address}\t{name}\n"));
    format!(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n\
         {}127.0.0.1\t{hostname}\n",
        more.collect::<String>()
    )
}

/// `/etc/resolv.conf`: no server can be reached, but those that are wanted are written down.
pub fn resolv_conf(wanted: &NetworkFiles) -> String {
    let mut lines = String::new();
    let search: Vec<_> = wanted.dns_search.iter().filter(|name| *name != ".").cloned().collect();
    if !search.is_empty() {
        lines += &format!("search {}\n", search.join(" "));
    }
    for server in &wanted.dns {
        lines += &format!("nameserver {server}\n");
    }
    if !wanted.dns_options.is_empty() {
        lines += &format!("options {}\n", wanted.dns_options.join(" "));
    }
    if lines.is_empty() { "# No network.\n".into() } else { lines }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_say_what_was_asked_for() {
        let wanted = NetworkFiles {
            hosts: vec![("db".into(), "10.0.0.2".into())],
            dns: vec!["9.9.9.9".into()],
            dns_search: vec!["lan".into()],
            dns_options: vec!["ndots:2".into()],
        };
        assert!(hosts("web", &wanted).ends_with("10.0.0.2\tdb\n127.0.0.1\tweb\n"));
        assert_eq!(resolv_conf(&wanted), "search lan\nnameserver 9.9.9.9\noptions ndots:2\n");
        assert_eq!(resolv_conf(&NetworkFiles::default()), "# No network.\n");
    }
}
