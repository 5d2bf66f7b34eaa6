//! The block device behind its transport, with files of the host and with a scripted backend.

use super::*;
use crate::devices::virtio::testing::{
    Buffer, INDIRECT, MEMORY_SIZE, Machine, NEXT, WRITE, eventually, readable, register, writable,
};
use crate::virtqueue::Segments;
use proptest::prelude::*;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tempfile::NamedTempFile;

const IN: u32 = 0;
const OUT: u32 = 1;
const FLUSH: u32 = 4;
const GET_ID: u32 = 8;
const DISCARD: u32 = 11;
const WRITE_ZEROES: u32 = 13;

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

const DISK_SIZE: u64 = 1 << 20;

/// Counts what it hears.
#[derive(Debug, Default)]
struct Events {
    full: AtomicU32,
    resumed: AtomicU32,
}

impl HostEvents for Events {
    fn disk_full(&self, disk: &str) {
        assert_eq!(disk, "disk");
        self.full.fetch_add(1, Ordering::SeqCst);
    }

    fn disk_resumed(&self, disk: &str) {
        assert_eq!(disk, "disk");
        self.resumed.fetch_add(1, Ordering::SeqCst);
    }
}

fn machine(backend: impl Backend + 'static) -> (Machine, Arc<Events>) {
    let events = Arc::new(Events::default());
    let (device, thread) = Block::new("disk", Box::new(backend), events.clone());
    (Machine::started(device, thread), events)
}

/// Contents in which every block differs.
fn pattern(length: u64, seed: u64) -> Vec<u8> {
    (0..length).map(|n| ((n / 7 + n / 512 + seed) % 251).to_le_bytes()[0]).collect()
}

fn file_with(contents: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(contents).unwrap();
    file
}

/// A disk in a file, and another handle to look at it.
fn writable_disk() -> (Machine, File) {
    let file = file_with(&pattern(DISK_SIZE, 0));
    let disk = FileDisk::new(file.reopen().unwrap(), DISK_SIZE, FlushPolicy::Durable).unwrap();
    (machine(disk).0, file.into_file())
}

fn contents(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; usize::try_from(DISK_SIZE).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

fn read_only_disk() -> (Machine, NamedTempFile) {
    let file = file_with(&pattern(DISK_SIZE, 0));
    let extent = Extent {
        start: 0,
        length: DISK_SIZE,
        file: Arc::new(File::open(file.path()).unwrap()),
        offset: 0,
    };
    (machine(ExtentDisk::new(vec![extent], DISK_SIZE).unwrap()).0, file)
}

fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

/// Sends a request whose data is `data`; returns the status and the data afterwards.
fn request(machine: &mut Machine, kind: u32, sector: u64, data: &[u8]) -> (u8, Vec<u8>) {
    let head = machine.store(&header(kind, sector));
    let place = machine.store(data);
    let status = machine.store(&[0xff]);
    let data_flags = if matches!(kind, IN | GET_ID) { WRITE } else { 0 };
    let length = u32::try_from(data.len()).unwrap();
    let mut buffers =
        vec![readable(head, 16), Buffer { address: place, length, flags: data_flags }];
    if data.is_empty() {
        buffers.pop();
    }
    buffers.push(writable(status, 1));
    machine.exchange(0, &buffers);
    (machine.read(status, 1)[0], machine.read(place, data.len()))
}

fn range(sector: u64, sectors: u32, flags: u32) -> Vec<u8> {
    [&sector.to_le_bytes()[..], &sectors.to_le_bytes(), &flags.to_le_bytes()].concat()
}

#[test]
fn the_configuration_space_describes_the_disk() {
    let (machine, _file) = writable_disk();
    let config = |offset: u64| machine.read32(register::CONFIG + offset);
    assert_eq!(u64::from(config(0)), DISK_SIZE / SECTOR_SIZE);
    assert_eq!(config(12), 254);
    assert_eq!(config(20), 512);
    assert_eq!(config(28) * config(20), 256 << 10);
    assert_eq!(config(44), 8);
    assert_eq!(config(200), 0);
    let features = machine.offered_features();
    assert_eq!([5, 6, 9, 10, 13, 14].map(|bit| features >> bit & 1), [0, 1, 1, 1, 1, 1]);
    let (machine, _file) = read_only_disk();
    assert_eq!(machine.read32(register::CONFIG + 20), 4096);
    let features = machine.offered_features();
    assert_eq!([5, 6, 9, 10, 13, 14].map(|bit| features >> bit & 1), [1, 1, 0, 1, 0, 0]);
}

#[test]
fn what_is_written_is_in_the_file_and_read_back() {
    let (mut machine, file) = writable_disk();
    let data = pattern(8192, 99);
    assert_eq!(request(&mut machine, OUT, 24, &data).0, OK);
    assert_eq!(contents(&file)[24 * 512..24 * 512 + 8192], data);
    assert_eq!(request(&mut machine, FLUSH, 0, &[]).0, OK);
    assert_eq!(request(&mut machine, IN, 24, &[0; 8192]), (OK, data));
}

#[test]
fn a_request_may_be_cut_anywhere() {
    let (mut machine, _file) = writable_disk();
    let head = machine.store(&header(IN, 3));
    let answer = machine.allocate(1025);
    let buffers = [
        readable(head, 1),
        readable(head + 1, 14),
        readable(head + 15, 1),
        writable(answer, 100),
        writable(answer + 100, 0),
        writable(answer + 100, 900),
        // The last part of the data and the status share a descriptor.
        writable(answer + 1000, 25),
    ];
    let length = machine.exchange(0, &buffers);
    assert_eq!(length, 1025);
    assert_eq!(machine.read(answer, 1024), pattern(DISK_SIZE, 0)[1536..2560]);
    assert_eq!(machine.read(answer + 1024, 1), [OK]);
    machine.offer_indirect(0, &buffers);
    machine.write(answer, &[0; 1025]);
    machine.kick(0);
    machine.wait_used(0);
    assert_eq!(machine.read(answer, 1024), pattern(DISK_SIZE, 0)[1536..2560]);
}

#[test]
fn the_serial_is_the_name() {
    let (mut machine, _file) = writable_disk();
    let (status, id) = request(&mut machine, GET_ID, 0, &[7; 20]);
    assert_eq!((status, id), (OK, b"disk\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0".to_vec()));
    assert_eq!(request(&mut machine, GET_ID, 0, &[7; 4]), (OK, b"disk".to_vec()));
}

#[test]
fn discarding_gives_space_back_and_zeroes() {
    let (mut machine, file) = writable_disk();
    file.sync_all().unwrap();
    let before = file.metadata().unwrap().blocks();
    let ranges = [range(0, 1024, 0), range(1032, 8, 0)].concat();
    assert_eq!(request(&mut machine, DISCARD, 0, &ranges).0, OK);
    assert!(file.metadata().unwrap().blocks() + 1024 <= before);
    let now = contents(&file);
    assert!(now[..1024 * 512].iter().all(|byte| *byte == 0));
    assert_eq!(now[1024 * 512..1032 * 512], pattern(DISK_SIZE, 0)[1024 * 512..1032 * 512]);
    assert_eq!(file.metadata().unwrap().len(), DISK_SIZE);
}

#[test]
fn zeroes_are_written_with_and_without_giving_space_back() {
    let (mut machine, file) = writable_disk();
    assert_eq!(request(&mut machine, WRITE_ZEROES, 0, &range(8, 8, 1)).0, OK);
    assert!(contents(&file)[4096..8192].iter().all(|byte| *byte == 0));
    // Where the file system of the temporary directory cannot, the guest is told so.
    let (status, _) = request(&mut machine, WRITE_ZEROES, 0, &range(16, 8, 0));
    let zero = contents(&file)[8192..12288].iter().all(|byte| *byte == 0);
    assert!(status == OK && zero || status == UNSUPP && !zero);
}

#[test]
fn requests_in_one_batch_share_an_interrupt() {
    let (mut machine, _file) = writable_disk();
    let head = machine.store(&header(IN, 0));
    let place = machine.allocate(513);
    for _ in 0..8 {
        machine.offer(0, &[readable(head, 16), writable(place, 513)]);
    }
    machine.kick(0);
    for _ in 0..8 {
        machine.wait_used(0);
    }
    let head = machine.store(&header(FLUSH, 0));
    machine.exchange(0, &[readable(head, 16), writable(place, 1)]);
    assert!(machine.line.edges() <= 4, "{} interrupts for 9 requests", machine.line.edges());
}

#[test]
fn row_23_a_sector_beyond_the_disk_or_overflowing_returns_ioerr() {
    let (mut machine, file) = writable_disk();
    let last = DISK_SIZE / SECTOR_SIZE;
    for sector in [last, last - 1, last + 1, u64::MAX, u64::MAX / 512, u64::MAX / 512 + 1, 1 << 55]
    {
        assert_eq!(request(&mut machine, IN, sector, &[9; 1024]), (IOERR, vec![9; 1024]));
        assert_eq!(request(&mut machine, OUT, sector, &[9; 1024]).0, IOERR);
        for kind in [DISCARD, WRITE_ZEROES] {
            assert_eq!(request(&mut machine, kind, 0, &range(sector, 2, 0)).0, IOERR);
        }
    }
    assert_eq!(contents(&file), pattern(DISK_SIZE, 0));
    assert_eq!(file.metadata().unwrap().len(), DISK_SIZE);
}

#[test]
fn row_23_a_list_of_ranges_is_refused_as_a_whole() {
    let (mut machine, file) = writable_disk();
    let too_far = [range(0, 8, 0), range(DISK_SIZE / 512, 8, 0)].concat();
    let unmap = [range(0, 8, 0), range(8, 8, 1)].concat();
    let many = range(0, 8, 0).repeat(65);
    assert_eq!(request(&mut machine, DISCARD, 0, &too_far).0, IOERR);
    assert_eq!(request(&mut machine, DISCARD, 0, &unmap).0, UNSUPP);
    assert_eq!(request(&mut machine, DISCARD, 0, &many).0, IOERR);
    assert_eq!(request(&mut machine, DISCARD, 0, &many[..17]).0, IOERR);
    assert_eq!(request(&mut machine, DISCARD, 0, &[]).0, IOERR);
    assert_eq!(request(&mut machine, WRITE_ZEROES, 0, &range(0, 8, 2)).0, UNSUPP);
    assert_eq!(contents(&file), pattern(DISK_SIZE, 0));
}

#[test]
fn row_23_the_read_only_root_refuses_everything_but_reading() {
    let (mut machine, file) = read_only_disk();
    assert_eq!(request(&mut machine, OUT, 0, &[1; 512]).0, IOERR);
    assert_eq!(request(&mut machine, FLUSH, 0, &[]).0, UNSUPP);
    assert_eq!(request(&mut machine, DISCARD, 0, &range(0, 8, 0)).0, UNSUPP);
    assert_eq!(request(&mut machine, WRITE_ZEROES, 0, &range(0, 8, 0)).0, UNSUPP);
    assert_eq!(request(&mut machine, IN, 0, &[0; 512]), (OK, pattern(512, 0)));
    assert_eq!(contents(file.as_file()), pattern(DISK_SIZE, 0));
}

#[test]
fn row_23_a_root_file_that_is_open_for_writing_is_refused() {
    let file = file_with(&pattern(4096, 0));
    let extent = Extent { start: 0, length: 4096, file: Arc::new(file.into_file()), offset: 0 };
    let error = ExtentDisk::new(vec![extent], 4096).unwrap_err();
    assert!(matches!(error, BackendError::Writable { start: 0 }));
}

#[test]
fn extents_that_make_no_disk_are_refused() {
    let file = file_with(&[]);
    let file = Arc::new(File::open(file.path()).unwrap());
    let extent = |start, length, offset| Extent { start, length, file: file.clone(), offset };
    let refused = |extents: Vec<Extent>| ExtentDisk::new(extents, 1 << 20).is_err();
    assert!(refused(vec![extent(0, 0, 0)]));
    assert!(refused(vec![extent(0, 4096, u64::MAX)]));
    assert!(refused(vec![extent(0, 4096, 1 << 63)]));
    assert!(refused(vec![extent(u64::MAX, 2, 0)]));
    assert!(refused(vec![extent(0, (1 << 20) + 1, 0)]));
    assert!(refused(vec![extent(0, 4096, 0), extent(4095, 4096, 0)]));
    assert!(refused(vec![extent(4096, 4096, 0), extent(0, 4096, 0)]));
    assert!(ExtentDisk::new(Vec::new(), 4095).is_err());
    assert!(ExtentDisk::new(Vec::new(), 0).is_err());
    assert!(ExtentDisk::new(vec![extent(0, 4096, 0), extent(4096, 1, 7)], 1 << 20).is_ok());
}

/// A backend whose writes fail as told, and whose reads wait until they are let go.
#[derive(Debug)]
struct Scripted {
    write_errors: Arc<Mutex<Vec<i32>>>,
    read_began: Sender<()>,
    read_may_end: Receiver<()>,
    written: Arc<Mutex<Vec<u8>>>,
}

#[derive(Debug)]
struct Script {
    write_errors: Arc<Mutex<Vec<i32>>>,
    read_began: Receiver<()>,
    read_may_end: Sender<()>,
    written: Arc<Mutex<Vec<u8>>>,
}

fn scripted() -> (Scripted, Script) {
    let (began, read_began) = channel();
    let (read_may_end, may_end) = channel();
    let (write_errors, written) = <(Arc<Mutex<Vec<i32>>>, Arc<Mutex<Vec<u8>>>)>::default();
    let backend = Scripted {
        write_errors: write_errors.clone(),
        read_began: began,
        read_may_end: may_end,
        written: written.clone(),
    };
    (backend, Script { write_errors, read_began, read_may_end, written })
}

impl Backend for Scripted {
    fn size(&self) -> u64 {
        DISK_SIZE
    }

    fn block_size(&self) -> u32 {
        512
    }

    fn read_only(&self) -> bool {
        false
    }

    fn read(&self, _offset: u64, into: &mut Segments<'_>) -> io::Result<()> {
        let _ = self.read_began.send(());
        let _ = self.read_may_end.recv();
        into.write_all(&vec![0xab; into.len()]).map_err(io::Error::other)
    }

    /// Each failure comes after a sector has been written.
    fn write(&self, offset: u64, from: &mut Segments<'_>) -> io::Result<()> {
        let error = self.write_errors.lock().unwrap().pop();
        let mut written = self.written.lock().unwrap();
        assert_eq!(offset, u64::try_from(written.len()).unwrap(), "goes on where it stopped");
        let count = if error.is_some() { 512 } else { from.len() };
        let mut bytes = vec![0; count];
        from.read_exact(&mut bytes).unwrap();
        written.extend(bytes);
        error.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
    }

    fn flush(&self) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::ENOSPC))
    }

    fn punch_hole(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP))
    }

    fn zero_range(&self, _offset: u64, _length: u64) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::EIO))
    }
}

#[test]
fn errors_of_the_host_become_statuses() {
    let (backend, script) = scripted();
    let (mut machine, events) = machine(backend);
    script.write_errors.lock().unwrap().push(libc::EIO);
    assert_eq!(request(&mut machine, OUT, 0, &[1; 1024]).0, IOERR);
    assert_eq!(request(&mut machine, FLUSH, 0, &[]).0, IOERR, "a failed flush is not repeated");
    assert_eq!(request(&mut machine, DISCARD, 0, &range(0, 8, 0)).0, UNSUPP);
    assert_eq!(request(&mut machine, WRITE_ZEROES, 0, &range(0, 8, 0)).0, IOERR);
    assert_eq!(events.full.load(Ordering::SeqCst), 0);
}

#[test]
fn a_write_waits_for_a_full_host_and_goes_on_where_it_stopped() {
    let (backend, script) = scripted();
    let (mut machine, events) = machine(backend);
    script.write_errors.lock().unwrap().extend([libc::EDQUOT, libc::ENOSPC]);
    let data = pattern(4096, 5);
    assert_eq!(request(&mut machine, OUT, 0, &data).0, OK);
    assert_eq!(*script.written.lock().unwrap(), data);
    assert_eq!(events.full.load(Ordering::SeqCst), 1, "one line for one stall");
    assert_eq!(events.resumed.load(Ordering::SeqCst), 1);
}

#[test]
fn what_was_completed_before_a_stall_is_told() {
    let (backend, script) = scripted();
    let (mut machine, events) = machine(backend);
    script.write_errors.lock().unwrap().extend([libc::ENOSPC; 1000]);
    let (id, out) = (machine.store(&header(GET_ID, 0)), machine.store(&header(OUT, 0)));
    let place = machine.allocate(1024);
    machine.offer(0, &[readable(id, 16), writable(place, 21)]);
    machine.offer(0, &[readable(out, 16), readable(place, 1024), writable(place, 1)]);
    machine.kick(0);
    eventually("a stall", || events.full.load(Ordering::SeqCst) == 1);
    eventually("an interrupt", || machine.line.edges() == 1);
    machine.wait_used(0);
    let start = Instant::now();
    machine.reset();
    assert!(start.elapsed() < FULL_RETRY / 2, "a reset does not wait for the next try");
    assert_eq!(events.resumed.load(Ordering::SeqCst), 0);
}

#[test]
fn row_24_a_reset_waits_for_the_read_in_flight() {
    let (backend, script) = scripted();
    let (mut machine, _events) = machine(backend);
    let head = machine.store(&header(IN, 0));
    let place = machine.allocate(513);
    machine.offer(0, &[readable(head, 16), writable(place, 513)]);
    machine.kick(0);
    script.read_began.recv().unwrap();
    std::thread::scope(|scope| {
        let reset = scope.spawn(|| machine.reset());
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert!(!reset.is_finished(), "guest memory is still in use");
        script.read_may_end.send(()).unwrap();
        reset.join().unwrap();
    });
    // The memory is the guest's again: nothing comes late.
    machine.write(place, &[1; 513]);
    machine.start();
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(machine.read(place, 513), [1; 513]);
}

#[test]
fn row_24_resets_under_load_leave_a_working_disk() {
    let (mut machine, file) = writable_disk();
    for round in 0..50 {
        let head = machine.store(&header(IN, round));
        let place = machine.allocate(4097);
        for _ in 0..20 {
            machine.offer(0, &[readable(head, 16), writable(place, 4097)]);
        }
        machine.kick(0);
        machine.reset();
        machine.start();
    }
    assert_eq!(request(&mut machine, IN, 8, &[0; 512]).1, contents(&file)[4096..4608]);
}

#[test]
fn row_21_malformed_chains_are_given_back_and_nothing_happens() {
    let (mut machine, file) = writable_disk();
    let head = machine.store(&header(OUT, 0));
    let place = machine.allocate(1024);
    let table = machine.rings[0].descriptors();
    let malformed: &[&[Buffer]] = &[
        &[readable(head, 16)],
        &[writable(place, 512)],
        &[readable(head, 16), writable(place, 1), readable(place, 512)],
        &[readable(head, 16), readable(MEMORY_SIZE - 100, 512), writable(place, 1)],
        &[Buffer { address: place, length: 24, flags: INDIRECT }],
        &[Buffer { address: table, length: !15, flags: INDIRECT }],
        &[Buffer { address: u64::MAX - 7, length: u32::MAX, flags: 0 }],
    ];
    for buffers in malformed {
        let length = machine.exchange(0, buffers);
        assert!(length <= 1, "{buffers:?}");
    }
    // A chain that runs in circles: its one descriptor names itself.
    let looping = machine.offer(0, &[readable(head, 16)]);
    let place_of_it = table + 16 * u64::from(looping);
    let buffer = Buffer { flags: NEXT, ..readable(head, 16) };
    machine.write_descriptor(place_of_it, buffer, looping);
    machine.kick(0);
    machine.wait_used(0);
    assert_eq!(contents(&file), pattern(DISK_SIZE, 0));
    assert_eq!(request(&mut machine, IN, 0, &[0; 512]), (OK, pattern(512, 0)));
}

#[test]
fn row_22_descriptors_and_headers_that_change_meanwhile_stay_harmless() {
    let (mut machine, file) = read_only_disk();
    let memory = machine.memory.clone();
    let head = machine.store(&header(IN, 0));
    let place = machine.allocate(4096);
    let table = machine.rings[0].descriptors();
    let stop = Arc::new(AtomicU32::new(0));
    let flipper = std::thread::spawn({
        let stop = stop.clone();
        move || {
            use vm_memory::{Bytes, GuestAddress};
            let mut value = 0_u64;
            while stop.load(Ordering::Relaxed) == 0 {
                value = value.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                memory.write_obj(value, GuestAddress(head + value % 16 / 8 * 8)).unwrap();
                let flags = u32::try_from(value >> 40 & 0x0003_0007).unwrap();
                memory.write_obj(flags, GuestAddress(table + 12 + value % 16 * 16)).unwrap();
            }
        }
    });
    for _ in 0..2000 {
        machine.offer(0, &[readable(head, 16), writable(place, 4096), writable(place, 1)]);
        machine.kick(0);
        machine.wait_used(0);
    }
    stop.store(1, Ordering::Relaxed);
    flipper.join().unwrap();
    assert_eq!(contents(file.as_file()), pattern(DISK_SIZE, 0));
}

/// Extents of random lengths with gaps between, over files that may be too short.
fn any_extents() -> impl Strategy<Value = Vec<(u64, u64, u64)>> {
    let extent = (0..3_u64, 1..20_000_u64, 0..9_000_u64);
    prop::collection::vec(extent, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn reads_over_extents_gaps_and_short_files_match_a_model(
        parts in any_extents(),
        reads in prop::collection::vec((0..400_u64, 1..40_usize), 1..12),
    ) {
        const SIZE: u64 = 256 << 10;
        let source = pattern(16_000, 3);
        let file = file_with(&source);
        let file = Arc::new(File::open(file.path()).unwrap());
        let mut model = vec![0; usize::try_from(SIZE).unwrap()];
        let mut extents = Vec::new();
        let mut start = 0;
        for (gap, length, offset) in parts {
            start += gap * 1000;
            if start + length > SIZE {
                break;
            }
            for n in 0..length {
                let byte = source.get(usize::try_from(offset + n).unwrap()).copied();
                model[usize::try_from(start + n).unwrap()] = byte.unwrap_or(0);
            }
            extents.push(Extent { start, length, file: file.clone(), offset });
            start += length;
        }
        let (mut machine, _) = machine(ExtentDisk::new(extents, SIZE).unwrap());
        for (sector, sectors) in reads {
            let from = usize::try_from(sector).unwrap() * 512;
            let (status, data) = request(&mut machine, IN, sector, &vec![0xee; sectors * 512]);
            prop_assert_eq!(status, OK);
            prop_assert!(data == model[from..from + sectors * 512], "at sector {}", sector);
        }
    }

    /// Any header, any shape: no panic, an answer, and no change of a disk whose request failed.
    #[test]
    fn any_request_is_answered_and_a_refused_one_changes_nothing(
        requests in prop::collection::vec((
            prop_oneof![0..16_u32, any::<u32>()],
            prop_oneof![0..2050_u64, any::<u64>()],
            prop::collection::vec((0..1600_usize, any::<bool>()), 0..5),
        ), 1..40),
    ) {
        let (mut machine, file) = writable_disk();
        for (kind, sector, parts) in requests {
            let before = contents(&file);
            let head = machine.store(&header(kind, sector));
            let place = machine.store(&[0x5a; 1600]);
            let status = machine.store(&[0xff]);
            let mut buffers = vec![readable(head, 16)];
            buffers.extend(parts.iter().map(|(length, write)| {
                if *write { writable(place, *length) } else { readable(place, *length) }
            }));
            buffers.push(writable(status, 1));
            machine.exchange(0, &buffers);
            if machine.read(status, 1) != [OK] || kind != OUT {
                prop_assert!(kind == DISCARD || kind == WRITE_ZEROES || contents(&file) == before);
            }
        }
        prop_assert!(!machine.needs_reset());
    }
}
