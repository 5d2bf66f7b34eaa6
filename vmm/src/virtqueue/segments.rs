//! A cursor over scattered pieces of guest memory.

use thiserror::Error;
use vm_memory::VolatileSlice;

/// The chain holds fewer bytes than were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("descriptor chain is too short")]
pub struct ShortChain;

/// Pieces of guest memory that make up one half of a descriptor chain, consumed front to back.
///
/// The guest may change the bytes at any time, so they are only ever copied, never referred to.
#[derive(Debug, Default)]
pub struct Segments<'m> {
    slices: Vec<VolatileSlice<'m>>,
    /// Index in `slices` of the first one that has bytes left.
    first: usize,
    /// Bytes left.
    len: usize,
    /// Scratch of the vectored system calls.
    pub(super) vectors: super::segments_io::Vectors,
}

impl<'m> Segments<'m> {
    /// Bytes left.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no byte is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn segments(&self) -> usize {
        self.slices.len()
    }

    pub(super) fn clear(&mut self) {
        self.slices.clear();
        self.first = 0;
        self.len = 0;
    }

    pub(super) fn push(&mut self, slice: VolatileSlice<'m>) {
        self.len = self.len.saturating_add(slice.len());
        self.slices.push(slice);
    }

    /// The pieces that hold the next `limit` bytes.
    pub(super) fn front(&self, limit: usize) -> impl Iterator<Item = VolatileSlice<'m>> {
        let mut left = limit.min(self.len);
        self.slices.iter().skip(self.first).map_while(move |slice| {
            let take = left.min(slice.len());
            left -= take;
            slice.subslice(0, take).ok().filter(|piece| !piece.is_empty())
        })
    }

    /// Skips `count` bytes, or all that is left.
    pub fn consume(&mut self, count: usize) {
        let mut left = count.min(self.len);
        self.len -= left;
        while let Some(slice) = self.slices.get_mut(self.first) {
            if let Ok(rest) = slice.offset(left)
                && !rest.is_empty()
            {
                *slice = rest;
                return;
            }
            left = left.saturating_sub(slice.len());
            self.first += 1;
        }
    }

    /// Copies the next bytes out of guest memory and consumes them.
    ///
    /// # Errors
    /// When fewer are left than `buffer` holds; then nothing is consumed.
    pub fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ShortChain> {
        if buffer.len() > self.len {
            return Err(ShortChain);
        }
        let mut rest = &mut *buffer;
        for slice in self.front(rest.len()) {
            let (now, later) = rest.split_at_mut(slice.len());
            slice.copy_to(now);
            rest = later;
        }
        self.consume(buffer.len());
        Ok(())
    }

    /// Copies `bytes` into guest memory and consumes their place.
    ///
    /// # Errors
    /// When fewer bytes are left than that; then nothing is written.
    pub fn write_all(&mut self, bytes: &[u8]) -> Result<(), ShortChain> {
        if bytes.len() > self.len {
            return Err(ShortChain);
        }
        let mut rest = bytes;
        for slice in self.front(rest.len()) {
            let (now, later) = rest.split_at(slice.len());
            slice.copy_from(now);
            rest = later;
        }
        self.consume(bytes.len());
        Ok(())
    }

    /// Writes `count` zeroes.
    ///
    /// # Errors
    /// When fewer bytes are left than that; then nothing is written.
    pub fn write_zeroes(&mut self, count: usize) -> Result<(), ShortChain> {
        const ZEROES: [u8; 4096] = [0; 4096];
        if count > self.len {
            return Err(ShortChain);
        }
        let mut left = count;
        while left > 0 {
            let now = left.min(ZEROES.len());
            self.write_all(ZEROES.get(..now).unwrap_or_default())?;
            left -= now;
        }
        Ok(())
    }

    /// Moves the first `count` bytes to `front`, which loses what it held.
    ///
    /// # Errors
    /// When fewer are left than that; then `front` is empty.
    pub fn split_front(&mut self, count: usize, front: &mut Self) -> Result<(), ShortChain> {
        front.clear();
        if count > self.len {
            return Err(ShortChain);
        }
        for slice in self.front(count) {
            front.push(slice);
        }
        self.consume(count);
        Ok(())
    }

    /// Takes the last byte off, where a device puts its verdict.
    pub fn split_last(&mut self) -> Option<ByteSlot<'m>> {
        let last = self.slices.get_mut(self.first..)?.last_mut()?;
        let (rest, byte) = last.split_at(last.len().checked_sub(1)?).ok()?;
        *last = rest;
        self.len = self.len.saturating_sub(1);
        Some(ByteSlot(byte))
    }
}

/// One byte of guest memory, to be written later.
#[derive(Debug)]
pub struct ByteSlot<'m>(VolatileSlice<'m>);

impl ByteSlot<'_> {
    /// Writes the byte.
    pub fn write(self, value: u8) {
        self.0.copy_from(&[value]);
    }
}
