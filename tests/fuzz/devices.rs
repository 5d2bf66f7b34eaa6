//! Devices, driven by a driver whose rings and buffers hold anything: descriptor chains, block
//! requests, socket packets. The input is guest memory.

use std::{
    fs::File,
    os::unix::net::{UnixListener, UnixStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use vm_memory::{Bytes, GuestAddress};
use vmm::{
    GuestMemory,
    devices::{
        BusDevice,
        virtio::{
            DeviceThread, Interrupt, VirtioDevice,
            block::{Block, Extent, ExtentDisk, FileDisk, FlushPolicy, HostEvents},
            transport::{MmioTransport, NOTIFY_OFFSET},
            vsock::{Cid, Vsock, VsockConfig},
        },
    },
};

use crate::fuzz;

/// Bytes of guest memory, from address 0.
const MEMORY: u64 = 64 << 10;

/// Where the input goes: descriptors, the available ring, and from [`BUFFERS`] on what they point to.
const INPUT: u64 = 0x1000;
const AVAILABLE: u64 = INPUT + 0x80;
const BUFFERS: u64 = INPUT + 0x100;

/// Where rings are that the input does not reach at first: the used ring of its queue, and those of
/// other queues.
const USED: u64 = 0xc000;
const OTHERS: u64 = 0xd000;

const QUEUE_SIZE: u16 = 8;

/// Registers (VirtIO 1.2 §4.2.2).
const FEATURES: u64 = 0x10;
const FEATURES_SELECT: u64 = 0x14;
const DRIVER_FEATURES: u64 = 0x20;
const DRIVER_FEATURES_SELECT: u64 = 0x24;
const QUEUE_SELECT: u64 = 0x30;
const QUEUE_NUMBER: u64 = 0x38;
const QUEUE_READY: u64 = 0x44;
const STATUS: u64 = 0x70;
const RINGS: [u64; 3] = [0x80, 0x90, 0xa0];

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Longer than an answer takes, unless the machine is busy; nothing is lost then but a little of what
/// was to be seen.
const ANSWER: Duration = Duration::from_millis(3);

#[derive(Debug)]
struct Nobody;

impl Interrupt for Nobody {
    fn trigger(&self) {}
}

impl HostEvents for Nobody {
    fn disk_full(&self, _disk: &str) {}
    fn disk_resumed(&self, _disk: &str) {}
}

/// Lets a device serve a guest memory that holds the input, as queue number `queue` of as many.
fn drive(
    device: impl VirtioDevice + 'static,
    body: DeviceThread,
    [queue, queues]: [u32; 2],
    input: &[u8],
) {
    let worker = thread::spawn(body.body);
    let memory =
        GuestMemory::from_ranges(&[(GuestAddress(0), usize::try_from(MEMORY).unwrap())]).unwrap();
    let fits = input.len().min(usize::try_from(MEMORY - INPUT).unwrap());
    memory.write_slice(&input[..fits], GuestAddress(INPUT)).unwrap();
    let transport = MmioTransport::new(Box::new(device), memory.clone(), Arc::new(Nobody)).unwrap();
    let write = |register, value: u32| transport.write(register, &value.to_le_bytes());
    let read = |register| {
        let mut value = [0; 4];
        transport.read(register, &mut value);
        u32::from_le_bytes(value)
    };
    for status in [1, 3] {
        write(STATUS, status);
    }
    for half in [0, 1] {
        write(FEATURES_SELECT, half);
        write(DRIVER_FEATURES_SELECT, half);
        write(DRIVER_FEATURES, read(FEATURES));
    }
    write(STATUS, 11);
    for number in 0..queues {
        let others = OTHERS + u64::from(number) * 0x400;
        let rings = match number == queue {
            true => [INPUT, AVAILABLE, USED],
            false => [others, others + 0x100, others + 0x200],
        };
        write(QUEUE_SELECT, number);
        write(QUEUE_NUMBER, u32::from(QUEUE_SIZE));
        for (register, address) in RINGS.into_iter().zip(rings) {
            write(register, u32::try_from(address).unwrap());
            write(register + 4, 0);
        }
        write(QUEUE_READY, 1);
    }
    write(STATUS, 15);
    let used = || memory.read_obj::<u16>(GuestAddress(USED + 2)).unwrap();
    let before = used();
    write(NOTIFY_OFFSET, queue);
    let end = Instant::now() + ANSWER;
    while used() == before && read(STATUS) == 15 && Instant::now() < end {
        thread::yield_now();
    }
    write(STATUS, 0);
    assert_eq!(read(STATUS), 0);
    drop(transport);
    worker.join().expect("the device's thread");
}

/// A buffer: its bytes, and whether the device writes it.
type Buffer<'a> = (&'a [u8], u16);

/// Guest memory with one chain.
fn chain(buffers: &[Buffer<'_>]) -> Vec<u8> {
    let mut memory = vec![0; usize::try_from(BUFFERS - INPUT).unwrap()];
    let mut put = |at: usize, bytes: &[u8]| memory[at..at + bytes.len()].copy_from_slice(bytes);
    let mut address = BUFFERS;
    for (number, (bytes, flags)) in (0_u16..).zip(buffers) {
        let last = usize::from(number) + 1 == buffers.len();
        let flags = flags | if last { 0 } else { NEXT };
        let at = usize::from(number) * 16;
        put(at, &address.to_le_bytes());
        put(at + 8, &u32::try_from(bytes.len()).unwrap().to_le_bytes());
        put(at + 12, &flags.to_le_bytes());
        put(at + 14, &(number + 1).to_le_bytes());
        address += bytes.len() as u64;
    }
    // Available: one chain, that of descriptor 0.
    put(usize::try_from(AVAILABLE - INPUT).unwrap() + 2, &1_u16.to_le_bytes());
    memory.extend(buffers.iter().flat_map(|(bytes, _)| bytes.iter()));
    memory
}

fn request(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

#[test]
fn block_request() {
    let (data, status): (&[u8], &[u8]) = (&[7; 1024], &[0xff]);
    let range: &[u8] = &[8, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 1, 0, 0, 0];
    // Read, write, flush, identify, discard, zero (VirtIO 1.2 §5.2.6), and one through a table.
    let mut seeds = vec![
        chain(&[(&request(0, 2), 0), (data, WRITE), (status, WRITE)]),
        chain(&[(&request(1, 2), 0), (data, 0), (status, WRITE)]),
        chain(&[(&request(4, 0), 0), (status, WRITE)]),
        chain(&[(&request(8, 0), 0), (&data[..20], WRITE), (status, WRITE)]),
        chain(&[(&request(11, 0), 0), (range, 0), (status, WRITE)]),
        chain(&[(&request(13, 0), 0), (range, 0), (status, WRITE)]),
    ];
    let table = chain(&[(&request(0, 0), 0), (data, WRITE), (status, WRITE)]);
    seeds.push(chain(&[(&table[..48], INDIRECT)]));
    let disk = tempfile::tempfile_in("/dev/shm").unwrap();
    disk.set_len(MEMORY).unwrap();
    let file = Arc::new(File::open("/dev/zero").unwrap());
    fuzz("block-request", seeds, |input| {
        let writable = FileDisk::new(disk.try_clone().unwrap(), MEMORY, FlushPolicy::Ignore);
        let (device, thread) = Block::new("rw", Box::new(writable.unwrap()), Arc::new(Nobody));
        drive(device, thread, [0, 1], input);
        assert_eq!(disk.metadata().unwrap().len(), MEMORY);
        let extent = Extent { start: 0, length: MEMORY, file: file.clone(), offset: 0 };
        let root = ExtentDisk::new(vec![extent], MEMORY).unwrap();
        let (device, thread) = Block::new("ro", Box::new(root), Arc::new(Nobody));
        drive(device, thread, [0, 1], input);
    });
}

/// A packet of the guest's (VirtIO 1.2 §5.10.6).
fn packet(operation: u16, ports: [u32; 2], data: &[u8]) -> Vec<u8> {
    let mut packet = [3_u64.to_le_bytes(), 2_u64.to_le_bytes()].concat();
    for number in [ports[0], ports[1], u32::try_from(data.len()).unwrap()] {
        packet.extend(number.to_le_bytes());
    }
    packet.extend(1_u16.to_le_bytes());
    packet.extend(operation.to_le_bytes());
    for number in [0_u32, 1 << 18, 0] {
        packet.extend(number.to_le_bytes());
    }
    packet.extend(data);
    packet
}

#[test]
fn vsock_packet() {
    const DOOR: u32 = 1024;
    let seeds = (0..9).map(|operation| {
        chain(&[(&packet(operation, [50, DOOR], if operation == 5 { b"data" } else { b"" }), 0)])
    });
    let seeds = seeds.collect();
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let number = Mutex::new(0);
    fuzz("vsock-packet", seeds, |input| {
        *number.lock().unwrap() += 1;
        let path = folder.path().join(number.lock().unwrap().to_string());
        let (_program, door) = UnixStream::pair().unwrap();
        let config = VsockConfig {
            guest_cid: Cid::try_from(3).unwrap(),
            listener: UnixListener::bind(&path).unwrap(),
            guest_ports: vec![(DOOR, door)],
        };
        std::fs::remove_file(path).unwrap();
        let (device, thread) = Vsock::new(config).unwrap();
        drive(device, thread, [1, 3], input);
    });
}
