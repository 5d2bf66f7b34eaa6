//! Chains of every shape, good and bad, against what may be made of them.

use super::*;
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

const MEMORY_SIZE: usize = 1 << 20;
const TABLE: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const INDIRECT_TABLE: u64 = 0x4000;
const SIZE: u16 = 16;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

#[derive(Clone, Copy, Debug)]
struct Raw(u64, u32, u16, u16);

fn memory() -> GuestMemory {
    GuestMemory::from_ranges(&[(GuestAddress(0), MEMORY_SIZE)]).unwrap()
}

fn write_table(memory: &GuestMemory, at: u64, descriptors: &[Raw]) {
    for (descriptor, place) in descriptors.iter().zip((at..).step_by(16)) {
        let Raw(address, length, flags, next) = *descriptor;
        memory.write_obj(address, GuestAddress(place)).unwrap();
        memory.write_obj(length, GuestAddress(place + 8)).unwrap();
        memory.write_obj(flags, GuestAddress(place + 12)).unwrap();
        memory.write_obj(next, GuestAddress(place + 14)).unwrap();
    }
}

/// A queue with one available chain that begins at descriptor `head`.
fn queue_with(memory: &GuestMemory, head: u16) -> VirtQueue<'_> {
    memory.write_obj(head, GuestAddress(AVAILABLE + 4)).unwrap();
    memory.write_obj(1_u16, GuestAddress(AVAILABLE + 2)).unwrap();
    let mut queue = Queue::new(SIZE).unwrap();
    queue.try_set_desc_table_address(GuestAddress(TABLE)).unwrap();
    queue.try_set_avail_ring_address(GuestAddress(AVAILABLE)).unwrap();
    queue.try_set_used_ring_address(GuestAddress(USED)).unwrap();
    queue.set_ready(true);
    VirtQueue::new(memory, queue)
}

/// Lengths of both halves of the chain that `descriptors` make, from the first one on.
fn lengths(descriptors: &[Raw]) -> (usize, usize) {
    let memory = memory();
    write_table(&memory, TABLE, descriptors);
    let mut chain = Chain::default();
    assert!(queue_with(&memory, 0).pop(&mut chain).unwrap());
    (chain.readable.len(), chain.writable.len())
}

#[test]
fn a_good_chain_arrives_whole() {
    let chain =
        [Raw(0x8000, 16, NEXT, 1), Raw(0x9000, 100, NEXT | WRITE, 2), Raw(0xa000, 1, WRITE, 0)];
    assert_eq!(lengths(&chain), (16, 101));
}

#[test]
fn row_21_a_loop_arrives_empty() {
    assert_eq!(lengths(&[Raw(0x8000, 16, NEXT, 1), Raw(0x9000, 16, NEXT, 0)]), (0, 0));
    assert_eq!(lengths(&[Raw(0x8000, 16, NEXT, 0)]), (0, 0));
}

#[test]
fn row_21_an_index_beyond_the_table_arrives_empty() {
    assert_eq!(lengths(&[Raw(0x8000, 16, NEXT, SIZE)]), (0, 0));
}

#[test]
fn row_21_a_length_beyond_memory_arrives_empty() {
    assert_eq!(lengths(&[Raw(0x8000, u32::MAX, WRITE, 0)]), (0, 0));
    assert_eq!(lengths(&[Raw(u64::MAX, 16, WRITE, 0)]), (0, 0));
    let big = u32::try_from(MEMORY_SIZE).unwrap();
    let sum_wraps: Vec<_> = (0..SIZE).map(|n| Raw(0, big, NEXT | WRITE, n + 1)).collect();
    assert_eq!(lengths(&sum_wraps), (0, 0));
}

#[test]
fn row_21_readable_after_writable_arrives_empty() {
    assert_eq!(lengths(&[Raw(0x8000, 16, NEXT | WRITE, 1), Raw(0x9000, 16, 0, 0)]), (0, 0));
}

#[test]
fn row_21_bad_indirect_tables_arrive_empty() {
    for length in [0, 1, 15, 17, !15] {
        assert_eq!(lengths(&[Raw(INDIRECT_TABLE, length, INDIRECT, 0)]), (0, 0), "of {length}");
    }
    assert_eq!(lengths(&[Raw(u64::MAX - 15, 16, INDIRECT, 0)]), (0, 0));
    // A table that names itself as a table.
    let memory = memory();
    write_table(&memory, TABLE, &[Raw(INDIRECT_TABLE, 16, INDIRECT, 0)]);
    write_table(&memory, INDIRECT_TABLE, &[Raw(INDIRECT_TABLE, 16, INDIRECT, 0)]);
    let mut chain = Chain::default();
    assert!(queue_with(&memory, 0).pop(&mut chain).unwrap());
    assert!(chain.readable.is_empty() && chain.writable.is_empty());
}

#[test]
fn row_21_a_chain_of_more_segments_than_one_call_takes_arrives_empty() {
    for (segments, expected) in [(MAX_SEGMENTS, MAX_SEGMENTS), (MAX_SEGMENTS + 1, 0)] {
        let memory = memory();
        let table: Vec<_> = (1..=segments)
            .map(|next| (if next < segments { NEXT } else { 0 }, u16::try_from(next).unwrap()))
            .map(|(flags, next)| Raw(0x8000, 1, flags, next))
            .collect();
        let length = u32::try_from(16 * segments).unwrap();
        write_table(&memory, INDIRECT_TABLE, &table);
        write_table(&memory, TABLE, &[Raw(INDIRECT_TABLE, length, INDIRECT, 0)]);
        let mut chain = Chain::default();
        assert!(queue_with(&memory, 0).pop(&mut chain).unwrap());
        assert_eq!(chain.readable.len(), expected, "{segments} segments");
    }
}

#[test]
fn row_21_a_head_beyond_the_table_breaks_the_ring() {
    let memory = memory();
    let mut queue = queue_with(&memory, SIZE);
    let mut chain = Chain::default();
    assert!(queue.pop(&mut chain).unwrap());
    assert!(chain.readable.is_empty() && chain.writable.is_empty());
    assert!(queue.complete(&chain, 0).is_err());
}

#[test]
fn row_22_descriptors_are_fetched_once() {
    let memory = memory();
    memory.write_slice(b"before", GuestAddress(0x8000)).unwrap();
    write_table(&memory, TABLE, &[Raw(0x8000, 6, 0, 0)]);
    let mut chain = Chain::default();
    assert!(queue_with(&memory, 0).pop(&mut chain).unwrap());
    write_table(&memory, TABLE, &[Raw(u64::MAX, u32::MAX, NEXT | WRITE, 9)]);
    let mut bytes = [0; 6];
    chain.readable.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"before");
}

#[test]
fn segments_are_read_written_split_and_consumed_across_borders() {
    let memory = memory();
    write_table(
        &memory,
        TABLE,
        &[
            Raw(0x8000, 3, NEXT | WRITE, 1),
            Raw(0x9000, 4, NEXT | WRITE, 2),
            Raw(0xa000, 2, WRITE, 0),
        ],
    );
    let mut chain = Chain::default();
    assert!(queue_with(&memory, 0).pop(&mut chain).unwrap());
    chain.writable.split_last().unwrap().write(b'!');
    let mut front = Segments::default();
    chain.writable.split_front(4, &mut front).unwrap();
    assert_eq!((front.len(), chain.writable.len()), (4, 4));
    front.write_all(b"abcd").unwrap();
    assert_eq!(chain.writable.write_all(b"too long"), Err(ShortChain));
    chain.writable.consume(1);
    chain.writable.write_zeroes(1).unwrap();
    chain.writable.write_all(b"yz").unwrap();
    assert!(chain.writable.is_empty() && chain.writable.split_last().is_none());
    let read = |address, length| {
        let mut bytes = vec![0; length];
        memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    };
    assert_eq!(
        (read(0x8000, 3), read(0x9000, 4), read(0xa000, 2)),
        (b"abc".to_vec(), b"d\0\0y".to_vec(), b"z!".to_vec())
    );
}

fn any_descriptor() -> impl Strategy<Value = Raw> {
    let address = prop_oneof![0..0x2_0000_u64, any::<u64>(), Just(INDIRECT_TABLE), Just(TABLE)];
    let length = prop_oneof![0..0x400_u32, (0..20_u32).prop_map(|n| n * 16), any::<u32>()];
    (address, length, 0..8_u16, 0..SIZE + 2).prop_map(|(a, l, f, n)| Raw(a, l, f, n))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever the tables hold: no panic, bounded work, and nothing outside guest memory.
    #[test]
    fn any_table_gives_a_bounded_chain_inside_memory(
        table in prop::collection::vec(any_descriptor(), 16),
        indirect in prop::collection::vec(any_descriptor(), 20),
        head in 0..SIZE + 2,
    ) {
        let memory = memory();
        write_table(&memory, TABLE, &table);
        write_table(&memory, INDIRECT_TABLE, &indirect);
        let mut queue = queue_with(&memory, head);
        let mut chain = Chain::default();
        prop_assert!(queue.pop(&mut chain).unwrap());
        prop_assert!(chain.readable.segments() + chain.writable.segments() <= MAX_SEGMENTS);
        let length = chain.writable.len();
        prop_assert!(length <= MAX_SEGMENTS * MEMORY_SIZE);
        chain.writable.write_zeroes(length).unwrap();
        let mut rest = vec![0; chain.readable.len().min(1 << 16)];
        chain.readable.read_exact(&mut rest).unwrap();
        prop_assert_eq!(queue.complete(&chain, 0).is_ok(), head < SIZE);
    }
}
