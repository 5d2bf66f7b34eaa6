//! A 16550 UART whose output is for a guest that panics.
//!
//! Output is collected into lines and each written with one call; what the host side does not take
//! at once is dropped, so a guest that floods it, or a reader that does not read, holds up nothing.
//! The first line that a Linux kernel prints when it panics is remembered: it tells why a guest
//! ended. There is no input.

use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use vm_superio::Trigger;
use vm_superio::serial::NoEvents;

use crate::devices::BusDevice;
use crate::devices::virtio::Interrupt;

/// Longest line that is kept together, in bytes.
const MAX_LINE: usize = 512;
/// What Linux prints first of all when it panics.
const PANIC: &str = "Kernel panic - not syncing: ";

/// COM1: eight ports.
#[derive(Debug)]
pub struct Serial {
    uart: Mutex<Uart>,
}

type Uart = vm_superio::Serial<IrqLine, NoEvents, Lines>;

impl Serial {
    /// Writes the guest's output to `output`, which is made non-blocking.
    ///
    /// # Errors
    /// When the descriptor's flags cannot be changed.
    pub fn new(irq: Arc<dyn Interrupt>, output: OwnedFd) -> io::Result<Self> {
        fcntl_setfl(&output, fcntl_getfl(&output)? | OFlags::NONBLOCK)?;
        let lines =
            Lines { output: output.into(), line: Vec::with_capacity(MAX_LINE), panic: None };
        Ok(Self { uart: Mutex::new(Uart::new(IrqLine(irq), lines)) })
    }

    /// Writes out an unfinished line, and tells what the guest's kernel said when it panicked.
    pub fn finish(&self) -> Option<String> {
        let mut uart = self.lock();
        let lines = uart.writer_mut();
        lines.end_line();
        lines.panic.take()
    }

    fn lock(&self) -> MutexGuard<'_, Uart> {
        self.uart.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BusDevice for Serial {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let ([byte], Ok(offset)) = (data, u8::try_from(offset)) {
            *byte = self.lock().read(offset);
        }
    }

    fn write(&self, offset: u64, data: &[u8]) {
        if let (&[byte], Ok(offset)) = (data, u8::try_from(offset)) {
            // Neither the lines nor the interrupt can fail; a full loopback FIFO loses its byte.
            let _ = self.lock().write(offset, byte);
        }
    }
}

/// The UART's interrupt.
#[derive(Debug)]
struct IrqLine(Arc<dyn Interrupt>);

impl Trigger for IrqLine {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.trigger();
        Ok(())
    }
}

/// Collects bytes into lines.
#[derive(Debug)]
struct Lines {
    output: File,
    line: Vec<u8>,
    /// The guest's words at its first panic.
    panic: Option<String>,
}

impl Lines {
    fn end_line(&mut self) {
        if self.panic.is_none() {
            self.panic = panic_message(&self.line);
        }
        // A full pipe or a reader that is gone loses the line.
        let _ = self.output.write(&self.line);
        self.line.clear();
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for &byte in bytes {
            self.line.push(byte);
            if byte == b'\n' || self.line.len() == MAX_LINE {
                self.end_line();
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The reason in a line that starts a panic, without what could trouble a terminal.
fn panic_message(line: &[u8]) -> Option<String> {
    let line = String::from_utf8_lossy(line);
    let (_, message) = line.split_once(PANIC)?;
    let printable = |c: &char| c.is_ascii_graphic() || *c == ' ';
    Some(message.trim_end().chars().filter(printable).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[derive(Debug)]
    struct NoIrq;

    impl Interrupt for NoIrq {
        fn trigger(&self) {}
    }

    fn serial() -> (Serial, io::PipeReader) {
        let (reader, writer) = io::pipe().unwrap();
        (Serial::new(Arc::new(NoIrq), writer.into()).unwrap(), reader)
    }

    fn print(serial: &Serial, text: &str) {
        text.bytes().for_each(|byte| serial.write(0, &[byte]));
    }

    fn read_all(serial: Serial, mut reader: io::PipeReader) -> String {
        drop(serial);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn output_arrives_byte_for_byte() {
        let (serial, reader) = serial();
        print(&serial, "one\r\ntwo\r\nthr");
        assert_eq!(serial.finish(), None);
        assert_eq!(read_all(serial, reader), "one\r\ntwo\r\nthr");
    }

    #[test]
    fn the_first_panic_is_remembered_without_control_characters() {
        let (serial, _reader) = serial();
        print(&serial, "hello\r\nKernel panic - not syncing: no \x1b[31minit\r\n");
        print(&serial, "---[ end Kernel panic - not syncing: other ]---\r\n");
        assert_eq!(serial.finish().unwrap(), "no [31minit");
    }

    #[test]
    fn output_that_nobody_reads_is_dropped_and_never_blocks() {
        let (serial, reader) = serial();
        let line = "x".repeat(99) + "\n";
        (0..10_000).for_each(|_| print(&serial, &line));
        let text = read_all(serial, reader);
        assert!(text.len() >= 4096 && text.len() < 1_000_000);
    }

    #[test]
    fn a_line_without_end_is_written_in_pieces() {
        let (serial, reader) = serial();
        print(&serial, &"y".repeat(MAX_LINE + 1));
        assert_eq!(serial.finish(), None);
        assert_eq!(read_all(serial, reader).len(), MAX_LINE + 1);
    }

    #[test]
    fn wide_and_far_accesses_are_ignored() {
        let (serial, reader) = serial();
        serial.write(0, b"ab");
        serial.write(1 << 40, b"a");
        let mut data = [0xff; 2];
        serial.read(5, &mut data);
        assert_eq!(data, [0; 2]);
        assert_eq!(read_all(serial, reader), "");
    }
}
