//! Entropy through a real ring.

use super::*;
use crate::devices::virtio::testing::{MEMORY_SIZE, Machine, readable, writable};

fn machine() -> Machine {
    let (device, thread) = Rng::new();
    Machine::started(device, thread)
}

#[test]
fn a_buffer_is_filled_with_different_bytes_each_time() {
    let mut machine = machine();
    let (first, second) = (machine.allocate(100), machine.allocate(100));
    assert_eq!(machine.exchange(0, &[writable(first, 60), writable(first + 60, 40)]), 100);
    assert_eq!(machine.exchange(0, &[writable(second, 100)]), 100);
    assert_ne!(machine.read(first, 100), vec![0; 100]);
    assert_ne!(machine.read(first, 100), machine.read(second, 100));
}

#[test]
fn a_large_request_is_cut() {
    let mut machine = machine();
    let place = machine.allocate(MAX_REQUEST * 2);
    let length = machine.exchange(0, &[writable(place, MAX_REQUEST * 2)]);
    assert_eq!(usize::try_from(length).unwrap(), MAX_REQUEST);
    assert_eq!(machine.read(place + u64::from(length), MAX_REQUEST), vec![0; MAX_REQUEST]);
}

#[test]
fn what_the_device_may_not_write_stays_as_it_is() {
    let mut machine = machine();
    let place = machine.store(&[7; 64]);
    assert_eq!(machine.exchange(0, &[readable(place, 64)]), 0);
    assert_eq!(machine.read(place, 64), [7; 64]);
    assert_eq!(machine.exchange(0, &[writable(MEMORY_SIZE - 8, 64)]), 0, "leaves guest memory");
}
