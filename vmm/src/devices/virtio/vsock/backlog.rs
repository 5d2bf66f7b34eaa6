//! Bytes of the guest that its host program has not taken yet.

use crate::virtqueue::{Segments, ShortChain};
use rustix::net::{SendFlags, send};
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;

/// A queue of bytes. Its owner bounds it, by credit; empty, it holds no memory.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    bytes: VecDeque<u8>,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends the next `count` bytes of `packet`.
    pub(super) fn append(
        &mut self,
        packet: &mut Segments<'_>,
        count: usize,
    ) -> Result<(), ShortChain> {
        let mut piece = [0; 4096];
        let mut left = count;
        while left > 0 {
            let now = left.min(piece.len());
            let piece = piece.get_mut(..now).unwrap_or_default();
            packet.read_exact(piece)?;
            self.bytes.extend(&*piece);
            left -= now;
        }
        Ok(())
    }

    /// Writes to `socket` until all is written or the socket is full; returns how much was.
    ///
    /// # Errors
    /// When the other end does not read any more. What is left then is worthless.
    pub(super) fn flush(&mut self, socket: impl AsFd) -> io::Result<usize> {
        let mut written = 0;
        loop {
            let (front, _) = self.bytes.as_slices();
            if front.is_empty() {
                self.bytes = VecDeque::new();
                return Ok(written);
            }
            match send(&socket, front, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => {
                    self.bytes.drain(..count);
                    written += count;
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(written),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) -> usize {
        std::mem::take(&mut self.bytes).len()
    }
}
