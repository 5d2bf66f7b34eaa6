//! Everything the guest finds in its memory when it starts: kernel, initramfs, command line, the
//! zero page, the boot tables and the MP table.
//!
//! The kernel and the initramfs are the caller's own and trusted to be what they are; their sizes
//! and addresses are checked all the same, and a file that does not fit is refused.

mod cmdline;
mod kernel;

use std::fs::File;
use std::{io, iter};

use thiserror::Error;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryBackend, GuestMemoryError, ReadVolatile};

use crate::arch::x86_64::{boot_tables, mp_table, zero_page};
use crate::config::VcpuCount;
use crate::layout::{self, VirtioSlot};
use crate::memory::GuestMemory;

pub use cmdline::CmdlineError;
pub use kernel::KernelError;
use zero_page::Initramfs;

const PAGE: u64 = 0x1000;

/// The guest's memory could not be prepared.
#[derive(Debug, Error)]
pub enum BootError {
    #[error("cannot load the guest kernel")]
    Kernel(#[from] KernelError),
    #[error("cannot read the initramfs")]
    ReadInitramfs(#[source] io::Error),
    #[error("initramfs of {size} bytes does not fit beside a kernel that ends at {kernel_end:#x}")]
    InitramfsTooLarge { size: u64, kernel_end: u64 },
    #[error("cannot form the kernel command line")]
    Cmdline(#[from] CmdlineError),
    #[error("cannot write the boot tables")]
    Tables(#[from] GuestMemoryError),
}

/// What is loaded into a guest.
#[derive(Debug)]
pub(crate) struct BootSource<'a> {
    pub(crate) kernel: &'a mut File,
    pub(crate) initramfs: &'a mut File,
    /// Words after the standard ones.
    pub(crate) cmdline: &'a str,
    pub(crate) vcpus: VcpuCount,
    /// Slots of the virtio devices that the guest is told of.
    pub(crate) devices: &'a [VirtioSlot],
}

/// Fills guest memory and returns the address where the first vCPU enters the kernel, in long mode
/// with the zero page's address in RSI.
pub(crate) fn load(
    memory: &GuestMemory,
    source: BootSource<'_>,
) -> Result<GuestAddress, BootError> {
    let kernel = kernel::load(memory, source.kernel)?;
    let initramfs = load_initramfs(memory, source.initramfs, kernel.end)?;
    let cmdline = cmdline::build(source.cmdline, source.devices)?;
    memory.write_slice(cmdline.as_bytes_with_nul(), layout::CMDLINE)?;
    let cmdline_size = u32::try_from(cmdline.count_bytes() + 1).unwrap_or(u32::MAX);
    memory.write_obj(zero_page::build(memory, initramfs, cmdline_size), layout::ZERO_PAGE)?;
    boot_tables::write_gdt(memory, layout::BOOT_GDT)?;
    boot_tables::write_page_tables(memory, layout::BOOT_PAGE_TABLES)?;
    let lines: Vec<u8> =
        iter::once(layout::COM1_GSI).chain(source.devices.iter().map(|slot| slot.gsi)).collect();
    mp_table::write(memory, source.vcpus, &lines)?;
    Ok(kernel.entry)
}

/// Reads the initramfs to the top of the memory below the gap.
fn load_initramfs(
    memory: &GuestMemory,
    file: &mut File,
    kernel_end: u64,
) -> Result<Initramfs, BootError> {
    let size = file.metadata().map_err(BootError::ReadInitramfs)?.len();
    if size == 0 {
        return Ok(Initramfs { start: 0, length: 0 });
    }
    let too_large = BootError::InitramfsTooLarge { size, kernel_end };
    let low_end = (memory.last_addr().raw_value() + 1).min(layout::GAP_START);
    let start = low_end.checked_sub(size).map(|start| start & !(PAGE - 1));
    let (Some(start), Ok(length)) = (start.filter(|s| *s >= kernel_end), u32::try_from(size))
    else {
        return Err(too_large);
    };
    let Ok(start_32) = u32::try_from(start) else { return Err(too_large) };
    read_into(memory, GuestAddress(start), file, size).map_err(BootError::ReadInitramfs)?;
    Ok(Initramfs { start: start_32, length })
}

/// Reads `length` bytes from the position of `file` straight into guest memory.
fn read_into(
    memory: &GuestMemory,
    address: GuestAddress,
    file: &mut File,
    length: u64,
) -> io::Result<()> {
    let length = usize::try_from(length).map_err(io::Error::other)?;
    let mut slice = memory.get_slice(address, length).map_err(io::Error::other)?;
    file.read_exact_volatile(&mut slice).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;
    use crate::config::MemorySize;
    use crate::memory::allocate;

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file.rewind().unwrap();
        file
    }

    fn memory(mib: u64) -> GuestMemory {
        allocate(MemorySize::try_from(mib).unwrap()).unwrap()
    }

    #[test]
    fn the_initramfs_lies_page_aligned_at_the_top_below_the_gap() {
        let memory = memory(4096);
        let initramfs = load_initramfs(&memory, &mut file_of(b"cpio!"), 0x200_0000).unwrap();
        assert_eq!(initramfs, Initramfs { start: 0xcfff_f000, length: 5 });
        let mut bytes = [0; 5];
        memory.read_slice(&mut bytes, GuestAddress(0xcfff_f000)).unwrap();
        assert_eq!(&bytes, b"cpio!");
    }

    #[test]
    fn an_initramfs_that_reaches_into_the_kernel_is_refused() {
        let memory = memory(32);
        let mut file = file_of(&[0; 8192]);
        let kernel_end = (32 << 20) - 4096;
        let fault = load_initramfs(&memory, &mut file, kernel_end).unwrap_err();
        assert_eq!(
            fault.to_string(),
            "initramfs of 8192 bytes does not fit beside a kernel that ends at 0x1fff000"
        );
    }

    #[test]
    fn an_initramfs_larger_than_memory_is_refused() {
        let memory = memory(32);
        let file = file_of(b"");
        file.set_len(1 << 40).unwrap();
        assert!(matches!(
            load_initramfs(&memory, &mut { file }, 0),
            Err(BootError::InitramfsTooLarge { .. })
        ));
    }

    #[test]
    fn an_empty_initramfs_is_harmless() {
        let initramfs = load_initramfs(&memory(32), &mut file_of(b""), 0x200_0000).unwrap();
        assert_eq!(initramfs.length, 0);
    }
}
