//! Lets guests fail in every way that a guest of a few instructions can, and checks that each ends
//! with a line that names the cause.
//!
//! Each runs in a process of its own, as a VM does. Prints the lines; exit status 0 if all were as
//! expected.

#[path = "support/guest.rs"]
mod guest;
mod support;

use std::fs::File;
use std::process::{Command, ExitCode};

use support::{Fault, bare_config, build, chain};

/// A guest, and what the line that tells its end must hold.
struct Case {
    name: &'static str,
    code: &'static [u8],
    expected: &'static str,
}

const CASES: [Case; 6] = [
    Case {
        name: "reset",
        code: &[0xb0, 0xfe, 0xe6, 0x64], // mov al, 0xfe; out 0x64, al
        expected: "the guest ended the VM",
    },
    Case {
        name: "undefined instruction without a handler",
        code: &[0x0f, 0x0b], // ud2
        expected: "triple fault in the guest on vCPU 0",
    },
    Case {
        name: "jump to where no memory is",
        code: &[0xb8, 0, 0, 0, 0x20, 0xff, 0xe0], // mov eax, 512 MiB; jmp rax
        expected: "instruction emulation failed) on vCPU 0 at RIP 0x20000000",
    },
    Case {
        name: "device access that KVM cannot emulate",
        code: &[0xb8, 0, 0, 0, 0x20, 0x0f, 0xae, 0x00], // mov eax, 512 MiB; fxsave [rax]
        expected: "at RIP 0x1000005, instruction bytes 0f ae 00",
    },
    Case {
        name: "impossible page table address",
        code: &[0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x22, 0xd8], // mov cr3, -1
        expected: "vCPU 0",
    },
    Case {
        name: "kernel panic",
        // mov edx, 0x3f8; mov esi, text; l: lodsb; out dx, al; cmp al, 10; jne l; then the reset.
        code: b"\xba\xf8\x03\0\0\xbe\x18\0\0\x01\xac\xee\x3c\x0a\x75\xfa\xb0\xfe\xe6\x64\xf4\xf4\xf4\xf4\
                Kernel panic - not syncing: told by a test\n",
        expected: "the guest kernel panicked: told by a test",
    },
];

fn main() -> ExitCode {
    let result = match std::env::args().nth(1) {
        Some(name) => run_one(&name),
        None => run_all(),
    };
    result.unwrap_or_else(|fault| {
        println!("faults: {}", chain(&*fault));
        ExitCode::FAILURE
    })
}

fn run_all() -> Result<ExitCode, Fault> {
    let mut all_as_expected = true;
    for Case { name, expected, .. } in CASES {
        let output = Command::new("/proc/self/exe").arg(name).output()?;
        let line = String::from_utf8_lossy(&output.stdout);
        let as_expected = line.contains(expected);
        println!("{} {name}: {}", if as_expected { "ok" } else { "NOT OK" }, line.trim_end());
        all_as_expected &= as_expected;
    }
    Ok(if all_as_expected { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_one(name: &str) -> Result<ExitCode, Fault> {
    let case = CASES.iter().find(|case| case.name == name).ok_or("unknown case")?;
    let null = File::options().write(true).open("/dev/null")?;
    let vm = build(bare_config(guest::kernel(case.code)?, File::open("/dev/null")?, null.into())?)?;
    println!("{}", vm.run()?);
    Ok(ExitCode::SUCCESS)
}
