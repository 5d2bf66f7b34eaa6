//! What well-behaved guests and programs rely on.

use super::*;
use std::net::Shutdown;
use std::time::Duration;

#[test]
fn a_program_reaches_a_port_of_the_guest() {
    let mut guest = Guest::new();
    let (mut program, ports) = guest.connected(52);
    guest.assert_alive(&mut program, ports);
}

#[test]
fn a_refusal_of_the_guest_closes_the_socket_without_an_answer() {
    let mut guest = Guest::new();
    let (mut program, ports) = guest.dialled(52);
    guest.send(ports, Operation::Reset);
    assert!(read_all(&mut program).is_empty());
}

#[test]
fn a_greeting_may_come_in_pieces_and_with_data_behind_it() {
    let mut guest = Guest::new();
    let mut program = UnixStream::connect(guest.path()).unwrap();
    for piece in ["CONN", "ECT 7", "7"] {
        program.write_all(piece.as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    program.write_all(b"\nhello").unwrap();
    let (header, _) = guest.expect(Operation::Request);
    assert_eq!(header.dst_port, 77);
    guest.send(Ports { guest: 77, host: header.src_port }, Operation::Response);
    assert_eq!(guest.expect(Operation::Data).1, b"hello");
}

#[test]
fn a_foreign_greeting_closes_the_socket() {
    let guest = Guest::new();
    for greeting in [
        "GET / HTTP/1.1\r\n",
        "CONNECT \n",
        "CONNECT +5\n",
        "CONNECT 4294967296\n",
        "\n",
        "CONNECT 00000000000000000000000000000000000052",
    ] {
        let mut program = UnixStream::connect(guest.path()).unwrap();
        program.write_all(greeting.as_bytes()).unwrap();
        let mut bytes = [0; 16];
        assert!(matches!(program.read(&mut bytes), Ok(0) | Err(_)), "{greeting:?}");
    }
}

#[test]
fn the_guest_reaches_a_door_once_and_nothing_else() {
    let mut guest = Guest::new();
    let (first, second) = (Ports { guest: 9, host: DOOR }, Ports { guest: 10, host: DOOR });
    guest.send(first, Operation::Request);
    let (header, _) = guest.expect(Operation::Response);
    assert_eq!((header.src_port, header.dst_port), (DOOR, 9));
    let mut program = guest.door.take().unwrap();
    guest.assert_alive(&mut program, first);
    guest.send(second, Operation::Request);
    guest.expect_reset(second);
    let closed = Ports { guest: 9, host: DOOR + 1 };
    guest.send(closed, Operation::Request);
    guest.expect_reset(closed);
    guest.assert_alive(&mut program, first);
}

#[test]
fn packets_and_buffers_may_be_cut_anywhere() {
    let mut guest = Guest::without_buffers();
    let place = guest.machine.allocate(BUFFER);
    let cut = [writable(place, 7), writable(place + 7, 40), writable(place + 47, 1000)];
    let hear = |guest: &mut Guest| {
        let head = guest.machine.offer(RECEIVE, &cut);
        guest.machine.kick(RECEIVE);
        let (used, length) = guest.machine.wait_used(RECEIVE);
        assert_eq!(used, head);
        let bytes = guest.machine.read(place, length.try_into().unwrap());
        (decode(&bytes[..HEADER_SIZE]), bytes[HEADER_SIZE..].to_vec())
    };
    let mut program = guest.door.take().unwrap();
    let ports = Ports { guest: 9, host: DOOR };
    guest.send(ports, Operation::Request);
    assert_eq!(hear(&mut guest).0.operation, Operation::Response.code());
    program.write_all(&pattern(700)).unwrap();
    let (header, data) = hear(&mut guest);
    assert_eq!((header.len, data), (700, pattern(700)));
    let header = Header { len: 900, ..guest.header(ports, Operation::Data) };
    let packet = guest.machine.store(&[&header.encode()[..], &pattern(1000)].concat());
    let cut = [
        readable(packet, 43),
        readable(packet + 43, 0),
        readable(packet + 43, 2),
        readable(packet + 45, 500),
        // More than the header says: not the stream's.
        readable(packet + 545, 499),
    ];
    guest.machine.exchange(TRANSMIT, &cut);
    let mut bytes = vec![0; 900];
    program.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, pattern(900));
    guest.shut(ports, SHUTDOWN_SEND);
    assert!(read_all(&mut program).is_empty());
}

#[test]
fn the_end_of_a_programs_stream_is_told_after_its_last_byte() {
    let mut guest = Guest::new();
    let (mut program, ports) = guest.connected(52);
    program.write_all(b"last").unwrap();
    program.shutdown(Shutdown::Write).unwrap();
    assert_eq!(guest.expect(Operation::Data).1, b"last");
    assert_eq!(guest.expect(Operation::Shutdown).0.flags, SHUTDOWN_SEND);
    // The other half goes on.
    guest.send_data(ports, b"answer");
    guest.shut(ports, SHUTDOWN_SEND);
    assert_eq!(read_all(&mut program), b"answer");
}

#[test]
fn a_program_that_closes_ends_both_halves() {
    let mut guest = Guest::new();
    let (mut program, ports) = guest.connected(52);
    program.write_all(b"last").unwrap();
    drop(program);
    let mut flags = 0;
    let mut data = Vec::new();
    while flags != BOTH {
        let (header, bytes) = guest.receive();
        data.extend(bytes);
        if header.operation == Operation::Shutdown.code() {
            flags |= header.flags;
        }
    }
    assert_eq!(data, b"last");
    // Forgotten: a late packet is answered as one of a stranger.
    guest.send_data(ports, b"late");
    guest.expect_reset(ports);
}

#[test]
fn the_guests_end_is_told_after_its_last_byte_however_late_the_program_reads() {
    let mut guest = Guest::new();
    let (mut program, ports) = guest.connected(52);
    // More than the socket itself holds.
    let data = pattern(256 << 10);
    for piece in data.chunks(32 << 10) {
        guest.send_data(ports, piece);
    }
    guest.shut(ports, SHUTDOWN_SEND);
    std::thread::sleep(Duration::from_millis(50));
    assert!(read_all(&mut program) == data);
}

#[test]
fn bytes_of_a_guest_that_closed_still_arrive() {
    let mut guest = Guest::new();
    let (mut program, ports) = guest.connected(52);
    let data = pattern(256 << 10);
    for piece in data.chunks(64 << 10) {
        guest.send_data(ports, piece);
    }
    guest.shut(ports, BOTH);
    guest.expect_reset(ports);
    std::thread::sleep(Duration::from_millis(50));
    assert!(read_all(&mut program) == data);
    let (mut program, ports) = guest.connected(53);
    guest.assert_alive(&mut program, ports);
}

#[test]
fn a_guest_that_stops_reading_is_heard_by_the_program() {
    let mut guest = Guest::new();
    let (mut program, ports) = guest.connected(52);
    guest.shut(ports, SHUTDOWN_RECEIVE);
    eventually("a write without a reader", || program.write_all(b"more").is_err());
    guest.send_data(ports, b"still here");
    let mut bytes = [0; 10];
    program.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"still here");
}

#[test]
fn a_program_that_does_not_read_holds_up_only_itself() {
    let mut guest = Guest::new();
    let (stuck, stuck_ports) = guest.connected(52);
    let (mut other, other_ports) = guest.connected(53);
    let mut sent = 0;
    while sent < BUFFER_SIZE {
        guest.send_data(stuck_ports, &pattern(32 << 10));
        sent += 32 << 10;
        guest.assert_alive(&mut other, other_ports);
    }
    drop(stuck);
    assert_eq!(guest.expect(Operation::Shutdown).0.src_port, stuck_ports.host);
}

/// Sends as much as credit allows until `total` bytes are sent, while a thread reads.
#[test]
fn a_large_stream_from_the_guest_arrives_by_credit() {
    const TOTAL: usize = 24 << 20;
    let mut guest = Guest::new();
    let (mut program, ports) = guest.connected(52);
    let reader = std::thread::spawn(move || read_all(&mut program));
    let piece = pattern(64 << 10);
    let (mut sent, mut forwarded) = (0_u32, 0_u32);
    while usize::try_from(sent).unwrap() < TOTAL {
        let packet = u32::try_from(piece.len()).unwrap();
        while BUFFER_SIZE - (sent - forwarded) < packet {
            let (header, _) = guest.receive();
            assert_eq!(header.operation, Operation::CreditUpdate.code());
            assert_eq!(header.buf_alloc, BUFFER_SIZE);
            forwarded = header.fwd_cnt;
        }
        guest.send_data(ports, &piece);
        sent += packet;
    }
    guest.shut(ports, SHUTDOWN_SEND);
    let bytes = reader.join().unwrap();
    assert_eq!(bytes.len(), TOTAL);
    assert!(bytes.chunks(piece.len()).all(|chunk| chunk == piece));
}

#[test]
fn a_large_stream_to_the_guest_keeps_to_its_credit() {
    const TOTAL: usize = 8 << 20;
    let mut guest = Guest::new();
    guest.buf_alloc = 20_000;
    let (mut program, ports) = guest.connected(52);
    let data = pattern(TOTAL);
    let writer = std::thread::spawn({
        let data = data.clone();
        move || program.write_all(&data).unwrap()
    });
    let mut received = Vec::new();
    let mut requests = 0;
    while received.len() < TOTAL {
        let (header, bytes) = guest.receive();
        received.extend(bytes);
        let in_flight = received.len() - usize::try_from(guest.fwd_cnt).unwrap();
        assert!(in_flight <= 20_000, "{in_flight} bytes in flight");
        // Credit is given only when it has all been used and more is asked for.
        if header.operation == Operation::CreditRequest.code() {
            requests += 1;
            guest.fwd_cnt = received.len().try_into().unwrap();
            guest.send(ports, Operation::CreditUpdate);
        }
    }
    assert!(received == data);
    assert!(requests >= TOTAL / 20_000 - 1, "{requests} requests for credit");
    writer.join().unwrap();
}

#[test]
fn credit_is_told_when_asked_for() {
    let mut guest = Guest::new();
    let (mut program, ports) = guest.connected(52);
    guest.send_data(ports, &[1; 1000]);
    let mut bytes = [0; 1000];
    program.read_exact(&mut bytes).unwrap();
    guest.send(ports, Operation::CreditRequest);
    let (header, _) = guest.receive();
    assert_eq!(header.operation, Operation::CreditUpdate.code());
    assert_eq!((header.buf_alloc, header.fwd_cnt), (BUFFER_SIZE, 1000));
}

#[test]
fn a_reset_of_the_device_closes_connections_and_not_the_listener() {
    let mut guest = Guest::new();
    let (mut program, _) = guest.connected(52);
    guest.machine.reset();
    assert!(read_all(&mut program).is_empty());
    let mut waiting = UnixStream::connect(guest.path()).unwrap();
    waiting.write_all(b"CONNECT 60\n").unwrap();
    guest.buffers.clear();
    guest.machine.start();
    guest.supply(16);
    assert_eq!(guest.expect(Operation::Request).0.dst_port, 60);
    let (mut program, ports) = guest.connected(53);
    guest.assert_alive(&mut program, ports);
}

#[test]
fn a_device_that_can_do_nothing_sleeps() {
    let mut guest = Guest::new();
    let (mut program, ports) = guest.connected(52);
    guest.assert_alive(&mut program, ports);
    // A program has bytes for the guest, which has no room for them.
    guest.buf_alloc = 0;
    guest.send(ports, Operation::CreditUpdate);
    program.write_all(&[1; 1000]).unwrap();
    guest.expect(Operation::CreditRequest);
    let before = guest.thread_ticks();
    std::thread::sleep(Duration::from_millis(500));
    assert!(guest.thread_ticks() - before < 10, "of 50");
}
