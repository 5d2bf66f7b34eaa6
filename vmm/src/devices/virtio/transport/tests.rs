//! The handshake and the registers, driven by a device that serves nothing.

use super::*;
use crate::devices::virtio::rng::Rng;
use crate::devices::virtio::testing::{
    DRIVER, DRIVER_OK, FEATURES_OK, MEMORY_SIZE, Machine, NEEDS_RESET, VERSION_1, eventually,
    register, writable,
};
use virtio_bindings::virtio_config::VIRTIO_CONFIG_S_FAILED;

fn machine() -> Machine {
    let (device, thread) = Rng::new();
    Machine::new(device, thread)
}

fn started() -> Machine {
    let (device, thread) = Rng::new();
    Machine::started(device, thread)
}

/// Negotiates, sets queue 0 up as told, sets `DRIVER_OK` and returns the status.
fn start_with_queue(size: u32, rings: [u64; 3]) -> (Machine, u32) {
    let machine = machine();
    assert_eq!(machine.negotiate(machine.offered_features()), FEATURES_OK);
    machine.set_up_queue_as(0, size, rings);
    machine.write32(register::STATUS, DRIVER_OK);
    let status = machine.status();
    (machine, status)
}

fn good_rings() -> [u64; 3] {
    let machine = machine();
    let ring = &machine.rings[0];
    [ring.descriptors(), ring.available_ring(), ring.used_ring()]
}

#[test]
fn identifies_itself_as_version_2() {
    let machine = machine();
    assert_eq!(machine.read32(register::MAGIC).to_le_bytes(), *b"virt");
    assert_eq!(machine.read32(register::VERSION), 2);
    assert_eq!(machine.read32(register::DEVICE_ID), 4);
    assert_eq!(machine.status(), 0);
    assert_eq!(machine.read32(register::QUEUE_NUM_MAX), u32::from(machine.rings[0].size));
}

#[test]
fn a_driver_without_version_1_is_refused() {
    let machine = machine();
    assert_eq!(machine.negotiate(machine.offered_features() & !VERSION_1), DRIVER);
}

#[test]
fn a_feature_that_is_not_offered_is_refused() {
    let machine = machine();
    assert_eq!(machine.offered_features() & 1 << 60, 0);
    assert_eq!(machine.negotiate(VERSION_1 | 1 << 60), DRIVER);
}

#[test]
fn features_change_only_before_features_ok() {
    let machine = machine();
    assert_eq!(machine.negotiate(VERSION_1), FEATURES_OK);
    machine.write32(register::DRIVER_FEATURES, 1 << 30);
    machine.set_up_queue(0);
    machine.write32(register::STATUS, DRIVER_OK);
    assert_eq!(machine.status(), DRIVER_OK);
}

#[test]
fn steps_of_the_handshake_cannot_be_skipped() {
    let machine = machine();
    for status in [FEATURES_OK, DRIVER_OK, NEEDS_RESET, 0x30] {
        machine.write32(register::STATUS, status);
        assert_eq!(machine.status(), 0, "after writing {status:#x}");
    }
    machine.negotiate(VERSION_1);
    machine.write32(register::STATUS, DRIVER);
    assert_eq!(machine.status(), FEATURES_OK, "no step back");
}

#[test]
fn a_failed_driver_starts_over_with_a_reset() {
    let mut machine = started();
    machine.write32(register::STATUS, DRIVER_OK | VIRTIO_CONFIG_S_FAILED);
    assert_eq!(machine.status(), DRIVER_OK | VIRTIO_CONFIG_S_FAILED);
    machine.write32(register::STATUS, DRIVER_OK);
    assert_eq!(machine.status(), DRIVER_OK | VIRTIO_CONFIG_S_FAILED);
    machine.reset();
    machine.start();
    let place = machine.allocate(64);
    assert_eq!(machine.exchange(0, &[writable(place, 64)]), 64);
}

#[test]
fn an_interrupt_is_pending_until_acknowledged() {
    let mut machine = started();
    let place = machine.allocate(16);
    machine.exchange(0, &[writable(place, 16)]);
    eventually("an interrupt", || machine.line.edges() == 1);
    assert_eq!(machine.read32(register::INTERRUPT_STATUS), 1);
    machine.write32(register::INTERRUPT_ACK, 1);
    assert_eq!(machine.read32(register::INTERRUPT_STATUS), 0);
}

#[test]
fn odd_accesses_read_zero_and_change_nothing() {
    let machine = machine();
    let mut data = [0xff; 3];
    machine.transport().read(0, &mut data);
    assert_eq!(data, [0; 3]);
    let mut data = [0xff; 8];
    machine.transport().read(u64::MAX, &mut data);
    assert_eq!(data, [0; 8]);
    machine.transport().write(register::STATUS, &[1]);
    machine.transport().write(u64::MAX, &[1, 0, 0, 0]);
    assert_eq!(machine.status(), 0);
}

#[test]
fn a_notification_of_no_queue_is_ignored() {
    let machine = started();
    machine.write32(NOTIFY_OFFSET, 77);
    machine.write32(NOTIFY_OFFSET, u32::MAX);
    assert_eq!(machine.status(), DRIVER_OK);
}

#[test]
fn row_19_a_ring_size_of_zero_or_no_power_of_two_or_too_large_needs_a_reset() {
    for size in [0, 3, 12, 32, 0x1_0010, u32::MAX] {
        let (machine, status) = start_with_queue(size, good_rings());
        assert_eq!(status, DRIVER_OK | NEEDS_RESET, "size {size}");
        assert_eq!(machine.read32(register::INTERRUPT_STATUS), 2, "configuration interrupt");
        assert_eq!(machine.line.edges(), 1);
    }
}

#[test]
fn row_19_a_ring_outside_memory_or_misaligned_needs_a_reset() {
    let outside = [MEMORY_SIZE, MEMORY_SIZE - 16, u64::MAX - 15, 1 << 63, 0x1_0001];
    for which in 0..3 {
        for address in outside {
            let mut rings = good_rings();
            rings[which] = address;
            let (_machine, status) = start_with_queue(16, rings);
            assert_eq!(status, DRIVER_OK | NEEDS_RESET, "ring {which} at {address:#x}");
        }
    }
}

#[test]
fn row_19_a_queue_that_was_never_set_up_needs_a_reset() {
    let machine = machine();
    machine.negotiate(VERSION_1);
    machine.write32(register::STATUS, DRIVER_OK);
    assert!(machine.needs_reset());
}

#[test]
fn row_19_a_device_with_a_bad_ring_works_after_a_reset() {
    let (mut machine, _) = start_with_queue(16, [u64::MAX - 15; 3]);
    machine.reset();
    machine.start();
    let place = machine.allocate(64);
    assert_eq!(machine.exchange(0, &[writable(place, 64)]), 64);
}

#[test]
fn row_19_an_available_index_beyond_the_ring_needs_a_reset() {
    let mut machine = started();
    machine.overstate_available(0, 1000);
    machine.kick(0);
    eventually("a device in need of a reset", || machine.needs_reset());
    machine.reset();
    machine.start();
    assert!(!machine.needs_reset());
}

#[test]
fn row_20_queue_registers_are_ignored_after_activation() {
    let mut machine = started();
    machine.write32(register::QUEUE_READY, 0);
    machine.set_up_queue_as(0, 0x8000, [!15, 0, MEMORY_SIZE]);
    machine.write32(register::QUEUE_NUM, 0);
    assert_eq!(machine.read32(register::QUEUE_READY), 1);
    let place = machine.allocate(64);
    assert_eq!(machine.exchange(0, &[writable(place, 64)]), 64);
    assert_eq!(machine.status(), DRIVER_OK);
}

#[test]
fn row_20_queue_registers_are_ignored_while_the_queue_is_ready() {
    let machine = machine();
    machine.negotiate(VERSION_1);
    machine.set_up_queue(0);
    machine.write32(register::QUEUE_NUM, 3);
    machine.write32(register::STATUS, DRIVER_OK);
    assert_eq!(machine.status(), DRIVER_OK);
}
