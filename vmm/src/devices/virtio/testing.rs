//! A fake driver: builds rings and descriptor chains in guest memory and drives a device through
//! the registers of its transport, as a guest would, or as a hostile one would.

use super::transport::{MmioTransport, NOTIFY_OFFSET};
use super::{DeviceThread, Interrupt, VirtioDevice};
use crate::GuestMemory;
use crate::confine::filter_thread;
use crate::devices::BusDevice;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use virtio_bindings::virtio_config::VIRTIO_F_VERSION_1;
use vm_memory::{Bytes, GuestAddress};

/// Size of guest memory, in bytes; it begins at address 0.
pub(crate) const MEMORY_SIZE: u64 = 32 << 20;

/// Rings of queue `n` are at `RINGS + n * RING_SPACE`.
const RINGS: u64 = 0x1_0000;
const RING_SPACE: u64 = 0x1_0000;

/// Buffers are handed out from here on.
const BUFFERS: u64 = 0x10_0000;

/// Longer than any device takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Flags of a descriptor (VirtIO 1.2 §2.7.5).
pub(crate) const WRITE: u16 = 2;
pub(crate) const NEXT: u16 = 1;
pub(crate) const INDIRECT: u16 = 4;

/// Registers used by name in tests.
pub(crate) mod register {
    pub(crate) const MAGIC: u64 = 0x00;
    pub(crate) const VERSION: u64 = 0x04;
    pub(crate) const DEVICE_ID: u64 = 0x08;
    pub(crate) const DEVICE_FEATURES: u64 = 0x10;
    pub(crate) const DEVICE_FEATURES_SEL: u64 = 0x14;
    pub(crate) const DRIVER_FEATURES: u64 = 0x20;
    pub(crate) const DRIVER_FEATURES_SEL: u64 = 0x24;
    pub(crate) const QUEUE_SEL: u64 = 0x30;
    pub(crate) const QUEUE_NUM_MAX: u64 = 0x34;
    pub(crate) const QUEUE_NUM: u64 = 0x38;
    pub(crate) const QUEUE_READY: u64 = 0x44;
    pub(crate) const INTERRUPT_STATUS: u64 = 0x60;
    pub(crate) const INTERRUPT_ACK: u64 = 0x64;
    pub(crate) const STATUS: u64 = 0x70;
    pub(crate) const QUEUE_DESC: u64 = 0x80;
    pub(crate) const QUEUE_AVAIL: u64 = 0x90;
    pub(crate) const QUEUE_USED: u64 = 0xa0;
    pub(crate) const CONFIG: u64 = 0x100;
}

/// Values of the status register as the driver proceeds.
pub(crate) const ACKNOWLEDGE: u32 = 1;
pub(crate) const DRIVER: u32 = 3;
pub(crate) const FEATURES_OK: u32 = 11;
pub(crate) const DRIVER_OK: u32 = 15;
pub(crate) const NEEDS_RESET: u32 = 64;

/// Counts the edges of an interrupt line.
#[derive(Debug, Default)]
pub(crate) struct Line {
    edges: Mutex<u32>,
    raised: Condvar,
}

impl Interrupt for Line {
    fn trigger(&self) {
        *self.edges.lock().unwrap() += 1;
        self.raised.notify_all();
    }
}

impl Line {
    pub(crate) fn edges(&self) -> u32 {
        *self.edges.lock().unwrap()
    }
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        let waited = start.elapsed();
        assert!(waited < PATIENCE, "never happened: {what}");
        if waited < Duration::from_millis(1) {
            std::thread::yield_now();
        } else {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

/// A buffer of a descriptor chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Buffer {
    pub(crate) address: u64,
    pub(crate) length: u32,
    pub(crate) flags: u16,
}

/// A buffer that the device reads.
pub(crate) fn readable(address: u64, length: usize) -> Buffer {
    Buffer { address, length: length.try_into().unwrap(), flags: 0 }
}

/// A buffer that the device writes.
pub(crate) fn writable(address: u64, length: usize) -> Buffer {
    Buffer { address, length: length.try_into().unwrap(), flags: WRITE }
}

/// The driver's side of a queue.
#[derive(Debug)]
pub(crate) struct Ring {
    index: u32,
    pub(crate) size: u16,
    free: VecDeque<u16>,
    /// Descriptors of each chain in flight, by head.
    in_flight: Vec<Vec<u16>>,
    available: u16,
    used: u16,
}

impl Ring {
    pub(crate) fn descriptors(&self) -> u64 {
        RINGS + u64::from(self.index) * RING_SPACE
    }

    pub(crate) fn available_ring(&self) -> u64 {
        self.descriptors() + 0x8000
    }

    pub(crate) fn used_ring(&self) -> u64 {
        self.descriptors() + 0xc000
    }
}

/// A device with its thread, guest memory and a driver.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) memory: GuestMemory,
    pub(crate) line: Arc<Line>,
    pub(crate) rings: Vec<Ring>,
    transport: Option<MmioTransport>,
    thread: Option<JoinHandle<()>>,
    next_buffer: AtomicU32,
}

impl Machine {
    /// A device that the driver has not touched yet. Its thread runs as in a VM: a system call
    /// that is not on the list of its kind kills the test.
    pub(crate) fn new(device: impl VirtioDevice + 'static, thread: DeviceThread) -> Self {
        let confined = move || {
            filter_thread(thread.kind.into()).unwrap();
            (thread.body)();
        };
        Self::with_thread(device, std::thread::spawn(confined))
    }

    /// The same with a thread that the test has started its own way.
    pub(crate) fn with_thread(device: impl VirtioDevice + 'static, thread: JoinHandle<()>) -> Self {
        let size = usize::try_from(MEMORY_SIZE).unwrap();
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), size)]).unwrap();
        let line = Arc::new(Line::default());
        let sizes = device.queue_sizes().to_vec();
        let transport = MmioTransport::new(Box::new(device), memory.clone(), line.clone()).unwrap();
        let rings = (0..).zip(sizes).map(|(index, size)| Ring {
            index,
            size,
            free: (0..size).collect(),
            in_flight: vec![Vec::new(); usize::from(size)],
            available: 0,
            used: 0,
        });
        Self {
            memory,
            line,
            rings: rings.collect(),
            transport: Some(transport),
            thread: Some(thread),
            next_buffer: AtomicU32::new(BUFFERS.try_into().unwrap()),
        }
    }

    /// A device whose driver has done everything right, with all features.
    pub(crate) fn started(device: impl VirtioDevice + 'static, thread: DeviceThread) -> Self {
        let mut machine = Self::new(device, thread);
        machine.start();
        machine
    }

    pub(crate) fn transport(&self) -> &MmioTransport {
        self.transport.as_ref().unwrap()
    }

    pub(crate) fn read32(&self, offset: u64) -> u32 {
        let mut data = [0; 4];
        self.transport().read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    pub(crate) fn write32(&self, offset: u64, value: u32) {
        self.transport().write(offset, &value.to_le_bytes());
    }

    fn write64(&self, offset: u64, value: u64) {
        self.write32(offset, u32::try_from(value & 0xffff_ffff).unwrap());
        self.write32(offset + 4, u32::try_from(value >> 32).unwrap());
    }

    pub(crate) fn status(&self) -> u32 {
        self.read32(register::STATUS)
    }

    pub(crate) fn needs_reset(&self) -> bool {
        self.status() & NEEDS_RESET != 0
    }

    pub(crate) fn offered_features(&self) -> u64 {
        self.write32(register::DEVICE_FEATURES_SEL, 1);
        let high = self.read32(register::DEVICE_FEATURES);
        self.write32(register::DEVICE_FEATURES_SEL, 0);
        u64::from(high) << 32 | u64::from(self.read32(register::DEVICE_FEATURES))
    }

    /// Up to `FEATURES_OK`; returns the status that the device shows then.
    pub(crate) fn negotiate(&self, features: u64) -> u32 {
        self.write32(register::STATUS, ACKNOWLEDGE);
        self.write32(register::STATUS, DRIVER);
        for (half, shift) in [(0, 0), (1, 32)] {
            self.write32(register::DRIVER_FEATURES_SEL, half);
            let bits = u32::try_from(features >> shift & 0xffff_ffff).unwrap();
            self.write32(register::DRIVER_FEATURES, bits);
        }
        self.write32(register::STATUS, FEATURES_OK);
        self.status()
    }

    /// Tells the device where the rings of queue `index` are.
    pub(crate) fn set_up_queue(&self, index: usize) {
        let ring = &self.rings[index];
        self.set_up_queue_as(
            index,
            u32::from(ring.size),
            [ring.descriptors(), ring.available_ring(), ring.used_ring()],
        );
    }

    /// The same with a size and addresses of the test's choice.
    pub(crate) fn set_up_queue_as(&self, index: usize, size: u32, [desc, avail, used]: [u64; 3]) {
        self.write32(register::QUEUE_SEL, index.try_into().unwrap());
        self.write32(register::QUEUE_NUM, size);
        self.write64(register::QUEUE_DESC, desc);
        self.write64(register::QUEUE_AVAIL, avail);
        self.write64(register::QUEUE_USED, used);
        self.write32(register::QUEUE_READY, 1);
    }

    /// From reset to `DRIVER_OK`, with everything offered.
    pub(crate) fn start(&mut self) {
        self.start_with(self.offered_features());
    }

    pub(crate) fn start_with(&mut self, features: u64) {
        assert_eq!(self.negotiate(features), FEATURES_OK);
        for index in 0..self.rings.len() {
            let ring = &mut self.rings[index];
            ring.free = (0..ring.size).collect();
            ring.available = 0;
            ring.used = 0;
            let zeroes = vec![0; usize::try_from(RING_SPACE).unwrap()];
            self.memory
                .write_slice(&zeroes, GuestAddress(self.rings[index].descriptors()))
                .unwrap();
            self.set_up_queue(index);
        }
        self.write32(register::STATUS, DRIVER_OK);
        assert_eq!(self.status(), DRIVER_OK);
    }

    pub(crate) fn reset(&self) {
        self.write32(register::STATUS, 0);
        assert_eq!(self.status(), 0);
    }

    /// Space for a buffer; never given back.
    pub(crate) fn allocate(&self, length: usize) -> u64 {
        let length = u32::try_from(length.next_multiple_of(16)).unwrap();
        let address = u64::from(self.next_buffer.fetch_add(length, Ordering::Relaxed));
        assert!(address + u64::from(length) <= MEMORY_SIZE, "test uses too much guest memory");
        address
    }

    /// A buffer with these contents.
    pub(crate) fn store(&self, bytes: &[u8]) -> u64 {
        let address = self.allocate(bytes.len());
        self.write(address, bytes);
        address
    }

    pub(crate) fn write(&self, address: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(address)).unwrap();
    }

    pub(crate) fn read(&self, address: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
        bytes
    }

    pub(crate) fn write_descriptor(&self, address: u64, buffer: Buffer, next: u16) {
        self.memory.write_obj(buffer.address, GuestAddress(address)).unwrap();
        self.memory.write_obj(buffer.length, GuestAddress(address + 8)).unwrap();
        self.memory.write_obj(buffer.flags, GuestAddress(address + 12)).unwrap();
        self.memory.write_obj(next, GuestAddress(address + 14)).unwrap();
    }

    /// Makes a chain of `buffers` available on queue `queue`, without a kick; returns its head.
    pub(crate) fn offer(&mut self, queue: usize, buffers: &[Buffer]) -> u16 {
        let ring = &mut self.rings[queue];
        let chain: Vec<u16> = ring.free.drain(..buffers.len()).collect();
        let head = chain[0];
        for (position, buffer) in buffers.iter().enumerate() {
            let next = chain.get(position + 1).copied();
            let flags = buffer.flags | if next.is_some() { NEXT } else { 0 };
            let address = self.rings[queue].descriptors() + 16 * u64::from(chain[position]);
            self.write_descriptor(address, Buffer { flags, ..*buffer }, next.unwrap_or_default());
        }
        self.rings[queue].in_flight[usize::from(head)] = chain;
        self.offer_head(queue, head);
        head
    }

    /// The same through a table of indirect descriptors.
    pub(crate) fn offer_indirect(&mut self, queue: usize, buffers: &[Buffer]) -> u16 {
        let table = self.allocate(16 * buffers.len());
        for (position, buffer) in buffers.iter().enumerate() {
            let last = position + 1 == buffers.len();
            let flags = buffer.flags | if last { 0 } else { NEXT };
            let place = table + 16 * u64::try_from(position).unwrap();
            let next = u16::try_from(position + 1).unwrap();
            self.write_descriptor(place, Buffer { flags, ..*buffer }, next);
        }
        let length = u32::try_from(16 * buffers.len()).unwrap();
        self.offer(queue, &[Buffer { address: table, length, flags: INDIRECT }])
    }

    /// Puts a descriptor index, good or bad, into the available ring.
    pub(crate) fn offer_head(&mut self, queue: usize, head: u16) {
        let ring = &mut self.rings[queue];
        let slot = ring.available_ring() + 4 + 2 * u64::from(ring.available % ring.size);
        ring.available = ring.available.wrapping_add(1);
        let (index, available) = (ring.available_ring() + 2, ring.available);
        self.memory.write_obj(head, GuestAddress(slot)).unwrap();
        self.memory.store(available, GuestAddress(index), Ordering::Release).unwrap();
    }

    /// Claims `count` more available chains than there are.
    pub(crate) fn overstate_available(&mut self, queue: usize, count: u16) {
        let ring = &mut self.rings[queue];
        ring.available = ring.available.wrapping_add(count);
        let (index, available) = (ring.available_ring() + 2, ring.available);
        self.memory.store(available, GuestAddress(index), Ordering::Release).unwrap();
    }

    pub(crate) fn kick(&self, queue: usize) {
        self.write32(NOTIFY_OFFSET, queue.try_into().unwrap());
    }

    /// The next completed chain, if there is one: its head and the length that was written.
    pub(crate) fn take_used(&mut self, queue: usize) -> Option<(u16, u32)> {
        let ring = &mut self.rings[queue];
        let base = ring.used_ring();
        let index: u16 = self.memory.load(GuestAddress(base + 2), Ordering::Acquire).unwrap();
        if index == ring.used {
            return None;
        }
        let slot = base + 4 + 8 * u64::from(ring.used % ring.size);
        ring.used = ring.used.wrapping_add(1);
        // used_event: an interrupt is wanted for the next one too.
        let event = ring.available_ring() + 4 + 2 * u64::from(ring.size);
        self.memory.write_obj(ring.used, GuestAddress(event)).unwrap();
        let head: u32 = self.memory.read_obj(GuestAddress(slot)).unwrap();
        let length = self.memory.read_obj(GuestAddress(slot + 4)).unwrap();
        let head = u16::try_from(head).unwrap();
        let chain = std::mem::take(&mut ring.in_flight[usize::from(head)]);
        ring.free.extend(chain);
        Some((head, length))
    }

    /// Waits for the next completed chain.
    pub(crate) fn wait_used(&mut self, queue: usize) -> (u16, u32) {
        let mut used = None;
        eventually("a completed chain", || {
            used = self.take_used(queue);
            used.is_some()
        });
        used.unwrap()
    }

    /// Offers a chain, kicks, waits until it is completed and returns the length.
    pub(crate) fn exchange(&mut self, queue: usize, buffers: &[Buffer]) -> u32 {
        let head = self.offer(queue, buffers);
        self.kick(queue);
        let (completed, length) = self.wait_used(queue);
        assert_eq!(completed, head);
        length
    }
}

/// What every driver must accept.
pub(crate) const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.transport.take());
        let result = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(result, Some(Ok(()))), "thread of the device panicked");
        }
    }
}
