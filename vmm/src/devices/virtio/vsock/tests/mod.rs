//! The socket device behind its transport: a guest made of packets, programs made of sockets.

mod hostile;
mod streams;

use super::packet::{HEADER_SIZE, Header, Operation, SHUTDOWN_RECEIVE, SHUTDOWN_SEND, STREAM};
use super::*;
use crate::confine::filter_thread;
use crate::devices::virtio::testing::{Machine, eventually, readable, writable};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use tempfile::TempDir;

const GUEST: u64 = 3;
const RECEIVE: usize = 0;
const TRANSMIT: usize = 1;

/// A port of the host that the guest may dial, once.
const DOOR: u32 = 1024;

/// Bytes that the fake guest says it can hold, unless a test says otherwise.
const GUEST_BUFFER: u32 = 256 << 10;

const BOTH: u32 = SHUTDOWN_SEND | SHUTDOWN_RECEIVE;

/// A connection as the guest sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ports {
    guest: u32,
    host: u32,
}

/// The guest's driver: sends packets and hears them.
#[derive(Debug)]
struct Guest {
    machine: Machine,
    /// Addresses of the receive buffers, by the head of their chains.
    buffers: HashMap<u16, u64>,
    outgoing: u64,
    thread: rustix::thread::Pid,
    /// What it tells the device about its own buffer.
    buf_alloc: u32,
    fwd_cnt: u32,
    directory: TempDir,
    /// The program's end of the socket behind [`DOOR`].
    door: Option<UnixStream>,
}

/// Bytes of each receive buffer, as Linux has them.
const BUFFER: usize = 4096;

impl Guest {
    /// A running device and a guest with receive buffers.
    fn new() -> Self {
        let mut guest = Self::without_buffers();
        guest.supply(64);
        guest
    }

    fn without_buffers() -> Self {
        let directory = TempDir::new().unwrap();
        let listener = UnixListener::bind(directory.path().join("vsock")).unwrap();
        let (door, inside) = UnixStream::pair().unwrap();
        let config = VsockConfig {
            guest_cid: Cid::try_from(GUEST).unwrap(),
            listener,
            guest_ports: vec![(DOOR, inside)],
        };
        let (device, thread) = Vsock::new(config).unwrap();
        let (sender, receiver) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            sender.send(rustix::thread::gettid()).unwrap();
            filter_thread(thread.kind.into()).unwrap();
            (thread.body)();
        });
        let mut machine = Machine::with_thread(device, thread);
        machine.start();
        let outgoing = machine.allocate(HEADER_SIZE + (64 << 10));
        Self {
            machine,
            buffers: HashMap::new(),
            outgoing,
            thread: receiver.recv().unwrap(),
            buf_alloc: GUEST_BUFFER,
            fwd_cnt: 0,
            directory,
            door: Some(door),
        }
    }

    /// CPU time of the device's thread so far, in hundredths of a second.
    fn thread_ticks(&self) -> u64 {
        let path = format!("/proc/self/task/{}/stat", self.thread);
        let stat = std::fs::read_to_string(path).unwrap();
        let fields = stat.rsplit(')').next().unwrap().split_whitespace();
        fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("vsock")
    }

    /// Makes `count` more receive buffers available.
    fn supply(&mut self, count: usize) {
        for _ in 0..count {
            let address = self.machine.allocate(BUFFER);
            self.supply_at(address);
        }
        self.machine.kick(RECEIVE);
    }

    fn supply_at(&mut self, address: u64) {
        let head = self.machine.offer(RECEIVE, &[writable(address, BUFFER)]);
        self.buffers.insert(head, address);
    }

    /// The header of a packet of the guest.
    fn header(&self, ports: Ports, operation: Operation) -> Header {
        Header {
            src_cid: GUEST,
            dst_cid: HOST_CID,
            src_port: ports.guest,
            dst_port: ports.host,
            len: 0,
            kind: STREAM,
            operation: operation.code(),
            flags: 0,
            buf_alloc: self.buf_alloc,
            fwd_cnt: self.fwd_cnt,
        }
    }

    /// Sends a header as it is, with data behind it, in one descriptor.
    fn send_raw(&mut self, header: &Header, data: &[u8]) {
        self.machine.write(self.outgoing, &header.encode());
        self.machine.write(self.outgoing + 44, data);
        let buffer = readable(self.outgoing, HEADER_SIZE + data.len());
        self.machine.exchange(TRANSMIT, &[buffer]);
    }

    fn send(&mut self, ports: Ports, operation: Operation) {
        let header = self.header(ports, operation);
        self.send_raw(&header, &[]);
    }

    fn send_data(&mut self, ports: Ports, data: &[u8]) {
        let len = data.len().try_into().unwrap();
        let header = Header { len, ..self.header(ports, Operation::Data) };
        self.send_raw(&header, data);
    }

    fn shut(&mut self, ports: Ports, flags: u32) {
        let header = Header { flags, ..self.header(ports, Operation::Shutdown) };
        self.send_raw(&header, &[]);
    }

    /// The next packet for the guest, if one has come; its buffer is used again.
    fn try_receive(&mut self) -> Option<(Header, Vec<u8>)> {
        let (head, length) = self.machine.take_used(RECEIVE)?;
        let address = self.buffers.remove(&head).unwrap();
        let bytes = self.machine.read(address, length.try_into().unwrap());
        self.supply_at(address);
        self.machine.kick(RECEIVE);
        let (header, data) = bytes.split_at(HEADER_SIZE);
        Some((decode(header), data.to_vec()))
    }

    /// Waits for the next packet, which is addressed and counted right.
    fn receive(&mut self) -> (Header, Vec<u8>) {
        let mut packet = None;
        eventually("a packet for the guest", || {
            packet = self.try_receive();
            packet.is_some()
        });
        let (header, data) = packet.unwrap();
        assert_eq!((header.dst_cid, header.kind), (GUEST, STREAM));
        assert_eq!(usize::try_from(header.len).unwrap(), data.len());
        (header, data)
    }

    /// Waits for the next packet that is no credit update, which is of this kind.
    fn expect(&mut self, operation: Operation) -> (Header, Vec<u8>) {
        loop {
            let (header, data) = self.receive();
            if header.operation == operation.code() {
                return (header, data);
            }
            let update = Operation::CreditUpdate.code();
            assert_eq!(header.operation, update, "instead of {operation:?}: {header:?}");
        }
    }

    /// Waits for the reset of this connection.
    fn expect_reset(&mut self, ports: Ports) {
        let (header, _) = self.expect(Operation::Reset);
        assert_eq!((header.src_port, header.dst_port), (ports.host, ports.guest));
    }

    /// A program asks for `port`; the guest has not answered.
    fn dialled(&mut self, port: u32) -> (UnixStream, Ports) {
        let mut program = UnixStream::connect(self.path()).unwrap();
        program.set_read_timeout(Some(crate::devices::virtio::testing::PATIENCE)).unwrap();
        program.write_all(format!("CONNECT {port}\n").as_bytes()).unwrap();
        let (header, _) = self.expect(Operation::Request);
        assert_eq!((header.src_cid, header.dst_port), (HOST_CID, port));
        assert_eq!(header.buf_alloc, BUFFER_SIZE);
        (program, Ports { guest: port, host: header.src_port })
    }

    /// A connection from a program on the host to `port`.
    fn connected(&mut self, port: u32) -> (UnixStream, Ports) {
        let (mut program, ports) = self.dialled(port);
        self.send(ports, Operation::Response);
        let expected = format!("OK {}\n", ports.host);
        let mut answer = vec![0; expected.len()];
        program.read_exact(&mut answer).unwrap();
        assert_eq!(answer, expected.as_bytes());
        (program, ports)
    }

    /// The device still serves this connection.
    fn assert_alive(&mut self, program: &mut UnixStream, ports: Ports) {
        self.send_data(ports, b"ping");
        let mut bytes = [0; 4];
        program.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"ping");
        program.write_all(b"pong").unwrap();
        assert_eq!(self.expect(Operation::Data).1, b"pong");
    }
}

fn decode(bytes: &[u8]) -> Header {
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let u16_at = |at: usize| u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap());
    Header {
        src_cid: u64_at(0),
        dst_cid: u64_at(8),
        src_port: u32_at(16),
        dst_port: u32_at(20),
        len: u32_at(24),
        kind: u16_at(28),
        operation: u16_at(30),
        flags: u32_at(32),
        buf_alloc: u32_at(36),
        fwd_cnt: u32_at(40),
    }
}

/// All that is left in the stream.
fn read_all(program: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    program.read_to_end(&mut bytes).unwrap();
    bytes
}

/// Bytes whose order can be told.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|n| ((n / 3 + n / 1000) % 253).to_le_bytes()[0]).collect()
}
