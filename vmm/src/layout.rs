//! Every guest physical address, port and interrupt line of the VM.
//!
//! | Start       | End (exclusive) | What                                                     |
//! |-------------|-----------------|----------------------------------------------------------|
//! | 0x500       | 0x520           | boot GDT                                                 |
//! | 0x7000      | 0x8000          | zero page (`boot_params`)                                |
//! | 0x9000      | 0xc000          | boot page tables: first GiB, identity mapped             |
//! | 0x20000     | 0x20800         | kernel command line                                      |
//! | 0x9fc00     | 0xa0000         | MP table, in the last KiB of base memory                 |
//! | 0x100000    | 0xd0000000      | memory: kernel (from its ELF file), initramfs at the top |
//! | 0xd0000000  | 0xd0013000      | virtio-mmio windows, 4 KiB a device                      |
//! | 0xfec00000  | 0xfec01000      | IOAPIC (in KVM)                                          |
//! | 0xfee00000  | 0xfee01000      | local APICs (in KVM)                                     |
//! | 0xfffbc000  | 0xfffbd000      | identity map page of KVM on Intel                        |
//! | 0xfffbd000  | 0xfffc0000      | task state segment of KVM on Intel                       |
//! | 0x100000000 | end of memory   | memory beyond the gap                                    |
//!
//! Ports: COM1 at 0x3f8 (interrupt 4), keyboard controller at 0x60–0x64. The PICs, the PIT and its
//! speaker port live in KVM. Virtio devices have the interrupt lines from 5 up to the last pin of
//! the IOAPIC, one each: [`MAX_VIRTIO_DEVICES`].

use vm_memory::GuestAddress;

pub(crate) const BOOT_GDT: GuestAddress = GuestAddress(0x500);
pub(crate) const ZERO_PAGE: GuestAddress = GuestAddress(0x7000);
pub(crate) const BOOT_PAGE_TABLES: GuestAddress = GuestAddress(0x9000);
pub(crate) const CMDLINE: GuestAddress = GuestAddress(0x2_0000);
/// Bytes of the command line with its NUL; the kernel's `COMMAND_LINE_SIZE`.
pub(crate) const CMDLINE_SIZE: usize = 0x800;
pub(crate) const MP_TABLE: GuestAddress = GuestAddress(0x9_fc00);
/// End of base memory as the kernel sees it: the MP table behind it is reserved.
pub(crate) const BASE_MEMORY_END: u64 = 0x9_fc00;
pub(crate) const EXTENDED_MEMORY: GuestAddress = GuestAddress(0x10_0000);

/// Start of the gap below 4 GiB that holds no memory.
pub(crate) const GAP_START: u64 = 0xd000_0000;
pub(crate) const GAP_END: u64 = 1 << 32;

const VIRTIO_MMIO: u64 = GAP_START;
/// Size of a device's register window.
pub(crate) const VIRTIO_WINDOW: u64 = 0x1000;

pub(crate) const IOAPIC: u32 = 0xfec0_0000;
pub(crate) const LOCAL_APIC: u32 = 0xfee0_0000;
pub(crate) const IDENTITY_MAP: u64 = 0xfffb_c000;
pub(crate) const TASK_STATE: usize = 0xfffb_d000;

pub(crate) const COM1: u64 = 0x3f8;
pub(crate) const COM1_PORTS: u64 = 8;
pub(crate) const COM1_GSI: u8 = 4;
pub(crate) const PIT_GSI: u8 = 0;
pub(crate) const I8042: u64 = 0x60;
pub(crate) const I8042_PORTS: u64 = 5;

/// Pins of KVM's IOAPIC.
pub(crate) const IOAPIC_PINS: u8 = 24;
const FIRST_VIRTIO_GSI: u8 = 5;
/// Most virtio devices of a VM: each has an interrupt line of its own, 5 to 23.
pub const MAX_VIRTIO_DEVICES: usize = (IOAPIC_PINS - FIRST_VIRTIO_GSI) as usize;

/// Register window and interrupt line of one virtio device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VirtioSlot {
    pub(crate) window: GuestAddress,
    pub(crate) gsi: u8,
}

impl VirtioSlot {
    /// The slots in order, [`MAX_VIRTIO_DEVICES`] of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (FIRST_VIRTIO_GSI..IOAPIC_PINS).enumerate().map(|(index, gsi)| Self {
            window: GuestAddress(VIRTIO_MMIO + index as u64 * VIRTIO_WINDOW),
            gsi,
        })
    }
}

/// The pieces of `size` bytes of guest memory, as start and length: below the gap, and beyond it
/// what does not fit there.
pub(crate) fn memory_ranges(size: u64) -> Vec<(GuestAddress, u64)> {
    if size <= GAP_START {
        vec![(GuestAddress(0), size)]
    } else {
        vec![(GuestAddress(0), GAP_START), (GuestAddress(GAP_END), size - GAP_START)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of the table above, as start and end; the end of the last row is not a number.
    fn documented() -> Vec<(u64, Option<u64>)> {
        let hex = |cell: &str| u64::from_str_radix(cell.trim().strip_prefix("0x")?, 16).ok();
        include_str!("layout.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! | 0x"))
            .map(|row| {
                let mut cells = row.split('|');
                let start = format!("0x{}", cells.next().unwrap());
                (hex(&start).unwrap(), hex(cells.next().unwrap()))
            })
            .collect()
    }

    #[test]
    fn the_table_in_the_docs_is_the_layout() {
        let windows = VIRTIO_MMIO + MAX_VIRTIO_DEVICES as u64 * VIRTIO_WINDOW;
        let task_state = TASK_STATE as u64;
        assert_eq!(
            documented(),
            [
                (BOOT_GDT.0, Some(BOOT_GDT.0 + 4 * 8)),
                (ZERO_PAGE.0, Some(ZERO_PAGE.0 + 0x1000)),
                (BOOT_PAGE_TABLES.0, Some(BOOT_PAGE_TABLES.0 + 3 * 0x1000)),
                (CMDLINE.0, Some(CMDLINE.0 + CMDLINE_SIZE as u64)),
                (MP_TABLE.0, Some(MP_TABLE.0 + 0x400)),
                (EXTENDED_MEMORY.0, Some(GAP_START)),
                (VIRTIO_MMIO, Some(windows)),
                (IOAPIC.into(), Some(u64::from(IOAPIC) + 0x1000)),
                (LOCAL_APIC.into(), Some(u64::from(LOCAL_APIC) + 0x1000)),
                (IDENTITY_MAP, Some(IDENTITY_MAP + 0x1000)),
                (task_state, Some(task_state + 3 * 0x1000)),
                (GAP_END, None),
            ]
        );
    }

    #[test]
    fn documented_ranges_are_in_order_and_do_not_overlap() {
        for pair in documented().windows(2) {
            assert!(pair[0].0 < pair[0].1.unwrap(), "{pair:x?}");
            assert!(pair[0].1.unwrap() <= pair[1].0, "{pair:x?}");
        }
    }

    #[test]
    fn every_virtio_slot_has_a_pin_of_its_own() {
        let slots: Vec<_> = VirtioSlot::all().collect();
        assert_eq!(slots.len(), MAX_VIRTIO_DEVICES);
        assert_eq!(slots[0], VirtioSlot { window: GuestAddress(0xd000_0000), gsi: 5 });
        assert_eq!(slots[18], VirtioSlot { window: GuestAddress(0xd001_2000), gsi: 23 });
    }

    #[test]
    fn memory_up_to_the_gap_is_one_piece() {
        assert_eq!(memory_ranges(64 << 20), [(GuestAddress(0), 64 << 20)]);
        assert_eq!(memory_ranges(GAP_START), [(GuestAddress(0), GAP_START)]);
    }

    #[test]
    fn memory_beyond_the_gap_starts_at_4_gib() {
        let size = 4 << 30;
        assert_eq!(
            memory_ranges(size),
            [(GuestAddress(0), GAP_START), (GuestAddress(1 << 32), size - GAP_START)]
        );
        let total: u64 = memory_ranges(size).iter().map(|(_, length)| length).sum();
        assert_eq!(total, size);
    }
}
