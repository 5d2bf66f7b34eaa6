//! Which devices the container may use: Docker's list as a BPF program on its cgroup. In a cgroup
//! of version 2 there is no other way to say it.
//!
//! Docker lets a container *make* any node, and open only those listed; so does this, but for the
//! nodes of the disks, which cannot even be made.

use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::ffi::CStr;
use rustix::fs::{major, stat};
use rustix::io::Errno;

use super::dev;
use crate::last_error;

#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    #[error("cannot find the disks' device number")]
    Disk(#[source] Errno),
    #[error("cannot load the device filter")]
    Load(#[source] Errno),
    #[error("cannot attach the device filter")]
    Attach(#[source] Errno),
}

/// `BPF_DEVCG_DEV_*` and `BPF_DEVCG_ACC_*` of `linux/bpf.h`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;
const MAKE: i32 = 1;
const ANY: i32 = 7;

/// A rule: the first one that matches decides. `None` matches every number.
#[derive(Clone, Copy, Debug)]
struct Rule {
    kind: i32,
    major: Option<i32>,
    minor: Option<i32>,
    /// The accesses it decides about; it does not match one that asks for more.
    access: i32,
    allow: bool,
}

/// Character devices beside those in `/dev`: terminals, `/dev/console` and `/dev/ptmx`.
const TERMINALS: &[(i32, Option<i32>)] = &[(5, Some(1)), (5, Some(2)), (136, None)];

fn rules(disks: i32) -> Vec<Rule> {
    let any = |kind, access, allow| Rule { kind, major: None, minor: None, access, allow };
    let mut rules = vec![
        Rule { major: Some(disks), ..any(BLOCK, ANY, false) },
        any(BLOCK, MAKE, true),
        any(CHARACTER, MAKE, true),
    ];
    let nodes = dev::NODES
        .iter()
        .map(|(_, major, minor)| (major.cast_signed(), Some(minor.cast_signed())))
        .chain(TERMINALS.iter().copied());
    rules.extend(nodes.map(|(major, minor)| Rule {
        major: Some(major),
        minor,
        ..any(CHARACTER, ANY, true)
    }));
    rules
}

/// An instruction of BPF.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Instruction {
    code: u8,
    /// Destination register in the low half, source in the high one.
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// Operations, named as in the kernel's `BPF_*` macros.
mod code {
    pub(super) const LOAD_WORD: u8 = 0x61;
    pub(super) const MOVE_REGISTER: u8 = 0xbf;
    pub(super) const MOVE: u8 = 0xb7;
    pub(super) const AND: u8 = 0x57;
    pub(super) const SHIFT_RIGHT: u8 = 0x77;
    pub(super) const JUMP_NOT_EQUAL: u8 = 0x55;
    pub(super) const EXIT: u8 = 0x95;
}

/// Registers: what the program returns, its context, and what it keeps where.
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// Scratch; the context is of no more use once it has been read.
const SCRATCH: u8 = CONTEXT;

fn instruction(code: u8, to: u8, from: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: to | from << 4, offset, immediate }
}

/// The program for the rules; what no rule matches is refused.
fn program(rules: &[Rule]) -> Vec<Instruction> {
    // The context: access in the high half of the first word and kind in its low half, then major
    // and minor number.
    let mut program = vec![
        instruction(code::LOAD_WORD, KIND, CONTEXT, 0, 0),
        instruction(code::LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        instruction(code::LOAD_WORD, MINOR, CONTEXT, 8, 0),
        instruction(code::MOVE_REGISTER, ACCESS, KIND, 0, 0),
        instruction(code::AND, KIND, 0, 0, 0xffff),
        instruction(code::SHIFT_RIGHT, ACCESS, 0, 0, 16),
    ];
    for rule in rules {
        program.extend(rule_body(*rule));
    }
    program.extend(verdict(false));
    program
}

fn verdict(allow: bool) -> [Instruction; 2] {
    [instruction(code::MOVE, RESULT, 0, 0, i32::from(allow)), instruction(code::EXIT, 0, 0, 0, 0)]
}

/// Tests that jump over the rule where they fail, then its verdict.
fn rule_body(rule: Rule) -> Vec<Instruction> {
    let test = |register, value| instruction(code::JUMP_NOT_EQUAL, register, 0, 0, value);
    let mut body = vec![test(KIND, rule.kind)];
    if rule.access != ANY {
        body.push(instruction(code::MOVE_REGISTER, SCRATCH, ACCESS, 0, 0));
        body.push(instruction(code::AND, SCRATCH, 0, 0, ANY & !rule.access));
        body.push(test(SCRATCH, 0));
    }
    body.extend(rule.major.map(|major| test(MAJOR, major)));
    body.extend(rule.minor.map(|minor| test(MINOR, minor)));
    body.extend(verdict(rule.allow));
    // A jump counts from the instruction after it to the one after the rule.
    for (offset, instruction) in (0i16..).zip(body.iter_mut().rev()) {
        if instruction.code == code::JUMP_NOT_EQUAL {
            instruction.offset = offset;
        }
    }
    body
}

/// Refuses the container of `cgroup` all devices but its own; `disk` is one of the guest's disks,
/// whose driver has one major number for all of them.
pub(super) fn attach(cgroup: BorrowedFd<'_>, disk: &CStr) -> Result<(), FilterError> {
    let number = stat(disk).map_err(FilterError::Disk)?.st_rdev;
    let program = program(&rules(major(number).cast_signed()));
    let filter = load(&program).map_err(FilterError::Load)?;
    attach_program(cgroup, &filter).map_err(FilterError::Attach)
}

/// Commands, program and attach type of `linux/bpf.h`.
const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;

/// The start of `bpf_attr` for `BPF_PROG_LOAD`; the kernel takes the rest as zero.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    count: u32,
    instructions: u64,
    license: u64,
}

/// `bpf_attr` for `BPF_PROG_ATTACH`.
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
}

fn load(program: &[Instruction]) -> Result<OwnedFd, Errno> {
    let license = c"Apache-2.0";
    let attributes = LoadAttributes {
        program_type: PROG_TYPE_CGROUP_DEVICE,
        count: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        instructions: program.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
    };
    let size = const { size_of::<LoadAttributes>() };
    // SAFETY: the attributes are of the size given and name a whole program and a C string, all of
    // which outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, PROG_LOAD, &raw const attributes, size) };
    match i32::try_from(fd) {
        // SAFETY: the call has made this descriptor, which nobody else owns.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(last_error()),
    }
}

fn attach_program(cgroup: BorrowedFd<'_>, program: &OwnedFd) -> Result<(), Errno> {
    let attributes = AttachAttributes {
        target: cgroup.as_raw_fd().unsigned_abs(),
        program: program.as_raw_fd().unsigned_abs(),
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: 0,
    };
    let size = const { size_of::<AttachAttributes>() };
    // SAFETY: the attributes are of the size given and outlive the call; both descriptors are open.
    match unsafe { libc::syscall(libc::SYS_bpf, PROG_ATTACH, &raw const attributes, size) } {
        0 => Ok(()),
        _ => Err(last_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DISKS: i32 = 254;
    const READ: i32 = 2;
    const WRITE: i32 = 4;

    /// Runs the program as the kernel would.
    fn allows(kind: i32, access: i32, major: i32, minor: i32) -> bool {
        let program = program(&rules(DISKS));
        let context = [access << 16 | kind, major, minor];
        let mut registers = [0i64; 6];
        let mut next = 0;
        loop {
            let Instruction { code, registers: names, offset, immediate } = program[next];
            let (to, from) = (usize::from(names & 15), usize::from(names >> 4));
            next += 1;
            match code {
                code::LOAD_WORD => {
                    registers[to] = context[usize::try_from(offset / 4).unwrap()].into();
                }
                code::MOVE_REGISTER => registers[to] = registers[from],
                code::MOVE => registers[to] = immediate.into(),
                code::AND => registers[to] &= i64::from(immediate),
                code::SHIFT_RIGHT => registers[to] >>= immediate,
                code::JUMP_NOT_EQUAL if registers[to] != i64::from(immediate) => {
                    next += usize::try_from(offset).unwrap();
                }
                code::JUMP_NOT_EQUAL => {}
                code::EXIT => return registers[0] == 1,
                other => panic!("operation {other:#x}"),
            }
        }
    }

    #[test]
    fn nodes_of_dev_are_usable() {
        for (path, major, minor) in dev::NODES {
            let (major, minor) = (major.cast_signed(), minor.cast_signed());
            assert!(allows(CHARACTER, READ | WRITE, major, minor), "{path:?}");
        }
    }

    #[test]
    fn terminals_are_usable() {
        assert!(allows(CHARACTER, READ | WRITE, 5, 1));
        assert!(allows(CHARACTER, READ | WRITE, 5, 2));
        assert!(allows(CHARACTER, READ | WRITE, 136, 77));
    }

    #[test]
    fn disks_are_neither_opened_nor_made() {
        for access in [MAKE, READ, WRITE, READ | WRITE, ANY] {
            assert!(!allows(BLOCK, access, DISKS, 0));
            assert!(!allows(BLOCK, access, DISKS, 16));
        }
    }

    #[test]
    fn other_nodes_are_made_but_not_opened() {
        assert!(allows(BLOCK, MAKE, 8, 0));
        assert!(allows(CHARACTER, MAKE, 1, 1));
        assert!(allows(CHARACTER, MAKE, DISKS, 0));
        assert!(!allows(BLOCK, READ, 8, 0));
        assert!(!allows(CHARACTER, READ, 1, 1));
        assert!(!allows(CHARACTER, MAKE | READ, 1, 1));
        assert!(!allows(CHARACTER, READ, 10, 229));
    }

    #[test]
    fn every_jump_lands_in_the_program() {
        let program = program(&rules(DISKS));
        for (index, instruction) in program.iter().enumerate() {
            let target = index + 1 + usize::try_from(instruction.offset).unwrap();
            assert!(instruction.code != code::JUMP_NOT_EQUAL || target < program.len());
        }
        assert_eq!(program.last().unwrap().code, code::EXIT);
    }
}
