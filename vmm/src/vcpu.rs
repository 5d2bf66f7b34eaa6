//! A vCPU: runs the guest until it ends, and turns what KVM reports into accesses on the buses or
//! into a [`VmExit`].
//!
//! One thread a vCPU. Halts, interrupts, timers and notifications of virtio devices are served in
//! the kernel and do not come here.

use std::sync::Arc;

use kvm_bindings::{
    KVM_EXIT_INTERNAL_ERROR, KVM_INTERNAL_ERROR_EMULATION,
    KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES,
};
use kvm_ioctls::{VcpuExit, VcpuFd};

use crate::brake::{Passed, Seat};
use crate::bus::Bus;
use crate::exit::VmExit;

/// RIP after a reset: KVM resets an AMD vCPU that shut down, whose own state is then unknown.
const RESET_RIP: u64 = 0xfff0;

/// What the guest can reach by ports and by memory accesses.
#[derive(Debug, Default)]
pub(crate) struct Buses {
    pub(crate) ports: Bus,
    pub(crate) mmio: Bus,
}

/// A vCPU with its state set.
#[derive(Debug)]
pub(crate) struct Vcpu {
    pub(crate) id: u8,
    pub(crate) fd: VcpuFd,
    pub(crate) buses: Arc<Buses>,
    pub(crate) seat: Seat,
}

impl Vcpu {
    /// Runs the guest until it ends.
    pub(crate) fn run(&mut self) -> VmExit {
        loop {
            if self.seat.pass() == Passed::AfterPause {
                // Else the guest's watchdogs take the time for a lock-up of their own. A guest
                // without KVM's clock has none to be told, and that is all that can go wrong.
                let _ = self.fd.kvmclock_ctrl();
            }
            if let Some(end) = self.run_once() {
                return self.describe(end);
            }
        }
    }

    /// Runs the guest up to its next exit, and serves that; returns why the guest cannot go on.
    fn run_once(&mut self) -> Option<End> {
        match self.fd.run() {
            Ok(VcpuExit::IoOut(port, data)) => self.buses.ports.write(port.into(), data),
            Ok(VcpuExit::IoIn(port, data)) => self.buses.ports.read(port.into(), data),
            Ok(VcpuExit::MmioWrite(address, data)) => self.buses.mmio.write(address, data),
            Ok(VcpuExit::MmioRead(address, data)) => self.buses.mmio.read(address, data),
            Ok(VcpuExit::Intr) => self.seat.charge(),
            Ok(VcpuExit::Shutdown) => return Some(End::TripleFault),
            Ok(VcpuExit::InternalError) => return Some(End::InternalError),
            Ok(VcpuExit::FailEntry(reason, cpu)) => return Some(End::FailEntry { reason, cpu }),
            Ok(VcpuExit::SystemEvent(kind, _)) => return Some(End::SystemEvent { kind }),
            Ok(VcpuExit::MemoryFault { gpa, .. }) => return Some(End::MemoryFault { gpa }),
            Ok(_) => return Some(End::Unknown),
            Err(error) if error.errno() == libc::EINTR => self.seat.charge(),
            // A vCPU that still waits for its start-up interrupt was woken by something else. The
            // first vCPU never waits for one: KVM could not start its worker thread.
            Err(error) if error.errno() == libc::EAGAIN && self.id > 0 => {}
            Err(error) => return Some(End::RunFailed { errno: error.errno() }),
        }
        None
    }

    fn describe(&mut self, end: End) -> VmExit {
        let vcpu = self.id;
        let rip = self.fd.get_regs().ok().map(|regs| regs.rip);
        match end {
            End::TripleFault => {
                VmExit::TripleFault { vcpu, rip: rip.filter(|rip| *rip != RESET_RIP) }
            }
            End::InternalError => {
                let (suberror, instruction) = self.internal_error();
                VmExit::InternalError { vcpu, suberror, rip, instruction }
            }
            End::FailEntry { reason, cpu } => {
                VmExit::FailEntry { vcpu, reason, host_cpu: cpu, rip }
            }
            End::SystemEvent { kind } => VmExit::SystemEvent { vcpu, kind },
            End::MemoryFault { gpa } => VmExit::MemoryFault { vcpu, gpa, rip },
            End::Unknown => {
                VmExit::UnknownExit { vcpu, reason: self.fd.get_kvm_run().exit_reason, rip }
            }
            End::RunFailed { errno } => VmExit::RunFailed { vcpu, errno, rip },
        }
    }

    /// Suberror and, where KVM gives them, the bytes of the instruction it stumbled over.
    fn internal_error(&mut self) -> (u32, Vec<u8>) {
        let run = self.fd.get_kvm_run();
        if run.exit_reason != KVM_EXIT_INTERNAL_ERROR {
            return (0, Vec::new());
        }
        // SAFETY: the exit reason says that KVM filled in `internal`; all of its fields are integers
        // that hold any bits.
        let internal = unsafe { run.__bindgen_anon_1.internal };
        let used = usize::try_from(internal.ndata).unwrap_or_default();
        let data = internal.data.get(..used).unwrap_or_default();
        (internal.suberror, instruction_bytes(internal.suberror, data))
    }
}

/// Why the guest cannot go on, before what the vCPU's registers add to it.
#[derive(Clone, Copy, Debug)]
enum End {
    TripleFault,
    InternalError,
    FailEntry { reason: u64, cpu: u32 },
    SystemEvent { kind: u32 },
    MemoryFault { gpa: u64 },
    Unknown,
    RunFailed { errno: i32 },
}

/// The instruction in the data of an internal error: flags, then a byte of length and up to 15
/// bytes of instruction (`emulation_failure` in Documentation/virt/kvm/api.rst).
fn instruction_bytes(suberror: u32, data: &[u64]) -> Vec<u8> {
    let has_bytes: u64 = KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES.into();
    match data {
        [flags, words @ ..]
            if suberror == KVM_INTERNAL_ERROR_EMULATION && flags & has_bytes != 0 =>
        {
            let mut bytes = words.iter().flat_map(|word| word.to_le_bytes()).take(16);
            let length = bytes.next().unwrap_or_default();
            bytes.take(length.into()).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instruction_bytes_are_as_many_as_kvm_says() {
        let data = [1, 0x0000_0021_ae0f_4804, 0, 0x1234];
        assert_eq!(instruction_bytes(1, &data), [0x48, 0x0f, 0xae, 0x21]);
    }

    #[test]
    fn a_false_length_gives_at_most_fifteen_bytes() {
        assert_eq!(instruction_bytes(1, &[1, 0xff, 0, 0]).len(), 15);
        assert_eq!(instruction_bytes(1, &[1]), []);
    }

    #[test]
    fn other_errors_have_no_instruction() {
        assert_eq!(instruction_bytes(3, &[1, 0x01, 0]), []);
        assert_eq!(instruction_bytes(1, &[0, 0x01, 0]), []);
        assert_eq!(instruction_bytes(1, &[]), []);
    }
}
