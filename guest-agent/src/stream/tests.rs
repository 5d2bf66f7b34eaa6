use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use agent_protocol::encode;
use rustix::pipe::{PipeFlags, pipe_with};

use super::*;

const FIRST: Token = Token(7);

/// The agent's loop, as far as streams are concerned.
struct Loop {
    poll: Poll,
    streams: Streams,
    again: Vec<Token>,
}

impl Loop {
    fn new() -> Self {
        let poll = Poll::new().unwrap();
        Self { poll, streams: Streams::new(FIRST), again: Vec::new() }
    }

    /// Runs until nothing more happens.
    fn settle(&mut self) {
        let until = Instant::now() + Duration::from_millis(30);
        while Instant::now() < until || !self.again.is_empty() {
            for token in std::mem::take(&mut self.again) {
                if self.streams.on_event(&self.poll, token, EventFlags::empty()).unwrap() {
                    self.again.push(token);
                }
            }
            for ready in self.poll.wait(false).unwrap() {
                if self.streams.on_event(&self.poll, ready.token, ready.flags).unwrap() {
                    self.again.push(ready.token);
                }
            }
        }
    }

    fn connect(&mut self, stream: Stream) -> UnixStream {
        let mut host = self.connect_with(&hello(stream));
        host.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        host.flush().unwrap();
        host
    }

    fn connect_with(&mut self, bytes: &[u8]) -> UnixStream {
        let (agent, mut host) = UnixStream::pair().unwrap();
        agent.set_nonblocking(true).unwrap();
        host.write_all(bytes).unwrap();
        self.streams.accept(&self.poll, agent.into()).unwrap();
        self.settle();
        host
    }

    /// Opens a process with one output pipe; gives the process's writing end.
    fn open_output(&mut self, stream: Stream) -> std::fs::File {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::fs::fcntl_setfl(&ours, rustix::fs::OFlags::NONBLOCK).unwrap();
        let end = End { stream, kind: Kind::Pipe, fd: ours };
        self.streams.open(&self.poll, ProcessId::INIT, vec![end]).unwrap();
        self.settle();
        theirs.into()
    }

    /// Opens a process with an input pipe; gives the process's reading end.
    fn open_input(&mut self) -> std::fs::File {
        let (theirs, ours) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::fs::fcntl_setfl(&ours, rustix::fs::OFlags::NONBLOCK).unwrap();
        let end = End { stream: Stream::Stdin, kind: Kind::Pipe, fd: ours };
        self.streams.open(&self.poll, ProcessId::INIT, vec![end]).unwrap();
        self.settle();
        theirs.into()
    }
}

fn hello(stream: Stream) -> Vec<u8> {
    encode(&StreamHello { version: VERSION, process: ProcessId::INIT, stream }).unwrap()
}

fn is_closed(host: &mut UnixStream) -> bool {
    host.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    // A socket that is closed with unread bytes in it resets its peer.
    match host.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn connection_before_the_process_waits_for_it() {
    let mut agent = Loop::new();
    let mut host = agent.connect(Stream::Stdout);
    let mut process = agent.open_output(Stream::Stdout);
    process.write_all(b"early").unwrap();
    drop(process);
    agent.settle();
    let mut got = Vec::new();
    host.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"early");
}

#[test]
fn output_before_the_connection_is_kept() {
    let mut agent = Loop::new();
    let mut process = agent.open_output(Stream::Stdout);
    process.write_all(b"late").unwrap();
    drop(process);
    agent.settle();
    let mut host = agent.connect(Stream::Stdout);
    let mut got = Vec::new();
    host.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"late");
}

#[test]
fn connection_stays_after_the_last_byte_until_the_host_closes() {
    let mut agent = Loop::new();
    let host = agent.connect(Stream::Stdout);
    drop(agent.open_output(Stream::Stdout));
    agent.settle();
    assert_eq!(agent.streams.pumps.len(), 1);
    drop(host);
    agent.settle();
    assert_eq!(agent.streams.pumps.len(), 0);
}

#[test]
fn megabytes_arrive_byte_for_byte() {
    let mut agent = Loop::new();
    let mut host = agent.connect(Stream::Stdout);
    let mut process = agent.open_output(Stream::Stdout);
    let sent: Vec<u8> = (0u32..1_500_000).flat_map(u32::to_le_bytes).collect();
    let expected = sent.clone();
    let writer = std::thread::spawn(move || process.write_all(&sent).unwrap());
    let reader = std::thread::spawn(move || {
        let mut got = Vec::new();
        host.read_to_end(&mut got).unwrap();
        got
    });
    while !reader.is_finished() {
        agent.settle();
    }
    writer.join().unwrap();
    assert!(reader.join().unwrap() == expected);
}

#[test]
fn stuck_reader_holds_up_no_other_stream() {
    let mut agent = Loop::new();
    let _stuck = agent.connect(Stream::Stdout);
    let mut fine = agent.connect(Stream::Stderr);
    let ends: Vec<_> = [Stream::Stdout, Stream::Stderr]
        .into_iter()
        .map(|stream| (stream, pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap()))
        .collect();
    let mut writers = Vec::new();
    let ends = ends.into_iter().map(|(stream, (ours, theirs))| {
        writers.push(std::fs::File::from(theirs));
        End { stream, kind: Kind::Pipe, fd: ours }
    });
    let ends = ends.collect();
    agent.streams.open(&agent.poll, ProcessId::INIT, ends).unwrap();
    while writers[0].write(&[0; 4096]).is_ok() {
        agent.settle();
    }
    writers[1].write_all(b"through").unwrap();
    agent.settle();
    let mut got = [0; 7];
    fine.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"through");
}

#[test]
fn host_that_leaves_closes_the_pipe_under_an_idle_writer() {
    let mut agent = Loop::new();
    let host = agent.connect(Stream::Stdout);
    let mut process = agent.open_output(Stream::Stdout);
    drop(host);
    agent.settle();
    assert_eq!(process.write(b"x").unwrap_err().kind(), std::io::ErrorKind::BrokenPipe);
}

#[test]
fn host_that_only_stops_sending_still_gets_the_output() {
    let mut agent = Loop::new();
    let mut host = agent.connect(Stream::Stdout);
    host.shutdown(std::net::Shutdown::Write).unwrap();
    let mut process = agent.open_output(Stream::Stdout);
    agent.settle();
    process.write_all(b"still here").unwrap();
    drop(process);
    agent.settle();
    let mut got = Vec::new();
    host.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"still here");
}

#[test]
fn input_and_its_end_reach_the_process() {
    let mut agent = Loop::new();
    let mut host = agent.connect(Stream::Stdin);
    let mut process = agent.open_input();
    host.write_all(b"typed").unwrap();
    host.shutdown(std::net::Shutdown::Write).unwrap();
    agent.settle();
    let mut got = Vec::new();
    process.read_to_end(&mut got).unwrap();
    assert_eq!(got, b"typed");
    assert!(is_closed(&mut host));
}

#[test]
fn input_right_behind_the_hello_is_not_lost() {
    let mut agent = Loop::new();
    let mut process = agent.open_input();
    let _host = agent.connect_with(&[hello(Stream::Stdin), b"behind".to_vec()].concat());
    let mut got = [0; 6];
    process.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"behind");
}

#[test]
fn process_that_closes_its_input_ends_the_connection() {
    let mut agent = Loop::new();
    let mut host = agent.connect(Stream::Stdin);
    drop(agent.open_input());
    agent.settle();
    assert!(is_closed(&mut host));
}

#[test]
fn malformed_hello_closes_that_connection_only() {
    let mut agent = Loop::new();
    let mut good = agent.connect(Stream::Stdout);
    for bytes in [&[0xff; 8][..], &[3, 0, 0, 0, 9, 9, 9], &[0, 0, 0, 0]] {
        let mut bad = agent.connect_with(bytes);
        assert!(is_closed(&mut bad), "{bytes:?}");
    }
    agent.open_output(Stream::Stdout).write_all(b"ok").unwrap();
    agent.settle();
    let mut got = [0; 2];
    good.read_exact(&mut got).unwrap();
}

#[test]
fn second_connection_for_a_stream_is_closed() {
    let mut agent = Loop::new();
    let _first = agent.connect(Stream::Stdout);
    assert!(is_closed(&mut agent.connect(Stream::Stdout)));
    let _process = agent.open_output(Stream::Stdout);
    assert!(is_closed(&mut agent.connect(Stream::Stdout)));
}

#[test]
fn stream_that_the_process_has_not_is_closed() {
    let mut agent = Loop::new();
    let mut early = agent.connect(Stream::Stdin);
    let _process = agent.open_output(Stream::Stdout);
    assert!(is_closed(&mut early));
    assert!(is_closed(&mut agent.connect(Stream::Stderr)));
}

#[test]
fn process_that_could_not_start_has_its_connections_closed() {
    let mut agent = Loop::new();
    let mut early = agent.connect(Stream::Stdout);
    agent.streams.refuse(ProcessId::INIT);
    assert!(is_closed(&mut early));
}

#[test]
fn waiting_connections_are_bounded() {
    let mut agent = Loop::new();
    let mut kept = Vec::new();
    for _ in 0..MAX_WAITING {
        kept.push(agent.connect_with(&[]));
    }
    assert!(is_closed(&mut agent.connect_with(&[])));
}
