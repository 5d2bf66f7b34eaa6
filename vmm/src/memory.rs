//! Guest memory: anonymous, not reserved, touched lazily, in huge pages where the host gives them.
//!
//! Each piece is aligned to 2 MiB in the host's address space as it is in the guest's, so that KVM
//! can map it with huge pages: that takes the thousands of VM exits of a boot for memory first
//! touched down to dozens. What the host pays is memory in units of 2 MiB for what the guest
//! touches sparsely.
//!
//! The mappings live as long as the process and are never unmapped: vCPUs and device threads may
//! use them until its last moment.

use std::io;
use std::ptr::NonNull;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous, munmap};
use thiserror::Error;
use vm_memory::mmap::MmapRegionBuilder;
use vm_memory::{GuestAddress, GuestRegionMmap};

use crate::config::MemorySize;
use crate::layout;

/// Guest memory as every device and the loader see it.
pub type GuestMemory = vm_memory::GuestMemoryMmap<()>;

const HUGE_PAGE: usize = 2 << 20;

/// Guest memory could not be had from the host.
#[derive(Debug, Error)]
pub enum MemoryError {
    #[error("cannot map {bytes} bytes of guest memory")]
    Map { bytes: u64, source: io::Error },
    #[error("{bytes} bytes of guest memory are beyond this host's address space")]
    TooLarge { bytes: u64 },
    #[error("cannot form the guest memory of {bytes} bytes")]
    Regions { bytes: u64, source: vm_memory::GuestRegionCollectionError },
}

/// Maps guest memory of `size`, laid out as in [`layout::memory_ranges`].
pub(crate) fn allocate(size: MemorySize) -> Result<GuestMemory, MemoryError> {
    let regions = layout::memory_ranges(size.bytes())
        .into_iter()
        .map(|(start, bytes)| allocate_region(start, bytes))
        .collect::<Result<Vec<_>, _>>()?;
    GuestMemory::from_regions(regions)
        .map_err(|source| MemoryError::Regions { bytes: size.bytes(), source })
}

/// Size of the memory of a guest that only runs a few instructions, in bytes.
pub(crate) const SMALL: usize = 64 << 10;

/// Maps [`SMALL`] bytes at guest address 0.
pub(crate) fn allocate_small() -> Result<GuestMemory, MemoryError> {
    let region = allocate_region(GuestAddress(0), SMALL as u64)?;
    GuestMemory::from_regions(vec![region])
        .map_err(|source| MemoryError::Regions { bytes: SMALL as u64, source })
}

fn allocate_region(start: GuestAddress, bytes: u64) -> Result<GuestRegionMmap, MemoryError> {
    let length = usize::try_from(bytes).map_err(|_| MemoryError::TooLarge { bytes })?;
    let host = map_aligned(length).map_err(|source| MemoryError::Map { bytes, source })?;
    let builder = MmapRegionBuilder::new(length)
        .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
        .with_mmap_flags(libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: `map_aligned` just mapped `length` bytes at `host`, readable and writable, and
    // nothing ever unmaps them.
    let region = unsafe { builder.with_raw_mmap_pointer(host.as_ptr()) }
        .build()
        .map_err(|_| MemoryError::TooLarge { bytes })?;
    GuestRegionMmap::new(region, start).ok_or(MemoryError::TooLarge { bytes })
}

/// Maps `length` zeroed bytes at a multiple of [`HUGE_PAGE`], private and not reserved.
fn map_aligned(length: usize) -> io::Result<NonNull<u8>> {
    let padded = length.checked_add(HUGE_PAGE).ok_or(io::ErrorKind::OutOfMemory)?;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory in use.
    let start = unsafe {
        mmap_anonymous(std::ptr::null_mut(), padded, ProtFlags::READ | ProtFlags::WRITE, flags)
    }?;
    let before = start.cast::<u8>().align_offset(HUGE_PAGE);
    // SAFETY: `align_offset` of a byte pointer is below HUGE_PAGE, so `before` and then `length`
    // bytes lie within the `padded` bytes just mapped; only the edges around them are unmapped.
    // The advice changes no contents.
    unsafe {
        let aligned = start.byte_add(before);
        if before > 0 {
            munmap(start, before)?;
        }
        if before < HUGE_PAGE {
            munmap(aligned.byte_add(length), HUGE_PAGE - before)?;
        }
        // A host without huge pages refuses; the guest then runs on small ones.
        let _ = madvise(aligned, length, Advice::LinuxHugepage);
        NonNull::new(aligned.cast()).ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestMemoryBackend, GuestMemoryRegion};

    use super::*;

    #[test]
    fn memory_beyond_the_gap_is_usable_and_the_gap_is_not() {
        let memory = allocate(MemorySize::try_from(4096).unwrap()).unwrap();
        let beyond = GuestAddress(layout::GAP_END);
        memory.write_obj(7_u64, beyond).unwrap();
        assert_eq!(memory.read_obj::<u64>(beyond).unwrap(), 7);
        assert!(memory.write_obj(7_u64, GuestAddress(layout::GAP_START)).is_err());
        assert_eq!(memory.last_addr(), GuestAddress((4096 << 20) + (768 << 20) - 1));
    }

    #[test]
    fn every_region_is_aligned_for_huge_pages() {
        let memory = allocate(MemorySize::try_from(4097).unwrap()).unwrap();
        for region in memory.iter() {
            let host = memory.get_host_address(region.start_addr()).unwrap();
            assert_eq!(host.align_offset(HUGE_PAGE), 0);
        }
    }

    #[test]
    fn new_memory_reads_as_zeros_and_is_writable_to_its_last_byte() {
        let memory = allocate(MemorySize::try_from(32).unwrap()).unwrap();
        let last = memory.last_addr();
        assert_eq!(memory.read_obj::<u8>(last).unwrap(), 0);
        memory.write_obj(1_u8, last).unwrap();
    }
}
