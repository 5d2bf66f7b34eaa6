//! The zero page (`boot_params`): how the guest's kernel learns of its memory, command line and
//! initramfs (Documentation/arch/x86/zero-page.rst).

use linux_loader::bootparam::{boot_e820_entry, boot_params};
use vm_memory::{Address, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use crate::layout;
use crate::memory::GuestMemory;

const BOOT_FLAG: u16 = 0xaa55;
const HEADER_MAGIC: u32 = 0x5372_6448; // "HdrS"
const LOADER_UNDEFINED: u8 = 0xff;
const E820_RAM: u32 = 1;
const E820_RESERVED: u32 = 2;

/// Where the initramfs lies in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Initramfs {
    /// Start, below 4 GiB.
    pub(crate) start: u32,
    /// Length in bytes.
    pub(crate) length: u32,
}

/// Fills the zero page for a guest with this memory, initramfs and `cmdline_size` bytes of command
/// line (with its NUL) at [`layout::CMDLINE`].
pub(crate) fn build(memory: &GuestMemory, initramfs: Initramfs, cmdline_size: u32) -> boot_params {
    let mut params = boot_params::default();
    params.hdr.boot_flag = BOOT_FLAG;
    params.hdr.header = HEADER_MAGIC;
    params.hdr.type_of_loader = LOADER_UNDEFINED;
    params.hdr.ramdisk_image = initramfs.start;
    params.hdr.ramdisk_size = initramfs.length;
    // The layout keeps the command line in the first MiB.
    params.hdr.cmd_line_ptr = u32::try_from(layout::CMDLINE.raw_value()).unwrap_or_default();
    params.hdr.cmdline_size = cmdline_size;
    let entries = memory_map(memory);
    let mut table = params.e820_table;
    let mut count = 0;
    for (slot, entry) in table.iter_mut().zip(entries) {
        *slot = entry;
        count += 1;
    }
    params.e820_table = table;
    params.e820_entries = count;
    params
}

/// Memory as the kernel may use it: base memory without the MP table, extended memory, and what
/// lies beyond the gap.
fn memory_map(memory: &GuestMemory) -> Vec<boot_e820_entry> {
    let entry = |addr, end: u64, kind| boot_e820_entry { addr, size: end - addr, r#type: kind };
    let mut map = vec![
        entry(0, layout::BASE_MEMORY_END, E820_RAM),
        entry(layout::BASE_MEMORY_END, layout::EXTENDED_MEMORY.raw_value(), E820_RESERVED),
    ];
    for region in memory.iter() {
        let start = region.start_addr().max(layout::EXTENDED_MEMORY);
        let end = end_of(region.start_addr(), region.len());
        if end > start.raw_value() {
            map.push(entry(start.raw_value(), end, E820_RAM));
        }
    }
    map
}

fn end_of(start: GuestAddress, length: u64) -> u64 {
    start.raw_value().saturating_add(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MemorySize;
    use crate::memory::allocate;

    fn map_of(mib: u64) -> Vec<(u64, u64, u32)> {
        let memory = allocate(MemorySize::try_from(mib).unwrap()).unwrap();
        let params = build(&memory, Initramfs { start: 0, length: 0 }, 1);
        let table = params.e820_table;
        table[..params.e820_entries.into()].iter().map(|e| (e.addr, e.size, e.r#type)).collect()
    }

    #[test]
    fn small_memory_ends_where_it_ends() {
        assert_eq!(
            map_of(64),
            [(0, 0x9_fc00, 1), (0x9_fc00, 0x6_0400, 2), (0x10_0000, 0x3f0_0000, 1)]
        );
    }

    #[test]
    fn large_memory_leaves_the_gap_out() {
        let map = map_of(4096);
        assert_eq!(map[2], (0x10_0000, 0xcff0_0000, 1));
        assert_eq!(map[3], (0x1_0000_0000, 0x3000_0000, 1));
        assert_eq!(map.len(), 4);
    }
}
