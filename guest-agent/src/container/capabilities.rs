//! The capabilities of the container's root: Docker's default set. Another user starts with none,
//! which the kernel sees to when the user changes; the bounding set holds for all.

use rustix::io::{self, Errno};
use rustix::thread::{
    CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities,
};

/// Docker's default set.
const DEFAULT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Takes all others out of the bounding set, including those this program has no name for.
pub(super) fn bound() -> io::Result<()> {
    let others = (0..u64::BITS)
        .map(|number| CapabilitySet::from_bits_retain(1 << number))
        .filter(|capability| !DEFAULT.contains(*capability));
    for capability in others {
        match remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The first number that the kernel does not know: it knows none above it.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Leaves root with the default set; nothing is inheritable or ambient.
pub(super) fn reduce() -> io::Result<()> {
    let sets = CapabilitySets {
        effective: DEFAULT,
        permitted: DEFAULT,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of `CapEff` in `/proc/self/status` of a Docker container.
    #[test]
    fn default_set_is_dockers() {
        assert_eq!(DEFAULT.bits(), 0x0000_0000_a804_25fb);
    }
}
