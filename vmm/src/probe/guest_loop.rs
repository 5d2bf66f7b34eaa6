//! A guest that does nothing but count down, in long mode at ring 0, and the time it takes.

use std::time::{Duration, Instant};

use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, kvm_userspace_memory_region};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use thiserror::Error;
use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError};

use crate::arch::x86_64::boot_tables;
use crate::arch::x86_64::vcpu_state::{self, VcpuStateError};
use crate::memory::{self, GuestMemory, MemoryError};

/// Rounds of the loop, two instructions each. Hardware needs about 10 µs for them, software that
/// emulates a processor with virtualisation about 100 µs, emulation of each single instruction 9 to
/// 25 ms.
pub(super) const ITERATIONS: u32 = 20_000;
/// Longest time that hardware takes.
pub(super) const LIMIT: Duration = Duration::from_millis(2);
/// Other work of the host may get in between, but hardly each time.
const TRIES: u32 = 8;

const GDT: GuestAddress = GuestAddress(0x500);
const PAGE_TABLES: GuestAddress = GuestAddress(0x1000);
const CODE: GuestAddress = GuestAddress(0x8000);
const DONE_PORT: u16 = 0x80;

/// The loop did not come to its end.
#[derive(Debug, Error)]
pub enum LoopError {
    #[error("KVM refused to {what}")]
    Kvm { what: &'static str, source: kvm_ioctls::Error },
    #[error(transparent)]
    Memory(#[from] MemoryError),
    #[error("cannot write to guest memory")]
    Write(#[from] GuestMemoryError),
    #[error(transparent)]
    State(#[from] VcpuStateError),
    #[error("VM exit {exit} instead of the end of the loop")]
    Exit { exit: String },
}

/// The shortest time of a few tries; the first one within [`LIMIT`] is enough.
pub(super) fn fastest(kvm: &Kvm) -> Result<Duration, LoopError> {
    let failed = |what| move |source| LoopError::Kvm { what, source };
    let memory = memory::allocate_small()?;
    prepare(&memory)?;
    let vm = kvm.create_vm().map_err(failed("create a VM"))?;
    let region = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 0,
        memory_size: memory::SMALL as u64,
        userspace_addr: memory.get_host_address(GuestAddress(0))?.expose_provenance() as u64,
    };
    // SAFETY: `memory` maps that many bytes there and is never unmapped.
    unsafe { vm.set_user_memory_region(region) }.map_err(failed("add guest memory"))?;
    let mut vcpu = vm.create_vcpu(0).map_err(failed("create a vCPU"))?;
    // KVM on AMD takes long mode only from a processor that has it.
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(failed("tell CPUID"))?;
    vcpu.set_cpuid2(&cpuid).map_err(failed("set CPUID"))?;
    let mut fastest = Duration::MAX;
    for _ in 0..TRIES {
        vcpu_state::set_entry(&vcpu, GDT, PAGE_TABLES, CODE, 0)?;
        fastest = fastest.min(run(&mut vcpu)?);
        if fastest <= LIMIT {
            break;
        }
    }
    Ok(fastest)
}

fn prepare(memory: &GuestMemory) -> Result<(), GuestMemoryError> {
    boot_tables::write_gdt(memory, GDT)?;
    boot_tables::write_page_tables(memory, PAGE_TABLES)?;
    // fwait: any processor has it, and KVM does not emulate it.
    let mut code = vec![0x9b];
    code.push(0xb9); // mov ecx, ITERATIONS
    code.extend(ITERATIONS.to_le_bytes());
    code.extend([0xff, 0xc9]); // dec ecx
    code.extend([0x75, 0xfc]); // jnz back to dec
    code.extend([0xe6, DONE_PORT.to_le_bytes()[0]]); // out DONE_PORT, al
    memory.write_slice(&code, CODE)
}

fn run(vcpu: &mut VcpuFd) -> Result<Duration, LoopError> {
    let start = Instant::now();
    loop {
        match vcpu.run() {
            Ok(VcpuExit::IoOut(DONE_PORT, _)) => return Ok(start.elapsed()),
            Ok(exit) => return Err(LoopError::Exit { exit: format!("{exit:?}") }),
            Err(error) if error.errno() == libc::EINTR => {}
            Err(source) => return Err(LoopError::Kvm { what: "run a vCPU", source }),
        }
    }
}
