//! How a VM ended, in one clear line.

use std::fmt;

/// Why the guest runs no more. Its `Display` is one line that names the cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmExit {
    /// The guest asked for it, through the reset line of the keyboard controller: how an agent that
    /// is done ends its VM.
    Reset,
    /// The guest asked for it after a kernel panic. The text is the guest's own, without control
    /// characters.
    Panic { message: String },
    /// A vCPU met an exception while it delivered a double fault. `rip` is missing where the
    /// processor (AMD) leaves the state undefined.
    TripleFault { vcpu: u8, rip: Option<u64> },
    /// KVM could not go on, most often because it could not emulate an instruction.
    InternalError { vcpu: u8, suberror: u32, rip: Option<u64>, instruction: Vec<u8> },
    /// The processor refused to enter the guest; `reason` is the hardware's own code.
    FailEntry { vcpu: u8, reason: u64, host_cpu: u32, rip: Option<u64> },
    /// The guest touched memory that the host could not supply.
    MemoryFault { vcpu: u8, gpa: u64, rip: Option<u64> },
    /// KVM reported a system event of this type, such as a crash told by the guest.
    SystemEvent { vcpu: u8, kind: u32 },
    /// KVM returned for a reason that this VMM does not know or never asked for.
    UnknownExit { vcpu: u8, reason: u32, rip: Option<u64> },
    /// Running the vCPU failed with this error of the host.
    RunFailed { vcpu: u8, errno: i32, rip: Option<u64> },
    /// A thread of the VMM ended before the guest did.
    ThreadEnded { thread: String },
}

impl VmExit {
    /// Whether the guest itself ended the VM in the orderly way.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        matches!(self, Self::Reset)
    }
}

impl fmt::Display for VmExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset => write!(f, "the guest ended the VM"),
            Self::Panic { message } => write!(f, "the guest kernel panicked: {message}"),
            Self::TripleFault { vcpu, rip } => {
                write!(f, "triple fault in the guest on vCPU {vcpu}{}", AtRip(*rip))
            }
            Self::InternalError { vcpu, suberror, rip, instruction } => {
                let what = suberror_name(*suberror);
                write!(f, "KVM internal error {suberror} ({what}) on vCPU {vcpu}{}", AtRip(*rip))?;
                if !instruction.is_empty() {
                    write!(f, ", instruction bytes")?;
                    instruction.iter().try_for_each(|byte| write!(f, " {byte:02x}"))?;
                }
                Ok(())
            }
            Self::FailEntry { vcpu, reason, host_cpu, rip } => {
                let rip = AtRip(*rip);
                write!(f, "the processor refused to enter the guest on vCPU {vcpu}{rip}: ")?;
                write!(f, "hardware reason {reason:#x} on host CPU {host_cpu}")
            }
            Self::MemoryFault { vcpu, gpa, rip } => {
                let rip = AtRip(*rip);
                write!(f, "the host has no memory for guest address {gpa:#x}, vCPU {vcpu}{rip}")
            }
            Self::SystemEvent { vcpu, kind } => {
                write!(f, "the guest ended with system event {kind} on vCPU {vcpu}")
            }
            Self::UnknownExit { vcpu, reason, rip } => {
                write!(f, "unknown VM exit {reason} on vCPU {vcpu}{}", AtRip(*rip))
            }
            Self::RunFailed { vcpu, errno, rip } => {
                let error = std::io::Error::from_raw_os_error(*errno);
                write!(f, "running vCPU {vcpu} failed{}: {error}", AtRip(*rip))
            }
            Self::ThreadEnded { thread } => write!(f, "thread {thread} of the VMM ended"),
        }
    }
}

/// ` at RIP 0x…`, or nothing where it is not known.
struct AtRip(Option<u64>);

impl fmt::Display for AtRip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |rip| write!(f, " at RIP {rip:#x}"))
    }
}

/// Names of `KVM_INTERNAL_ERROR_*` (Documentation/virt/kvm/api.rst).
fn suberror_name(suberror: u32) -> &'static str {
    match suberror {
        1 => "instruction emulation failed",
        2 => "simultaneous exceptions",
        3 => "exit while delivering an event",
        4 => "unexpected exit reason",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_error_names_rip_and_instruction_bytes() {
        let exit = VmExit::InternalError {
            vcpu: 1,
            suberror: 1,
            rip: Some(0xffff_ffff_8100_0000),
            instruction: vec![0x0f, 0xae, 0x21],
        };
        assert_eq!(
            exit.to_string(),
            "KVM internal error 1 (instruction emulation failed) on vCPU 1 at RIP \
             0xffffffff81000000, instruction bytes 0f ae 21"
        );
    }

    #[test]
    fn a_triple_fault_without_rip_says_no_rip() {
        let exit = VmExit::TripleFault { vcpu: 0, rip: None };
        assert_eq!(exit.to_string(), "triple fault in the guest on vCPU 0");
    }

    #[test]
    fn only_the_reset_is_clean() {
        assert!(VmExit::Reset.is_clean());
        assert!(!VmExit::Panic { message: "x".to_owned() }.is_clean());
    }
}
