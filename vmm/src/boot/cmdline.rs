//! The kernel command line: the standard words, the virtio devices, and the caller's words.

use std::ffi::CString;
use std::fmt::Write;

use thiserror::Error;

use crate::layout::{self, VirtioSlot};

/// Words of every VM.
///
/// - `console=ttyS0 quiet loglevel=1`: silent, until a panic raises the level by itself;
/// - `panic=-1 oops=panic reboot=k,f`: a fault of the kernel ends the VM at once, as a restart does,
///   through the keyboard controller and without putting interrupts and vCPUs to rest before;
/// - `tsc=reliable no_timer_check`: the clocks are KVM's; nothing is measured or tried out;
/// - `rdinit=/init`: the agent.
const STANDARD: &str = "console=ttyS0 quiet loglevel=1 panic=-1 oops=panic reboot=k,f tsc=reliable \
                        no_timer_check 8250.nr_uarts=1 rdinit=/init";

/// The command line cannot be given to a kernel.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CmdlineError {
    #[error("kernel command line of {length} bytes is longer than {}", layout::CMDLINE_SIZE - 1)]
    TooLong { length: usize },
    #[error("kernel command line holds a character that is not printable ASCII")]
    NotPrintable,
}

/// The command line of a guest with virtio devices in `devices`.
pub(super) fn build(extra: &str, devices: &[VirtioSlot]) -> Result<CString, CmdlineError> {
    let mut line = STANDARD.to_owned();
    for VirtioSlot { window, gsi } in devices {
        // Writing to a String does not fail.
        let _ = write!(line, " virtio_mmio.device=4K@{:#x}:{gsi}", window.0);
    }
    if !extra.is_empty() {
        line.push(' ');
        line.push_str(extra);
    }
    if line.len() >= layout::CMDLINE_SIZE {
        return Err(CmdlineError::TooLong { length: line.len() });
    }
    if !line.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()) {
        return Err(CmdlineError::NotPrintable);
    }
    CString::new(line).map_err(|_| CmdlineError::NotPrintable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_extra_words_follow_the_standard_ones() {
        let devices: Vec<_> = VirtioSlot::all().take(2).collect();
        let line = build("ro quiet", &devices).unwrap().into_string().unwrap();
        let rest = line.strip_prefix(STANDARD).unwrap();
        assert_eq!(
            rest,
            " virtio_mmio.device=4K@0xd0000000:5 virtio_mmio.device=4K@0xd0001000:6 ro quiet"
        );
    }

    #[test]
    fn the_largest_number_of_devices_fits() {
        let devices: Vec<_> = VirtioSlot::all().collect();
        assert!(build("", &devices).is_ok());
    }

    #[test]
    fn a_line_too_long_or_with_control_characters_is_refused() {
        let long = "x".repeat(layout::CMDLINE_SIZE);
        assert!(matches!(build(&long, &[]), Err(CmdlineError::TooLong { .. })));
        assert_eq!(build("a\0b", &[]), Err(CmdlineError::NotPrintable));
        assert_eq!(build("a\nb", &[]), Err(CmdlineError::NotPrintable));
    }
}
