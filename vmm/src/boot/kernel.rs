//! Loads an uncompressed `vmlinux` (ELF64) to the physical addresses that it names.
//!
//! The segments are read straight from the file into guest memory. Mapping them from the page cache
//! instead would save the copy, but such memory comes to the guest in pages of 4 KiB, with a VM
//! exit each, where what is read lands in huge pages: a boot is cheaper with the copy.

use std::fs::File;

use linux_loader::loader::{Elf, KernelLoader, KernelLoaderResult};
use thiserror::Error;
use vm_memory::{Address, GuestAddress, GuestMemoryBackend};

use crate::layout;
use crate::memory::GuestMemory;

/// The kernel's file cannot be booted.
#[derive(Debug, Error)]
pub enum KernelError {
    #[error("not an uncompressed ELF kernel that fits into {memory} bytes of guest memory")]
    Load { memory: u64, source: linux_loader::loader::Error },
    #[error("kernel ends at {end:#x}, beyond the guest's memory below 4 GiB ({memory_end:#x})")]
    TooLarge { end: u64, memory_end: u64 },
    #[error("entry point {entry:#x} is outside the kernel, which ends at {end:#x}")]
    Entry { entry: u64, end: u64 },
}

/// A kernel in guest memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoadedKernel {
    /// Where its 64-bit code starts.
    pub(super) entry: GuestAddress,
    /// First address behind it, its zeroed data included.
    pub(super) end: u64,
}

/// Loads `file` and checks that all of the kernel lies in memory.
pub(super) fn load(memory: &GuestMemory, file: &mut File) -> Result<LoadedKernel, KernelError> {
    let last = memory.last_addr().raw_value();
    let KernelLoaderResult { kernel_load: entry, kernel_end: end, .. } =
        Elf::load(memory, None, file, Some(layout::EXTENDED_MEMORY))
            .map_err(|source| KernelError::Load { memory: last + 1, source })?;
    let memory_end = (last + 1).min(layout::GAP_START);
    if end > memory_end {
        return Err(KernelError::TooLarge { end, memory_end });
    }
    if entry.raw_value() >= end {
        return Err(KernelError::Entry { entry: entry.raw_value(), end });
    }
    Ok(LoadedKernel { entry, end })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use vm_memory::Bytes;

    use super::*;
    use crate::config::MemorySize;
    use crate::memory::allocate;

    const MIB: u64 = 1 << 20;

    /// An ELF file of one segment, with 4 bytes of contents.
    fn elf(entry: u64, address: u64, memory_size: u64) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01".to_vec();
        bytes.resize(16, 0);
        for half in [2_u16, 0x3e] {
            bytes.extend(half.to_le_bytes());
        }
        bytes.extend(1_u32.to_le_bytes());
        for word in [entry, 64, 0] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(0_u32.to_le_bytes());
        for half in [64_u16, 56, 1, 0, 0, 0] {
            bytes.extend(half.to_le_bytes());
        }
        bytes.extend(1_u32.to_le_bytes()); // PT_LOAD
        bytes.extend(5_u32.to_le_bytes());
        for word in [120, address, address, 4, memory_size, 0x1000] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(b"code");
        bytes
    }

    fn load_bytes(bytes: &[u8]) -> (GuestMemory, Result<LoadedKernel, KernelError>) {
        let memory = allocate(MemorySize::try_from(32).unwrap()).unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let result = load(&memory, &mut file);
        (memory, result)
    }

    #[test]
    fn a_kernel_lands_at_its_physical_address() {
        let (memory, kernel) = load_bytes(&elf(16 * MIB, 16 * MIB, MIB));
        let kernel = kernel.unwrap();
        assert_eq!((kernel.entry.0, kernel.end), (16 * MIB, 17 * MIB));
        assert_eq!(memory.read_obj::<[u8; 4]>(kernel.entry).unwrap(), *b"code");
    }

    #[test]
    fn a_kernel_whose_zeroed_data_does_not_fit_is_refused() {
        let (_, fault) = load_bytes(&elf(16 * MIB, 16 * MIB, 17 * MIB));
        assert!(matches!(fault, Err(KernelError::TooLarge { .. })));
    }

    #[test]
    fn segments_outside_memory_and_beyond_all_addresses_are_refused() {
        for address in [32 * MIB - 2, 64 * MIB, u64::MAX - 1] {
            let (_, fault) = load_bytes(&elf(16 * MIB, address, 4));
            assert!(matches!(fault, Err(KernelError::Load { .. })), "{address:#x}");
        }
        let (_, fault) = load_bytes(&elf(16 * MIB, 16 * MIB, u64::MAX));
        assert!(matches!(fault, Err(KernelError::Load { .. })));
    }

    #[test]
    fn entry_points_outside_the_kernel_are_refused() {
        let (_, fault) = load_bytes(&elf(20 * MIB, 16 * MIB, MIB));
        assert!(matches!(fault, Err(KernelError::Entry { .. })));
        let (_, fault) = load_bytes(&elf(0x1000, 16 * MIB, MIB));
        assert!(matches!(fault, Err(KernelError::Load { .. })));
    }

    #[test]
    fn truncated_and_foreign_files_are_refused() {
        let whole = elf(16 * MIB, 16 * MIB, MIB);
        for length in 0..whole.len() {
            assert!(load_bytes(&whole[..length]).1.is_err(), "{length} bytes");
        }
        assert!(load_bytes(&[0x1f; 4096]).1.is_err());
    }
}
