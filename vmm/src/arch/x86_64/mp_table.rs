//! The MP table (Intel MultiProcessor Specification 1.4): vCPUs, the ISA bus, the IOAPIC and its
//! interrupt lines. It stands in for ACPI, which the guest's kernel does not have.
//!
//! All interrupt lines are ISA and so edge-triggered, active high, and IOAPIC pin n is line n:
//! that is how virtio-mmio devices on the kernel command line name them. Only the lines in use are
//! listed: Linux sets up each listed pin with a dozen accesses to the IOAPIC, a VM exit each.

use vm_memory::{Bytes, GuestMemoryError};

use crate::config::VcpuCount;
use crate::layout;
use crate::memory::GuestMemory;

const SPECIFICATION_1_4: u8 = 4;
const APIC_VERSION: u8 = 0x14;
const ENTRY_PROCESSOR: u8 = 0;
const ENTRY_BUS: u8 = 1;
const ENTRY_IOAPIC: u8 = 2;
const ENTRY_INTERRUPT: u8 = 3;
const ENTRY_LOCAL_INTERRUPT: u8 = 4;
const PROCESSOR_ENABLED: u8 = 1;
const PROCESSOR_BOOTSTRAP: u8 = 2;
const IOAPIC_ENABLED: u8 = 1;
const INTERRUPT_VECTORED: u8 = 0;
const INTERRUPT_NMI: u8 = 1;
const INTERRUPT_EXTINT: u8 = 3;
const BUS_ISA: u8 = 0;
const ALL_LOCAL_APICS: u8 = 0xff;
const FLOATING_POINTER_SIZE: usize = 16;

/// Writes the table at [`layout::MP_TABLE`], where kernels look for it first of all, with the PIT's
/// line and `lines`.
pub(crate) fn write(
    memory: &GuestMemory,
    vcpus: VcpuCount,
    lines: &[u8],
) -> Result<(), GuestMemoryError> {
    let mut bytes = floating_pointer();
    bytes.extend(configuration(vcpus, lines));
    memory.write_slice(&bytes, layout::MP_TABLE)
}

/// APIC id of the IOAPIC: the first after those of the vCPUs.
fn ioapic_id(vcpus: VcpuCount) -> u8 {
    vcpus.get()
}

/// §4.1: points to the configuration table right behind it.
fn floating_pointer() -> Vec<u8> {
    // The layout keeps the table in the first MiB.
    let table = u32::try_from(layout::MP_TABLE.0).unwrap_or_default() + 16;
    let mut bytes = b"_MP_".to_vec();
    bytes.extend(table.to_le_bytes());
    bytes.extend([1, SPECIFICATION_1_4]); // length in 16-byte units, revision
    bytes.extend([0; 6]); // checksum, feature bytes
    set_checksum(&mut bytes, 10);
    debug_assert_eq!(bytes.len(), FLOATING_POINTER_SIZE);
    bytes
}

/// §4.2 and §4.3: header and entries.
fn configuration(vcpus: VcpuCount, lines: &[u8]) -> Vec<u8> {
    let entries = entries(vcpus, lines);
    let count = u16::try_from(entries.len()).unwrap_or(u16::MAX);
    let length = 44 + entries.iter().map(Vec::len).sum::<usize>();
    let mut bytes = b"PCMP".to_vec();
    bytes.extend(u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend([SPECIFICATION_1_4, 0]); // revision, checksum
    bytes.extend(*b"VMRUN   MICROVM     "); // maker, product
    bytes.extend([0; 6]); // no OEM table
    bytes.extend(count.to_le_bytes());
    bytes.extend(layout::LOCAL_APIC.to_le_bytes());
    bytes.extend([0; 4]); // no extended table
    entries.iter().for_each(|entry| bytes.extend(entry));
    set_checksum(&mut bytes, 7);
    bytes
}

fn entries(vcpus: VcpuCount, lines: &[u8]) -> Vec<Vec<u8>> {
    let mut entries: Vec<_> = (0..vcpus.get()).map(processor).collect();
    entries.push([&[ENTRY_BUS, BUS_ISA][..], b"ISA   "].concat());
    let mut ioapic = vec![ENTRY_IOAPIC, ioapic_id(vcpus), APIC_VERSION, IOAPIC_ENABLED];
    ioapic.extend(layout::IOAPIC.to_le_bytes());
    entries.push(ioapic);
    entries.extend([layout::PIT_GSI].iter().chain(lines).map(|&pin| {
        vec![ENTRY_INTERRUPT, INTERRUPT_VECTORED, 0, 0, BUS_ISA, pin, ioapic_id(vcpus), pin]
    }));
    entries.push(vec![ENTRY_LOCAL_INTERRUPT, INTERRUPT_EXTINT, 0, 0, BUS_ISA, 0, 0, 0]);
    let nmi = [ENTRY_LOCAL_INTERRUPT, INTERRUPT_NMI, 0, 0, BUS_ISA, 0, ALL_LOCAL_APICS, 1];
    entries.push(nmi.to_vec());
    entries
}

/// §4.3.1; the signature and features are not used by kernels that can ask CPUID.
fn processor(id: u8) -> Vec<u8> {
    let bootstrap = if id == 0 { PROCESSOR_BOOTSTRAP } else { 0 };
    let mut entry = vec![ENTRY_PROCESSOR, id, APIC_VERSION, PROCESSOR_ENABLED | bootstrap];
    entry.extend([0; 16]);
    entry
}

/// Sets the byte at `index`, zero until now, so that all bytes sum up to zero.
fn set_checksum(bytes: &mut [u8], index: usize) {
    let sum = bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(checksum) = bytes.get_mut(index) {
        *checksum = sum.wrapping_neg();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With every line but the PIT's in use.
    fn table(vcpus: u8) -> Vec<u8> {
        let lines: Vec<_> = (1..layout::IOAPIC_PINS).collect();
        configuration(VcpuCount::try_from(vcpus).unwrap(), &lines)
    }

    #[test]
    fn checksums_are_zero() {
        let sum = |bytes: &[u8]| bytes.iter().fold(0_u8, |sum, byte| sum.wrapping_add(*byte));
        assert_eq!(sum(&floating_pointer()), 0);
        (1..=8).for_each(|vcpus| assert_eq!(sum(&table(vcpus)), 0));
    }

    #[test]
    fn the_header_states_length_and_entries() {
        let bytes = table(8);
        assert_eq!(usize::from(u16::from_le_bytes([bytes[4], bytes[5]])), bytes.len());
        let count = usize::from(u16::from_le_bytes([bytes[34], bytes[35]]));
        assert_eq!(count, 8 + 1 + 1 + usize::from(layout::IOAPIC_PINS) + 2);
        assert_eq!(bytes.len(), 44 + 8 * 20 + (count - 8) * 8);
    }

    #[test]
    fn the_table_of_eight_vcpus_fits_its_kib() {
        assert!(FLOATING_POINTER_SIZE + table(8).len() <= 0x400);
    }

    #[test]
    fn only_lines_in_use_are_listed() {
        let entries = entries(VcpuCount::try_from(1).unwrap(), &[4, 23]);
        let pins: Vec<_> =
            entries.iter().filter(|e| e[0] == ENTRY_INTERRUPT).map(|e| e[7]).collect();
        assert_eq!(pins, [layout::PIT_GSI, 4, 23]);
    }

    #[test]
    fn only_the_first_vcpu_starts_by_itself() {
        let bytes = table(2);
        assert_eq!(bytes[44..48], [0, 0, 0x14, 3]);
        assert_eq!(bytes[64..68], [0, 1, 0x14, 1]);
    }
}
