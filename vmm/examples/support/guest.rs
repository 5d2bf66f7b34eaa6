//! Guests of a few instructions.

use std::fs::File;
use std::io::Write;

use crate::support::Fault;

/// Where the code lies, as physical address.
const ENTRY: u64 = 16 << 20;

/// A kernel that is this code and nothing else, as an open file without a name.
pub(crate) fn kernel(code: &[u8]) -> Result<File, Fault> {
    let path = std::env::temp_dir().join(format!("vmm-guest-{}", std::process::id()));
    File::create_new(&path)?.write_all(&elf(code))?;
    let kernel = File::open(&path)?;
    std::fs::remove_file(&path)?;
    Ok(kernel)
}

/// An ELF64 file with one segment, `code`, at [`ENTRY`].
fn elf(code: &[u8]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
    file.extend([ENTRY, 64, 0].map(u64::to_le_bytes).concat());
    file.extend([0; 4]);
    file.extend([64_u16, 56, 1, 0, 0, 0].map(u16::to_le_bytes).concat());
    file.extend([1_u32, 5].map(u32::to_le_bytes).concat());
    let length = code.len() as u64;
    file.extend([120, ENTRY, ENTRY, length, length, 0x1000].map(u64::to_le_bytes).concat());
    file.extend(code);
    file
}
