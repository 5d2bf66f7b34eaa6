//! GDT and page tables with which the guest starts, in long mode with the first GiB mapped to
//! itself. The kernel replaces both within its first instructions; the probe of the host uses them
//! too.

use vm_memory::{Address, Bytes, GuestAddress};

use crate::memory::GuestMemory;

/// Entries of the GDT; the selectors 0x10 and 0x18 are fixed by the boot protocol (`__BOOT_CS`,
/// `__BOOT_DS`).
pub(crate) const GDT: [u64; 4] = [
    0,
    0,
    0x00af_9b00_0000_ffff, // 64-bit code, base 0, limit 4 GiB, accessed
    0x00cf_9300_0000_ffff, // data, base 0, limit 4 GiB, accessed
];
pub(crate) const CODE_SELECTOR: u16 = 0x10;
pub(crate) const DATA_SELECTOR: u16 = 0x18;

const PAGE: u64 = 0x1000;
const ENTRIES: u64 = 512;
const PRESENT_WRITABLE: u64 = 0b11;
const LARGE_PAGE: u64 = 1 << 7;

/// Writes [`GDT`] to `address`.
pub(crate) fn write_gdt(
    memory: &GuestMemory,
    address: GuestAddress,
) -> Result<(), vm_memory::GuestMemoryError> {
    write_table(memory, address, &GDT)
}

/// Writes three pages from `address` on that map the first GiB to itself in pages of 2 MiB.
pub(crate) fn write_page_tables(
    memory: &GuestMemory,
    address: GuestAddress,
) -> Result<(), vm_memory::GuestMemoryError> {
    let pointers = address.unchecked_add(PAGE);
    let directory = pointers.unchecked_add(PAGE);
    memory.write_obj(pointers.raw_value() | PRESENT_WRITABLE, address)?;
    memory.write_obj(directory.raw_value() | PRESENT_WRITABLE, pointers)?;
    let large_pages: Vec<u64> =
        (0..ENTRIES).map(|index| (index << 21) | LARGE_PAGE | PRESENT_WRITABLE).collect();
    write_table(memory, directory, &large_pages)
}

fn write_table(
    memory: &GuestMemory,
    address: GuestAddress,
    entries: &[u64],
) -> Result<(), vm_memory::GuestMemoryError> {
    let bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    memory.write_slice(&bytes, address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_tables_map_the_last_large_page_of_the_first_gib_to_itself() {
        let memory = GuestMemory::from_ranges(&[(GuestAddress(0), 0x10_0000)]).unwrap();
        write_page_tables(&memory, GuestAddress(0x9000)).unwrap();
        let entry = |address| memory.read_obj::<u64>(GuestAddress(address)).unwrap();
        assert_eq!(entry(0x9000), 0xa003);
        assert_eq!(entry(0xa000), 0xb003);
        assert_eq!(entry(0xb000), 0x83);
        assert_eq!(entry(0xb000 + 511 * 8), 0x3fe0_0083);
    }
}
