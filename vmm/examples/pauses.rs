//! Pauses guests, and checks that they stand still, cost nothing meanwhile, go on afterwards, and
//! can be killed all the while.
//!
//! Each guest runs in a process of its own, locked in, as a VM does; what it writes to its serial
//! port shows that it runs. Prints a line for each; exit status 0 if all were as expected.

#[path = "support/guest.rs"]
mod guest;
mod support;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStderr, Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::Duration;

use support::{Fault, bare_config, build, chain};
use vmm::{Controller, Orders, VcpuCount};

/// How long a paused guest is watched.
const WATCH: Duration = Duration::from_millis(500);

/// How often a guest is paused, for the moments that are rarely met.
const ROUNDS: u32 = 100;

struct Guest {
    name: &'static str,
    code: &'static [u8],
    vcpus: u8,
    /// Whether it writes to its serial port.
    writes: bool,
}

/// mov al, '\n'; mov edx, 0x3f8; l: mov ecx, 1 << 22; d: dec ecx; jnz d; out dx, al; jmp l
const COUNTS: &[u8] = b"\xb0\n\xba\xf8\x03\0\0\xb9\0\0\x40\0\xff\xc9\x75\xfc\xee\xeb\xf4";

const GUESTS: [Guest; 4] = [
    Guest {
        name: "always at its exits",
        // mov al, '\n'; mov edx, 0x3f8; l: out dx, al; jmp l
        code: b"\xb0\n\xba\xf8\x03\0\0\xee\xeb\xfd",
        vcpus: 1,
        writes: true,
    },
    Guest { name: "mostly without exits", code: COUNTS, vcpus: 1, writes: true },
    Guest { name: "with vCPUs that wait for their start", code: COUNTS, vcpus: 4, writes: true },
    Guest { name: "halted", code: b"\xf4\xeb\xfd", vcpus: 2, writes: false }, // l: hlt; jmp l
];

fn main() -> ExitCode {
    let result = match std::env::args().nth(1) {
        Some(name) => run_one(&name),
        None => watch_all(),
    };
    result.unwrap_or_else(|fault| {
        println!("pauses: {}", chain(&*fault));
        ExitCode::FAILURE
    })
}

fn watch_all() -> Result<ExitCode, Fault> {
    let mut all_as_expected = true;
    for guest in &GUESTS {
        let seen = watch(guest);
        all_as_expected &= seen.is_ok();
        match seen {
            Ok(()) => println!("ok {}", guest.name),
            Err(fault) => println!("NOT OK {}: {}", guest.name, chain(&*fault)),
        }
    }
    Ok(if all_as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn watch(guest: &Guest) -> Result<(), Fault> {
    let mut vm = Vm::start(guest)?;
    vm.runs()?;
    for _ in 0..ROUNDS {
        vm.order(b'p')?;
        vm.order(b'r')?;
    }
    vm.runs()?;
    vm.order(b'p')?;
    vm.stands_still()?;
    vm.order(b'p')?;
    vm.order(b'r')?;
    vm.runs()?;
    vm.order(b'p')?;
    vm.process.kill()?;
    let ended = vm.process.wait()?;
    check(ended.signal() == Some(libc::SIGKILL), "it was not killed")
}

/// A guest in a process of its own.
struct Vm {
    process: Child,
    serial: Option<ChildStderr>,
}

impl Vm {
    fn start(guest: &Guest) -> Result<Self, Fault> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(guest.name).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.stderr(Stdio::piped()).spawn()?;
        let serial = process.stderr.take().filter(|_| guest.writes);
        if let Some(serial) = &serial {
            rustix::io::ioctl_fionbio(serial, true)?;
        }
        Ok(Self { process, serial })
    }

    /// Gives an order and waits until it has been carried out.
    fn order(&mut self, order: u8) -> Result<(), Fault> {
        let (Some(orders), Some(answers)) = (&mut self.process.stdin, &mut self.process.stdout)
        else {
            return Err("no pipes".into());
        };
        orders.write_all(&[order])?;
        let mut answer = [0];
        answers.read_exact(&mut answer)?;
        check(answer == [order], "the order was not carried out")
    }

    /// Whether it has written to its serial port since the last look. Takes away what a pipe holds,
    /// and not all that a guest which runs would add.
    fn wrote(&mut self) -> bool {
        let mut bytes = [0; 64 << 10];
        let mut read = || self.serial.as_mut().map(|serial| serial.read(&mut bytes));
        (0..16).take_while(|_| matches!(read(), Some(Ok(1..)))).count() > 0
    }

    fn runs(&mut self) -> Result<(), Fault> {
        self.wrote();
        for _ in 0..600 {
            sleep(Duration::from_millis(100));
            if self.serial.is_none() || self.wrote() {
                return Ok(());
            }
        }
        Err("the guest does not run".into())
    }

    fn stands_still(&mut self) -> Result<(), Fault> {
        self.wrote();
        let before = self.cpu_ticks()?;
        sleep(WATCH);
        check(!self.wrote(), "the guest runs on")?;
        check(self.cpu_ticks()? - before <= 2, "the process spins")
    }

    /// CPU time of the process, in hundredths of a second.
    fn cpu_ticks(&self) -> Result<u64, Fault> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let (_, fields) = stat.rsplit_once(") ").ok_or("no name in the process's stat")?;
        let times = fields.split(' ').skip(11).take(2).map(str::parse::<u64>);
        Ok(times.sum::<Result<_, _>>()?)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn check(so: bool, else_: &'static str) -> Result<(), Fault> {
    if so { Ok(()) } else { Err(else_.into()) }
}

/// Runs a guest, with orders from stdin and answers to stdout.
fn run_one(name: &str) -> Result<ExitCode, Fault> {
    let guest = GUESTS.iter().find(|guest| guest.name == name).ok_or("unknown guest")?;
    let serial = std::io::stderr().as_fd().try_clone_to_owned()?;
    let mut config = bare_config(guest::kernel(guest.code)?, File::open("/dev/null")?, serial)?;
    config.vcpus = VcpuCount::try_from(guest.vcpus)?;
    println!("{}", build(config)?.lock()?.run_obeying(Some(&mut Letters)));
    Ok(ExitCode::FAILURE)
}

/// `p` pauses, `r` resumes; the answer is the same letter.
struct Letters;

impl Orders for Letters {
    fn descriptor(&self) -> BorrowedFd<'_> {
        rustix::stdio::stdin()
    }

    fn obey(&mut self, controller: &Controller) -> bool {
        let mut letter = [0];
        let Ok(1..) = rustix::io::read(rustix::stdio::stdin(), &mut letter) else { return false };
        let obeyed = match letter {
            [b'p'] => controller.pause(),
            _ => {
                controller.resume();
                true
            }
        };
        obeyed && rustix::io::write(rustix::stdio::stdout(), &letter).is_ok()
    }
}
