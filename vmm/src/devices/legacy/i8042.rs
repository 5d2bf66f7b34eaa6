//! The keyboard controller, of which only the reset line is left.
//!
//! With `reboot=k` Linux pulls it (command 0xfe at port 0x64) to restart, and that ends the VM.

use std::convert::Infallible;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use vm_superio::{I8042Device, Trigger};

use crate::devices::BusDevice;

/// Ports 0x60 to 0x64. Everything but the reset command is swallowed and reads as zero, which
/// says "ready" to a driver that polls the status.
#[derive(Debug)]
pub struct I8042 {
    device: Mutex<I8042Device<ResetLine>>,
}

impl I8042 {
    /// Calls `on_reset` on the vCPU thread each time the guest pulls the line; it need not return.
    pub fn new(on_reset: impl Fn() + Send + 'static) -> Self {
        Self { device: Mutex::new(I8042Device::new(ResetLine(Box::new(on_reset)))) }
    }
}

impl BusDevice for I8042 {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let ([byte], Ok(offset)) = (data, u8::try_from(offset)) {
            *byte = self.device.lock().unwrap_or_else(PoisonError::into_inner).read(offset);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let (&[byte], Ok(offset)) = (data, u8::try_from(offset)) {
            let mut device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
            let Ok(()) = device.write(offset, byte);
        }
    }
}

struct ResetLine(Box<dyn Fn() + Send>);

impl Trigger for ResetLine {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        (self.0)();
        Ok(())
    }
}

impl fmt::Debug for ResetLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResetLine")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn only_the_reset_command_pulls_the_line() {
        let (sender, resets) = mpsc::channel();
        let device = I8042::new(move || sender.send(()).unwrap());
        device.write(4, &[0xd1]);
        device.write(0, &[0xfe]);
        device.write(4, &[0xfe, 0xfe]);
        device.write(u64::MAX, &[0xfe]);
        assert!(resets.try_recv().is_err());
        device.write(4, &[0xfe]);
        assert!(resets.try_recv().is_ok());
    }

    #[test]
    fn status_reads_as_ready_at_any_width() {
        let device = I8042::new(|| ());
        for width in [1, 2, 4] {
            let mut data = vec![0xff; width];
            device.read(4, &mut data);
            assert_eq!(data, vec![0; width]);
        }
    }
}
