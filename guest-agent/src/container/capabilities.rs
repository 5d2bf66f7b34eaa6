//! The capabilities of the container's root, as the host chose them. Another user starts with none,
//! which the kernel sees to when the user changes; the bounding set holds for all.

use rustix::io::{self, Errno};
use rustix::thread::{
    CapabilitySet, CapabilitySets, remove_capability_from_bounding_set, set_capabilities,
};

/// Takes all others out of the bounding set, including those this program has no name for.
pub(super) fn bound(chosen: u64) -> io::Result<()> {
    for number in (0..u64::BITS).filter(|number| chosen & (1 << number) == 0) {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            // The first number that the kernel does not know: it knows none above it.
            Err(Errno::INVAL) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Leaves root with the chosen ones that the kernel has; nothing is inheritable or ambient.
pub(super) fn reduce(chosen: u64) -> io::Result<()> {
    let has = rustix::thread::capabilities(None)?.permitted;
    let chosen = CapabilitySet::from_bits_retain(chosen).intersection(has);
    let sets = CapabilitySets {
        effective: chosen,
        permitted: chosen,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, sets)
}
