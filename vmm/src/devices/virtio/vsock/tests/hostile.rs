//! Threats row 25, and headers of every kind.

use super::*;
use proptest::prelude::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::time::Duration;

#[test]
fn row_25_a_forged_cid_is_refused_and_touches_no_connection() {
    let mut guest = Guest::new();
    let (mut program, ports) = guest.connected(52);
    for (src_cid, dst_cid) in [(4, HOST_CID), (HOST_CID, HOST_CID), (GUEST, 7), (u64::MAX, 0)] {
        let header = Header { src_cid, dst_cid, len: 4, ..guest.header(ports, Operation::Data) };
        guest.send_raw(&header, b"evil");
        let (reset, _) = guest.expect(Operation::Reset);
        assert_eq!((reset.src_cid, reset.dst_cid), (dst_cid, GUEST), "never to another guest");
        let forged_reset = Header { src_cid, dst_cid, ..guest.header(ports, Operation::Reset) };
        guest.send_raw(&forged_reset, &[]);
    }
    guest.assert_alive(&mut program, ports);
}

/// Sends what `forge` makes of a header of a live connection; that connection is reset, and
/// another one lives on.
fn assert_resets(what: &str, forge: impl Fn(&mut Header) -> Vec<u8>) {
    let mut guest = Guest::new();
    let (mut other, other_ports) = guest.connected(60);
    let (mut program, ports) = guest.connected(52);
    let mut header = guest.header(ports, Operation::Data);
    let data = forge(&mut header);
    guest.send_raw(&header, &data);
    let mut packet = None;
    eventually(what, || {
        packet = guest.try_receive();
        packet.is_some()
    });
    let (reset, _) = packet.unwrap();
    assert_eq!(reset.operation, Operation::Reset.code(), "{what}: {reset:?}");
    assert_eq!((reset.src_port, reset.dst_port), (ports.host, ports.guest), "{what}");
    assert!(read_all(&mut program).is_empty(), "{what}: the program's socket is closed");
    guest.assert_alive(&mut other, other_ports);
}

#[test]
fn row_25_a_packet_against_the_protocol_resets_its_connection() {
    assert_resets("unknown operation", |header| {
        header.operation = 99;
        Vec::new()
    });
    assert_resets("operation 0", |header| {
        header.operation = 0;
        Vec::new()
    });
    assert_resets("unknown type", |header| {
        header.kind = 7;
        Vec::new()
    });
    assert_resets("length beyond the packet", |header| {
        header.len = 5;
        b"four".to_vec()
    });
    assert_resets("enormous length", |header| {
        header.len = u32::MAX;
        b"four".to_vec()
    });
    assert_resets("a second request", |header| {
        header.operation = Operation::Request.code();
        Vec::new()
    });
    assert_resets("an answer to nothing", |header| {
        header.operation = Operation::Response.code();
        Vec::new()
    });
}

#[test]
fn row_25_data_after_the_end_resets_the_connection() {
    let mut guest = Guest::new();
    let (_program, ports) = guest.connected(52);
    guest.shut(ports, SHUTDOWN_SEND);
    guest.send_data(ports, b"more");
    guest.expect_reset(ports);
}

#[test]
fn row_25_data_before_the_answer_resets_the_connection() {
    let mut guest = Guest::new();
    let (mut program, ports) = guest.dialled(52);
    guest.send_data(ports, b"early");
    guest.expect_reset(ports);
    assert!(read_all(&mut program).is_empty());
}

#[test]
fn row_25_more_data_than_credit_resets_the_connection_and_is_never_held() {
    let mut guest = Guest::new();
    let (mut program, ports) = guest.connected(52);
    let mut sent = 0;
    let piece = pattern(64 << 10);
    let reset = loop {
        guest.send_data(ports, &piece);
        sent += piece.len();
        let heard = std::iter::from_fn(|| guest.try_receive());
        let reset = Operation::Reset.code();
        if heard.into_iter().any(|(header, _)| header.operation == reset) {
            break sent;
        }
        std::thread::sleep(Duration::from_millis(5));
        assert!(sent < 16 << 20, "the device takes whatever comes");
    };
    let held = read_all(&mut program);
    assert!(held.len() < reset);
    let socket = 512 << 10;
    assert!(held.len() <= usize::try_from(BUFFER_SIZE).unwrap() + socket);
    assert!(held.chunks(piece.len()).all(|chunk| chunk == &piece[..chunk.len()]));
}

#[test]
fn row_25_forged_credit_counters_only_stop_the_guests_own_stream() {
    let mut guest = Guest::new();
    let (mut other, other_ports) = guest.connected(60);
    let (mut program, ports) = guest.connected(52);
    // More passed on than was ever sent.
    let forged =
        Header { buf_alloc: 1000, fwd_cnt: 1, ..guest.header(ports, Operation::CreditUpdate) };
    guest.send_raw(&forged, &[]);
    program.write_all(b"hello").unwrap();
    guest.expect(Operation::CreditRequest);
    guest.assert_alive(&mut other, other_ports);
}

#[test]
fn row_25_a_flood_of_requests_waits_for_receive_buffers() {
    let mut guest = Guest::without_buffers();
    // As many as the ring holds; none of them needs more than a bounded place in the device.
    for port in 0..u32::from(QUEUE_SIZES[1]) {
        let place = guest.machine.allocate(HEADER_SIZE);
        let header = guest.header(Ports { guest: port, host: 1 }, Operation::Request);
        guest.machine.write(place, &header.encode());
        guest.machine.offer(TRANSMIT, &[readable(place, HEADER_SIZE)]);
    }
    guest.machine.kick(TRANSMIT);
    let mut taken = 0;
    for _ in 0..50 {
        taken += std::iter::from_fn(|| guest.machine.take_used(TRANSMIT)).count();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(taken, 64, "the rest is left in the ring");
    guest.supply(32);
    for _ in 0..QUEUE_SIZES[1] {
        guest.expect(Operation::Reset);
    }
}

#[test]
fn row_25_a_hundred_thousand_requests_leave_a_working_device() {
    const BATCH: u32 = 50;
    let mut guest = Guest::new();
    let places: Vec<_> = (0..BATCH).map(|_| guest.machine.allocate(HEADER_SIZE)).collect();
    let mut refused = 0;
    for batch in 0..100_000 / BATCH {
        for (place, port) in places.iter().zip(0..) {
            let ports = Ports { guest: batch, host: 2000 + port };
            let header = guest.header(ports, Operation::Request);
            guest.machine.write(*place, &header.encode());
            guest.machine.offer(TRANSMIT, &[readable(*place, HEADER_SIZE)]);
        }
        guest.machine.kick(TRANSMIT);
        for _ in 0..BATCH {
            guest.machine.wait_used(TRANSMIT);
            guest.expect(Operation::Reset);
            refused += 1;
        }
    }
    assert_eq!(refused, 100_000);
    let (mut program, ports) = guest.connected(52);
    guest.assert_alive(&mut program, ports);
}

#[test]
fn row_25_connections_are_capped_and_the_rest_waits() {
    // Both ends of every socket are in this process.
    let limit = getrlimit(Resource::Nofile);
    let wanted = u64::try_from(4 * MAX_CONNECTIONS).unwrap();
    let raised = Rlimit {
        current: limit.maximum.map_or(Some(wanted), |max| Some(max.min(wanted))),
        ..limit
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let guest = Guest::new();
    let mut programs: Vec<_> =
        (0..MAX_CONNECTIONS).map(|_| UnixStream::connect(guest.path()).unwrap()).collect();
    let mut late = UnixStream::connect(guest.path()).unwrap();
    late.write_all(b"GET\n").unwrap();
    late.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut byte = [0];
    let error = late.read(&mut byte).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "not admitted yet");
    programs.truncate(MAX_CONNECTIONS / 2);
    late.set_read_timeout(Some(crate::devices::virtio::testing::PATIENCE)).unwrap();
    assert!(matches!(late.read(&mut byte), Ok(0) | Err(_)), "admitted, and closed for its words");
}

fn any_header() -> impl Strategy<Value = (Header, Vec<u8>)> {
    let cid = || prop_oneof![6 => Just(GUEST), 6 => Just(HOST_CID), 1 => any::<u64>()];
    let port =
        || prop_oneof![4 => Just(52_u32), 2 => Just(DOOR), 6 => Just(1 << 30), 1 => any::<u32>()];
    let kind = prop_oneof![12 => Just(STREAM), 1 => any::<u16>()];
    let operation = prop_oneof![12 => 0..9_u16, 1 => any::<u16>()];
    let len = prop_oneof![0..600_u32, any::<u32>()];
    let numbers = (any::<u32>(), any::<u32>(), any::<u32>());
    let data = prop::collection::vec(any::<u8>(), 0..500);
    (cid(), cid(), port(), port(), len, kind, operation, numbers, data).prop_map(
        |(src_cid, dst_cid, src_port, dst_port, len, kind, operation, numbers, data)| {
            let (flags, buf_alloc, fwd_cnt) = numbers;
            let header = Header {
                src_cid,
                dst_cid,
                src_port,
                dst_port,
                len,
                kind,
                operation,
                flags,
                buf_alloc,
                fwd_cnt,
            };
            (header, data)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Any packets, beside a connection that must live on.
    #[test]
    fn any_packets_leave_a_working_device(
        packets in prop::collection::vec(any_header(), 1..60),
        cut in 0..44_usize,
    ) {
        let mut guest = Guest::new();
        let (_target, _) = guest.connected(52);
        for (header, data) in packets {
            guest.send_raw(&header, &data);
            while guest.try_receive().is_some() {}
        }
        let stub = guest.outgoing;
        guest.machine.exchange(TRANSMIT, &[readable(stub, cut.max(1))]);
        std::thread::sleep(Duration::from_millis(2));
        while guest.try_receive().is_some() {}
        prop_assert!(!guest.machine.needs_reset());
        let (mut program, ports) = guest.connected(61);
        guest.assert_alive(&mut program, ports);
    }
}
