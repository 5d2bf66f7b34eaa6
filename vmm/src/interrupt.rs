//! Interrupt lines into the guest: eventfds that KVM turns into edges on a pin of its IOAPIC.

use kvm_ioctls::VmFd;
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

use crate::devices::virtio::Interrupt;

/// One line.
#[derive(Debug)]
pub(crate) struct IrqLine(EventFd);

impl IrqLine {
    /// Connects a new line to pin `gsi`.
    pub(crate) fn new(vm: &VmFd, gsi: u8) -> std::io::Result<Self> {
        let event = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        vm.register_irqfd(&event, gsi.into())?;
        Ok(Self(event))
    }
}

impl Interrupt for IrqLine {
    fn trigger(&self) {
        // KVM takes each count at once; the write could only fail on a full counter, and then an
        // edge is on its way already.
        let _ = self.0.write(1);
    }
}
