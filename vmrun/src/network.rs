//! The files by which a container finds its way in the network. There is no network but loopback
//! yet: names resolve for the container itself.

/// `/etc/hosts`
pub fn hosts(hostname: &str) -> String {
    format!(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\n\
         ff00::0\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n\
         127.0.0.1\t{hostname}\n"
    )
}

/// `/etc/resolv.conf`: no server can be reached.
pub fn resolv_conf() -> String {
    "# No network.\n".into()
}
