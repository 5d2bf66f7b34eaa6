//! Lives with an agent and a VM process that are played by the test, from the other ends of the
//! control connection, the stream connections and the reports. `threats.md` rows 28, 29 and 31.

use std::{
    fs::File,
    io::{Read, Write},
    os::{
        fd::AsFd,
        unix::net::{UnixListener, UnixStream},
    },
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

use agent_protocol::{
    ExitCause, MAX_FRAME, ProcessSpec, Stream, StreamHello, Work, read_frame, write_frame,
};

use crossbeam_channel::bounded;

use super::*;

use crate::vm_process::VSOCK_SOCKET;

/// For what is to be waited for in vain.
const SHORT: Duration = Duration::from_millis(200);

/// For what is to happen; long, since the machine may be busy.
const LONG: Duration = Duration::from_secs(60);

const KILL: u8 = 9;

/// A VM process that reports what the test writes to its stdin, and ends with it.
const QUIET_VM: &str = "exec cat";

/// Life, and everything the test holds the other end of.
struct Rig {
    agent: UnixStream,
    streams: UnixListener,
    /// Frames to be reported by the VM process; dropping it ends the process.
    reports: Option<File>,
    client: Connection,
    stdout: File,
    recorded: mpsc::Receiver<Milestone>,
    outcome: mpsc::Receiver<Outcome>,
    _runtime: tempfile::TempDir,
}

/// What a run is to be like; patient, kept and quiet by default.
struct Plan {
    patience: Patience,
    ephemeral: bool,
    vm: &'static str,
}

impl Default for Plan {
    fn default() -> Self {
        Self { patience: Patience::default(), ephemeral: false, vm: QUIET_VM }
    }
}

impl Plan {
    fn patience(patience: Patience) -> Self {
        Self { patience, ..Self::default() }
    }

    fn begin(self) -> Rig {
        let Self { patience, ephemeral, vm } = self;
        let runtime = tempfile::tempdir().unwrap();
        let streams = UnixListener::bind(runtime.path().join(VSOCK_SOCKET)).unwrap();
        let (control, agent) = UnixStream::pair().unwrap();
        agent.set_read_timeout(Some(LONG)).unwrap();
        let (client, theirs) = Connection::pair().unwrap();
        let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let ((reported, reports), (stdout, to_client)) = (pipe(), pipe());
        let attach = Request::Attach { stdin: false, stdout: true, stderr: false, size: None };
        client.send(&attach, &[to_client.as_fd()]).unwrap();

        let (tell, outcome) = mpsc::channel();
        let (note, recorded) = mpsc::channel();
        let folder = runtime.path().to_owned();
        thread::spawn(move || {
            let (happened, guest) = bounded(64);
            let (asked, requests) = bounded(64);
            let events = Events { guest, clients: requests };
            let mut command = Command::new("sh");
            command.args(["-c", vm]).stdin(reported);
            let vm = VmProcess::spawn(&mut command, &happened).unwrap();
            let agent = Agent::new(control, patience.send, happened.clone()).unwrap();
            let mut clients = Clients::new(asked);
            let (request, fds) = theirs.receive().unwrap().unwrap();
            let first = (clients.add(theirs).unwrap(), Asked { request, fds });
            let note = |milestone| {
                note.send(milestone).unwrap();
                Ok(())
            };
            let parts = Parts {
                record: record(ephemeral),
                log: LogWriter::open(&folder, &crate::logs::LogConfig::default()),
                runtime: folder,
                happened,
                clients,
                agent,
                vm,
                patience,
            };
            let mut life = Life::new(parts, &note);
            let outcome = life.live(Some(first), &events);
            drop(events);
            life.end();
            let _ = tell.send(outcome);
        });
        Rig {
            agent,
            streams,
            reports: Some(reports.into()),
            client,
            stdout: stdout.into(),
            recorded,
            outcome,
            _runtime: runtime,
        }
    }
}

fn record(ephemeral: bool) -> Record {
    let digest = format!("sha256:{}", "1".repeat(64));
    let record = serde_json::json!({
        "id": "2".repeat(64),
        "name": "played",
        "created": "2026-01-01T00:00:00Z",
        "image": { "reference": "none", "id": digest, "root": digest },
        "command": {
            "args": [b"true"], "env": [], "cwd": "/", "user": "",
            "terminal": false, "stdin": false, "stop_signal": 15,
        },
        "hostname": "played",
        "resources": { "memory_mib": 512, "vcpus": 1, "disk": 10_u64 << 30 },
        "remove_on_exit": ephemeral,
    });
    serde_json::from_value(record).unwrap()
}

impl Rig {
    fn tell(&mut self, message: &FromAgent) {
        write_frame(&mut self.agent, message).unwrap();
    }

    /// Bytes in place of a frame. Those after the fault may find the connection closed.
    fn tell_bytes(&mut self, bytes: &[u8]) {
        let _ = self.agent.write_all(bytes);
    }

    fn report(&mut self, report: &VmReport) {
        write_frame(self.reports.as_mut().unwrap(), report).unwrap();
    }

    fn asked(&mut self) -> ToAgent {
        read_frame(&mut self.agent).unwrap().unwrap()
    }

    /// Answers until the command is to be started; gives the ends of stdout and stderr.
    fn boot(&mut self) -> [UnixStream; 2] {
        assert_eq!(self.asked(), ToAgent::Hello { version: VERSION });
        self.tell(&FromAgent::Hello { version: VERSION });
        assert!(matches!(self.asked(), ToAgent::Start(_)));
        [Stream::Stdout, Stream::Stderr].map(|stream| {
            let mut socket = self.dialed(stream);
            socket.write_all(b"OK 1\n").unwrap();
            socket
        })
    }

    /// Takes a stream's connection and what is said first on it; answers nothing.
    fn dialed(&self, stream: Stream) -> UnixStream {
        let (mut socket, _) = self.streams.accept().unwrap();
        let mut line = [0; b"CONNECT 1025\n".len()];
        socket.read_exact(&mut line).unwrap();
        assert_eq!(&line, b"CONNECT 1025\n");
        let hello: StreamHello = read_frame(&mut socket).unwrap().unwrap();
        assert_eq!((hello.process, hello.stream), (ProcessId::INIT, stream));
        socket
    }

    /// Answers until the command runs.
    fn run(&mut self) -> [UnixStream; 2] {
        let streams = self.boot();
        self.tell(&STARTED);
        assert_eq!(self.event(), Event::Started);
        for milestone in [Milestone::Attached, Milestone::Started] {
            assert_eq!(self.recorded.recv_timeout(LONG), Ok(milestone));
        }
        streams
    }

    /// Answers until the command has ended with 3; its streams stay open with the test.
    fn finish(&mut self) -> [UnixStream; 2] {
        let streams = self.run();
        self.tell(&ended(ProcessId::INIT, 3));
        streams
    }

    fn event(&self) -> Event {
        self.client.receive().unwrap().unwrap().0
    }

    fn signal(&self, signal: u8) {
        self.client.send(&Request::Signal(signal), &[]).unwrap();
    }

    /// The status and the line of the end, which has to come.
    #[track_caller]
    fn end(self) -> (u8, String) {
        let outcome = self.outcome.recv_timeout(LONG).expect("the run is over");
        let (status, message) = match outcome.event {
            Event::StartFailed { status, message } => (status, message),
            Event::Exited { status, message } => (status, message.unwrap_or_default()),
            event => panic!("{event:?} is no end"),
        };
        let exit = outcome.exit.expect("a run of the command has an exit");
        assert_eq!(exit.status, status);
        assert_eq!(exit.error.unwrap_or_default(), message);
        assert!(!message.contains(char::is_control), "{message:?}");
        assert!(message.chars().count() < 500, "{message}");
        (status, message)
    }

    /// The VM's process lets go of its connections.
    fn vm_ends(&mut self) {
        self.reports = None;
        self.agent = UnixStream::pair().unwrap().0;
    }

    #[track_caller]
    fn ends(self, status: u8, words: &str) {
        let (ended, line) = self.end();
        assert!(ended == status && line.contains(words), "{ended}: {line:?}, not {words:?}");
    }
}

const STARTED: FromAgent = FromAgent::Started { process: ProcessId::INIT };

fn ended(process: ProcessId, code: u8) -> FromAgent {
    let status = ExitStatus { cause: ExitCause::Code(code), oom_killed: false };
    FromAgent::Exited { process, status }
}

fn start_failed(message: String) -> FromAgent {
    let (process, reason) = (ProcessId::INIT, StartFailure::NotFound);
    FromAgent::StartFailed { process, reason, message }
}

/// Brings a rig to a phase of the run; gives the streams, if they are open.
type Stage = fn(&mut Rig) -> Option<[UnixStream; 2]>;

const BOOTING: Stage = |_| None;
const STARTING: Stage = |rig| Some(rig.boot());
const RUNNING: Stage = |rig| Some(rig.run());
const ENDING: Stage = |rig| Some(rig.finish());

/// Every phase, and the status of a run that goes wrong in it.
const STAGES: [(Stage, u8); 4] =
    [(BOOTING, FAILED), (STARTING, FAILED), (RUNNING, FAILED), (ENDING, 3)];

#[test]
fn good_run_delivers_output_and_status() {
    let mut rig = Plan::default().begin();
    let [mut stdout, _stderr] = rig.finish();
    stdout.write_all(b"last words").unwrap();
    drop((stdout, rig.tell(&FromAgent::Unmounted)));
    assert!(rig.outcome.recv_timeout(SHORT).is_err(), "stderr is still open");
    // The record does not wait for it.
    let recorded = rig.recorded.recv_timeout(LONG).unwrap();
    assert!(matches!(recorded, Milestone::Ended(Exit { status: 3, .. })), "{recorded:?}");
    drop(rig);
}

#[test]
fn run_is_over_with_the_last_stream_and_the_disk() {
    for ephemeral in [false, true] {
        let mut rig = Plan { ephemeral, ..Plan::default() }.begin();
        drop(rig.finish());
        if !ephemeral {
            rig.tell(&FromAgent::Unmounted);
        }
        assert_eq!(rig.end(), (3, String::new()));
    }
}

#[test]
fn frame_that_cannot_be_one_ends_the_run() {
    let over = u32::try_from(MAX_FRAME + 1).unwrap().to_le_bytes();
    let undecodable = [&4_u32.to_le_bytes()[..], &[0xff; 4]].concat();
    let surplus = [&3_u32.to_le_bytes()[..], &[1, 0, 0]].concat();
    let empty = [0; 4];
    for bytes in [&[0xff; 64][..], &over, &undecodable, &surplus, &empty] {
        for (stage, status) in STAGES {
            let mut rig = Plan::default().begin();
            let _streams = stage(&mut rig);
            rig.tell_bytes(bytes);
            rig.ends(status, "the agent cannot be understood: frame");
        }
    }
}

#[test]
fn half_a_frame_and_silence_is_silence() {
    let patience = Patience { boot: SHORT, ..Patience::default() };
    let mut rig = Plan::patience(patience).begin();
    rig.tell_bytes(&[5, 0, 0, 0, 1]);
    rig.ends(FAILED, "the guest did not start within");
}

#[test]
fn agent_that_hangs_up_ends_the_run() {
    for bytes in [&[][..], &[5, 0], &[5, 0, 0, 0, 1]] {
        for (stage, status) in STAGES {
            let patience = Patience { hang_up: SHORT, ..Patience::default() };
            let mut rig = Plan::patience(patience).begin();
            let _streams = stage(&mut rig);
            rig.tell_bytes(bytes);
            rig.agent = UnixStream::pair().unwrap().0;
            rig.ends(status, if status == FAILED { "the agent hung up" } else { "did not finish" });
        }
    }
}

#[test]
fn agent_of_another_build_is_refused() {
    for version in [0, VERSION + 1, u32::MAX] {
        let mut rig = Plan::default().begin();
        rig.tell(&FromAgent::Hello { version });
        rig.ends(FAILED, &format!("speaks version {version}, this vmrun {VERSION}"));
    }
}

#[test]
fn message_out_of_turn_ends_the_run() {
    let hello = || FromAgent::Hello { version: VERSION };
    let failed = || start_failed("too late".into());
    let init = || ended(ProcessId::INIT, 77);
    let other = || ended(ProcessId(7), 77);
    let out_of_turn = [
        (STAGES[0], vec![STARTED, FromAgent::Unmounted, failed(), init(), other()]),
        (STAGES[1], vec![hello(), FromAgent::Unmounted, init(), other()]),
        (STAGES[2], vec![hello(), STARTED, FromAgent::Unmounted, failed(), other()]),
        // A second end does not change how the command ended.
        (STAGES[3], vec![hello(), STARTED, failed(), init(), other()]),
    ];
    for ((stage, status), messages) in out_of_turn {
        for message in messages {
            let mut rig = Plan::default().begin();
            let _streams = stage(&mut rig);
            rig.tell(&message);
            rig.ends(status, "the agent spoke out of turn: ");
        }
    }
}

#[test]
fn disk_is_unmounted_once() {
    let mut rig = Plan::default().begin();
    let _streams = rig.finish();
    rig.tell(&FromAgent::Unmounted);
    rig.tell(&FromAgent::Unmounted);
    rig.ends(3, "the agent spoke out of turn: Unmounted");
    // With --rm there is nothing to unmount.
    let mut rig = Plan { ephemeral: true, ..Plan::default() }.begin();
    let _streams = rig.finish();
    rig.tell(&FromAgent::Unmounted);
    rig.ends(3, "the agent spoke out of turn: Unmounted");
}

#[test]
fn reason_of_a_failed_start_is_one_short_line() {
    let mut rig = Plan::default().begin();
    let _streams = rig.boot();
    rig.tell(&start_failed("\x1b]0;owned\x07\x1b[2J\r\nno such\u{9b}31m command\0".into()));
    rig.ends(127, "no such");
    let mut rig = Plan::default().begin();
    let _streams = rig.boot();
    rig.tell(&start_failed("x".repeat(MAX_FRAME - 64)));
    rig.ends(127, "xxx");
}

#[test]
fn silent_agent_is_given_up_on() {
    let patience = Patience { boot: SHORT, ..Patience::default() };
    Plan::patience(patience).begin().ends(FAILED, "the guest did not start within");

    let patience = Patience { start: SHORT, ..Patience::default() };
    let mut rig = Plan::patience(patience).begin();
    let _streams = rig.boot();
    rig.ends(FAILED, "the guest did not run the command within");

    let patience = Patience { kill: SHORT, ..Patience::default() };
    let mut rig = Plan::patience(patience).begin();
    let _streams = rig.run();
    rig.signal(KILL);
    rig.ends(137, "the guest did not answer; it was killed");

    let patience = Patience { ending: SHORT, ..Patience::default() };
    let mut rig = Plan::patience(patience).begin();
    drop(rig.finish());
    rig.ends(3, "the guest did not finish; its VM was ended");
}

#[test]
fn streams_held_open_after_the_end_are_given_up_on() {
    for ephemeral in [false, true] {
        let patience = Patience { ending: SHORT, ..Patience::default() };
        let mut rig = Plan { patience, ephemeral, ..Plan::default() }.begin();
        let _streams = rig.finish();
        if !ephemeral {
            rig.tell(&FromAgent::Unmounted);
        }
        rig.ends(3, "the guest did not finish; its VM was ended");
    }
}

#[test]
fn agent_that_never_reads_is_given_up_on() {
    let patience = Patience { send: SHORT, ..Patience::default() };
    let mut rig = Plan::patience(patience).begin();
    let _streams = rig.run();
    // Far more than the socket holds.
    let signal = Request::Signal(1);
    while rig.client.send(&signal, &[]).is_ok() {
        if let Ok(outcome) = rig.outcome.try_recv() {
            let exit = outcome.exit.unwrap();
            assert_eq!(exit.status, 137);
            assert!(exit.error.unwrap().contains("the guest did not answer"));
            return;
        }
    }
    rig.ends(137, "the guest did not answer");
}

/// One that reads a byte now and then would hold up the deciding thread for hours.
#[test]
fn agent_that_reads_slowly_has_no_more_time_for_it() {
    let (host, mut guest) = UnixStream::pair().unwrap();
    let (happened, _events) = bounded(1);
    let mut agent = Agent::new(host, SHORT, happened).unwrap();
    let reader = thread::spawn(move || {
        let mut some = [0; 4096];
        while guest.read(&mut some).is_ok_and(|count| count > 0) {
            thread::sleep(SHORT / 4);
        }
    });
    let command = ProcessSpec {
        args: vec![vec![b'x'; MAX_FRAME / 2]],
        env: vec![vec![b'x'; MAX_FRAME / 3]],
        cwd: Vec::new(),
        user: String::new(),
        groups: Vec::new(),
        terminal: None,
        stdin: false,
        output: true,
    };
    let exec = ToAgent::Exec { process: ProcessId(1), work: Box::new(Work::Command(command)) };
    let begun = Instant::now();
    assert!(agent.send(&exec).is_err());
    assert!(begun.elapsed() < LONG / 2, "{:?}", begun.elapsed());
    drop(agent);
    drop(reader);
}

#[test]
fn stream_that_is_refused_or_nonsense_is_empty() {
    for answer in [&b""[..], b"NO\n", &[b'x'; 4096]] {
        let mut rig = Plan::default().begin();
        rig.tell(&FromAgent::Hello { version: VERSION });
        for stream in [Stream::Stdout, Stream::Stderr] {
            rig.dialed(stream).write_all(answer).unwrap();
        }
        rig.tell(&STARTED);
        rig.tell(&ended(ProcessId::INIT, 0));
        rig.tell(&FromAgent::Unmounted);
        let mut output = Vec::new();
        rig.stdout.read_to_end(&mut output).unwrap();
        assert_eq!(output, b"");
        assert_eq!(rig.end(), (0, String::new()));
    }
}

#[test]
fn guest_that_takes_no_streams_is_named() {
    let mut rig = Plan::default().begin();
    std::fs::remove_file(rig._runtime.path().join(VSOCK_SOCKET)).unwrap();
    rig.tell(&FromAgent::Hello { version: VERSION });
    rig.ends(FAILED, "cannot reach the guest: ");
}

/// Output without end, after the command's end, and a client that does not read it.
#[test]
fn kill_ends_a_run_whose_output_nobody_reads() {
    let patience = Patience { ending: SHORT, kill: SHORT, ..Patience::default() };
    let mut rig = Plan::patience(patience).begin();
    let [stdout, stderr] = rig.finish();
    let flood = stdout.try_clone().unwrap();
    thread::spawn(move || while (&flood).write_all(&[b'y'; 4096]).is_ok() {});
    drop(stderr);
    rig.tell(&FromAgent::Unmounted);
    assert!(rig.outcome.recv_timeout(5 * SHORT).is_err(), "the client may still read");
    rig.signal(KILL);
    assert_eq!(rig.outcome.recv_timeout(LONG).unwrap().exit.unwrap().status, 3);
}

#[test]
fn signal_before_the_command_runs_ends_the_start() {
    for stage in [BOOTING, STARTING] {
        let mut rig = Plan::default().begin();
        let _streams = stage(&mut rig);
        rig.signal(15);
        rig.ends(143, "stopped before it ran");
    }
}

#[test]
fn end_of_the_vm_is_told_with_its_cause() {
    for (stage, status) in STAGES {
        let mut rig = Plan::default().begin();
        let _streams = stage(&mut rig);
        rig.report(&VmReport::Ended("triple fault in the guest on vCPU 0".into()));
        rig.vm_ends();
        rig.ends(status, "triple fault in the guest on vCPU 0");
    }
    for (stage, status) in [(BOOTING, 137), (STARTING, 137), (RUNNING, 137), (ENDING, 3)] {
        let mut rig = Plan { vm: "cat; kill -KILL $$", ..Plan::default() }.begin();
        let _streams = stage(&mut rig);
        rig.vm_ends();
        rig.ends(status, "the VM process was killed by signal 9");
    }
}

#[test]
fn panic_of_the_guests_kernel_is_told_without_its_escapes() {
    let vm =
        r"printf '[ 0.1] Kernel panic - not syncing: \033[31mgone\033[0m\r\n---[ end\n' >&2; cat";
    let mut rig = Plan { vm, ..Plan::default() }.begin();
    let _streams = rig.run();
    rig.report(&VmReport::Ended("the guest ended the VM".into()));
    rig.vm_ends();
    rig.ends(FAILED, "the guest's kernel gave up: [ 0.1] Kernel panic - not syncing: ");
}

#[test]
fn words_of_the_vm_process_are_told_when_it_reports_nothing() {
    let mut rig = Plan { vm: "cat; echo 'no such luck' >&2; exit 1", ..Plan::default() }.begin();
    rig.vm_ends();
    rig.ends(FAILED, "the VM process ended: no such luck");
}

#[test]
fn storm_of_notices_stops_neither_run_nor_client() {
    let mut rig = Plan::default().begin();
    let streams = rig.run();
    for _ in 0..10_000 {
        rig.report(&VmReport::DiskFull);
        rig.report(&VmReport::DiskResumed);
    }
    drop(streams);
    rig.tell(&ended(ProcessId::INIT, 0));
    rig.tell(&FromAgent::Unmounted);
    assert!(matches!(rig.event(), Event::Notice(line) if line.contains("disk is full")));
    assert_eq!(rig.end(), (0, String::new()));
}

#[test]
fn storm_of_messages_is_not_piled_up() {
    let mut rig = Plan::default().begin();
    let _streams = rig.run();
    let flood = [agent_protocol::encode(&STARTED).unwrap(); 1].concat().repeat(100_000);
    rig.tell_bytes(&flood);
    rig.ends(FAILED, "the agent spoke out of turn: Started");
}
