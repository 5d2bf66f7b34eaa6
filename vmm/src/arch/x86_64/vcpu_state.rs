//! Registers of a vCPU before it runs.
//!
//! Only the first vCPU starts by itself; the others wait in KVM for the guest's start-up interrupt,
//! which sets their registers.

use std::mem::offset_of;

use kvm_bindings::{Msrs, kvm_fpu, kvm_lapic_state, kvm_msr_entry, kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;
use thiserror::Error;
use vm_memory::{Address, GuestAddress};

use super::boot_tables::{CODE_SELECTOR, DATA_SELECTOR, GDT};

const CR0_PROTECTED: u64 = 1;
const CR0_PAGING: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LONG_MODE: u64 = (1 << 8) | (1 << 10);

const MSR_IA32_MISC_ENABLE: u32 = 0x1a0;
const FAST_STRINGS: u64 = 1;
const MSR_MTRR_DEFAULT_TYPE: u32 = 0x2ff;
const MTRR_ON_WRITE_BACK: u64 = (1 << 11) | 6;

const APIC_LVT_LINT0: usize = 0x350;
const APIC_LVT_LINT1: usize = 0x360;
const DELIVER_NMI: u32 = 0b100 << 8;
const DELIVER_EXTINT: u32 = 0b111 << 8;
const DELIVERY_AND_MASK: u32 = (0b111 << 8) | (1 << 16);

/// A vCPU could not be given its state.
#[derive(Debug, Error)]
#[error("cannot set the {what} of a vCPU")]
pub struct VcpuStateError {
    what: &'static str,
    source: kvm_ioctls::Error,
}

fn failed(what: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> VcpuStateError {
    move |source| VcpuStateError { what, source }
}

/// Sets what every vCPU starts with: memory types, FPU, and its local interrupt pins wired as on a
/// PC (LINT0 to the PIC, LINT1 to NMI).
pub(crate) fn set_common(vcpu: &VcpuFd) -> Result<(), VcpuStateError> {
    set_msrs(vcpu)?;
    let fpu = kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() };
    vcpu.set_fpu(&fpu).map_err(failed("FPU state"))?;
    let mut lapic = vcpu.get_lapic().map_err(failed("local APIC"))?;
    set_delivery(&mut lapic, APIC_LVT_LINT0, DELIVER_EXTINT);
    set_delivery(&mut lapic, APIC_LVT_LINT1, DELIVER_NMI);
    vcpu.set_lapic(&lapic).map_err(failed("local APIC"))
}

/// KVM zeroes the others. Without fast strings Linux on Intel copies and clears memory slowly.
fn set_msrs(vcpu: &VcpuFd) -> Result<(), VcpuStateError> {
    let entry = |index, data| kvm_msr_entry { index, data, ..Default::default() };
    let entries = [
        entry(MSR_IA32_MISC_ENABLE, FAST_STRINGS),
        entry(MSR_MTRR_DEFAULT_TYPE, MTRR_ON_WRITE_BACK),
    ];
    let invalid = kvm_ioctls::Error::new(libc::EINVAL);
    let msrs = Msrs::from_entries(&entries).map_err(|_| failed("MSRs")(invalid))?;
    match vcpu.set_msrs(&msrs).map_err(failed("MSRs"))? {
        set if set == entries.len() => Ok(()),
        _ => Err(failed("MSRs")(invalid)),
    }
}

/// Puts the vCPU into long mode at `entry`, with the GDT and page tables of `boot_tables` at these
/// addresses and `argument` in RSI.
pub(crate) fn set_entry(
    vcpu: &VcpuFd,
    gdt: GuestAddress,
    page_tables: GuestAddress,
    entry: GuestAddress,
    argument: u64,
) -> Result<(), VcpuStateError> {
    let mut sregs = vcpu.get_sregs().map_err(failed("system registers"))?;
    let data = segment(DATA_SELECTOR);
    sregs.cs = segment(CODE_SELECTOR);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (data, data, data, data, data);
    sregs.gdt.base = gdt.raw_value();
    sregs.gdt.limit = (size_of_val(&GDT) - 1).try_into().unwrap_or(u16::MAX);
    sregs.cr3 = page_tables.raw_value();
    sregs.cr4 |= CR4_PAE;
    sregs.cr0 |= CR0_PROTECTED | CR0_PAGING;
    sregs.efer |= EFER_LONG_MODE;
    vcpu.set_sregs(&sregs).map_err(failed("system registers"))?;
    // Bit 1 of RFLAGS is always set; interrupts are off.
    let regs = kvm_regs { rip: entry.raw_value(), rsi: argument, rflags: 2, ..Default::default() };
    vcpu.set_regs(&regs).map_err(failed("registers"))
}

/// The hidden part of a segment register that holds `selector` of [`GDT`].
fn segment(selector: u16) -> kvm_segment {
    let descriptor = GDT.get(usize::from(selector / 8)).copied().unwrap_or_default();
    let [_, _, _, _, _, access, flags, _] = descriptor.to_le_bytes();
    let bit = |byte: u8, index: u32| (byte >> index) & 1;
    kvm_segment {
        base: 0,
        limit: u32::MAX,
        selector,
        type_: access & 0xf,
        s: bit(access, 4),
        dpl: (access >> 5) & 3,
        present: bit(access, 7),
        avl: bit(flags, 4),
        l: bit(flags, 5),
        db: bit(flags, 6),
        g: bit(flags, 7),
        ..Default::default()
    }
}

/// Sets and unmasks the delivery mode of a register of the local vector table.
fn set_delivery(lapic: &mut kvm_lapic_state, offset: usize, mode: u32) {
    const _: () = assert!(offset_of!(kvm_lapic_state, regs) == 0);
    if let Some(register) = lapic.regs.get_mut(offset..offset + 4) {
        let mut bytes = [0; 4];
        for (byte, half) in bytes.iter_mut().zip(register.iter()) {
            *byte = half.cast_unsigned();
        }
        let value = (u32::from_le_bytes(bytes) & !DELIVERY_AND_MASK) | mode;
        for (half, byte) in register.iter_mut().zip(value.to_le_bytes()) {
            *half = byte.cast_signed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_segment_is_64_bit_code_at_ring_0() {
        let code = segment(CODE_SELECTOR);
        assert_eq!((code.l, code.db, code.dpl, code.present, code.s), (1, 0, 0, 1, 1));
        assert_eq!(code.type_, 0xb);
        let data = segment(DATA_SELECTOR);
        assert_eq!((data.l, data.db, data.type_), (0, 1, 3));
    }

    #[test]
    fn delivery_modes_replace_the_old_ones_and_unmask() {
        let mut lapic = kvm_lapic_state::default();
        lapic.regs[APIC_LVT_LINT1..APIC_LVT_LINT1 + 4].copy_from_slice(&[0, 0x07, 1, 0]);
        set_delivery(&mut lapic, APIC_LVT_LINT1, DELIVER_NMI);
        assert_eq!(lapic.regs[APIC_LVT_LINT1..APIC_LVT_LINT1 + 4], [0, 4, 0, 0]);
    }
}
