//! Reports through real rings, by a driver that means well and by others. Rows of
//! `shared/threats.md` are in the tests' names.

use super::*;
use crate::devices::virtio::testing::{
    Buffer, DRIVER_OK, INDIRECT, MEMORY_SIZE, Machine, VERSION_1, readable, register, writable,
};
use std::time::Duration;
use vm_memory::{GuestAddress, GuestMemoryBackend};

const REPORTING: usize = 2;
const PAGE: usize = 4096;

fn machine() -> Machine {
    let (device, thread) = Balloon::new();
    Machine::started(device, thread)
}

/// Pages at a page's address, full of sevens.
fn pages(machine: &Machine, count: usize) -> u64 {
    let place = machine.allocate((count + 1) * PAGE).next_multiple_of(PAGE as u64);
    machine.write(place, &vec![7; count * PAGE]);
    place
}

fn page(machine: &Machine, place: u64, number: u64) -> Vec<u8> {
    machine.read(place + number * PAGE as u64, PAGE)
}

#[test]
fn nothing_but_reporting_is_offered_and_no_page_is_wanted() {
    let machine = machine();
    assert_eq!(machine.read32(register::DEVICE_ID), 5);
    assert_eq!(machine.offered_features() & 0xff_ffff, 1 << F_REPORTING);
    assert_eq!(machine.read32(register::CONFIG), 0);
}

#[test]
fn reported_pages_are_gone_and_others_stay() {
    let mut machine = machine();
    let place = pages(&machine, 4);
    let report = [writable(place, PAGE), writable(place + 2 * PAGE as u64, PAGE)];
    assert_eq!(machine.exchange(REPORTING, &report), 0);
    for (number, byte) in [(0, 0), (1, 7), (2, 0), (3, 7)] {
        assert_eq!(page(&machine, place, number), [byte; PAGE], "page {number}");
    }
    machine.write(place, &[9; PAGE]);
    assert_eq!(page(&machine, place, 0), [9; PAGE], "it is memory as before");
}

#[test]
fn memory_goes_back_to_the_host() {
    let mut machine = machine();
    let place = pages(&machine, 2048);
    assert_eq!(resident(&machine, place, 2048), 2048);
    machine.exchange(REPORTING, &[writable(place, 2048 * PAGE)]);
    assert_eq!(resident(&machine, place, 2048), 0);
}

/// How many of these pages the host has memory behind.
fn resident(machine: &Machine, place: u64, count: usize) -> usize {
    let length = count * PAGE;
    let start = machine.memory.get_slice(GuestAddress(place), length).unwrap().ptr_guard_mut();
    let mut map = vec![0; count];
    // SAFETY: the range is mapped, and `map` has a byte for each of its pages.
    let told = unsafe { libc::mincore(start.as_ptr().cast(), length, map.as_mut_ptr()) };
    assert_eq!(told, 0);
    map.iter().filter(|page| **page & 1 != 0).count()
}

#[test]
fn only_whole_pages_go() {
    let mut machine = machine();
    let place = pages(&machine, 4);
    machine.exchange(REPORTING, &[writable(place + 100, 3 * PAGE)]);
    for (number, byte) in [(0, 7), (1, 0), (2, 0), (3, 7)] {
        assert_eq!(page(&machine, place, number), [byte; PAGE], "page {number}");
    }
    machine.exchange(REPORTING, &[writable(place + 1, PAGE), writable(place + 3, 0)]);
    assert_eq!(page(&machine, place, 0), [7; PAGE]);
}

#[test]
fn row_19_a_ring_outside_memory_needs_a_reset() {
    let (device, thread) = Balloon::new();
    let mut machine = Machine::new(device, thread);
    machine.negotiate(VERSION_1 | 1 << F_REPORTING);
    machine.set_up_queue(0);
    machine.set_up_queue(1);
    machine.set_up_queue_as(REPORTING, 32, [MEMORY_SIZE, 0x1000, 0x2000]);
    machine.write32(register::STATUS, DRIVER_OK);
    assert!(machine.needs_reset());
    machine.reset();
    machine.start();
    let place = pages(&machine, 1);
    machine.exchange(REPORTING, &[writable(place, PAGE)]);
}

#[test]
fn row_21_ranges_outside_memory_take_nothing_back() {
    let mut machine = machine();
    let place = pages(&machine, 1);
    let last = MEMORY_SIZE - PAGE as u64;
    machine.write(last, &[7; PAGE]);
    for bad in [
        writable(MEMORY_SIZE, PAGE),
        writable(last, 2 * PAGE),
        writable(u64::MAX - 4095, PAGE),
        writable(0, u32::MAX as usize),
    ] {
        // The good range of a bad report stays too.
        assert_eq!(machine.exchange(REPORTING, &[writable(place, PAGE), bad]), 0);
    }
    assert_eq!(page(&machine, place, 0), [7; PAGE]);
    assert_eq!(page(&machine, last, 0), [7; PAGE]);
}

#[test]
fn row_21_what_the_device_may_not_write_stays() {
    let mut machine = machine();
    let place = pages(&machine, 2);
    machine.exchange(REPORTING, &[readable(place, PAGE)]);
    machine.exchange(REPORTING, &[writable(place, PAGE), readable(place, PAGE)]);
    assert_eq!(page(&machine, place, 0), [7; PAGE]);
}

#[test]
fn row_21_a_table_that_leads_to_itself_ends() {
    let mut machine = machine();
    let table = machine.allocate(64);
    let itself = Buffer { address: table, length: 64, flags: INDIRECT };
    machine.write_descriptor(table, itself, 0);
    machine.exchange(REPORTING, &[itself]);
    assert!(!machine.needs_reset());
}

#[test]
fn row_22_a_report_of_the_rings_themselves_harms_the_driver_alone() {
    let mut machine = machine();
    let ring = machine.rings[REPORTING].descriptors();
    machine.offer(REPORTING, &[writable(ring, 0x1_0000)]);
    machine.kick(REPORTING);
    // The used ring is empty again, or has the one chain in it; the device goes on or gives up.
    machine.reset();
    machine.start();
    let place = pages(&machine, 1);
    machine.exchange(REPORTING, &[writable(place, PAGE)]);
    assert_eq!(page(&machine, place, 0), [0; PAGE]);
}

#[test]
fn row_24_a_reset_with_reports_in_flight_waits_for_them() {
    let mut machine = machine();
    let place = pages(&machine, 1024);
    for _ in 0..32 {
        machine.offer(REPORTING, &[writable(place, 1024 * PAGE)]);
    }
    machine.kick(REPORTING);
    machine.reset();
    machine.write(place, &[8; PAGE]);
    std::thread::sleep(Duration::from_millis(20));
    assert_eq!(page(&machine, place, 0), [8; PAGE], "nobody touches it any more");
    machine.start();
    machine.exchange(REPORTING, &[writable(place, PAGE)]);
}

#[test]
fn row_26_the_other_queues_are_not_served() {
    let mut machine = machine();
    let place = pages(&machine, 1);
    machine.offer(0, &[readable(place, 4)]);
    for queue in [0, 1].repeat(1000) {
        machine.kick(queue);
    }
    machine.exchange(REPORTING, &[writable(place, PAGE)]);
    assert_eq!(machine.take_used(0), None);
    assert!(!machine.needs_reset());
}
