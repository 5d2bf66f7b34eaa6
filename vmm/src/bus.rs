//! Routes port and memory accesses of the guest to devices.
//!
//! Built once, then only read: vCPU threads share it without a lock; a device locks itself. What no
//! device claims reads as ones and swallows writes, as on a PC.

use std::sync::Arc;

use thiserror::Error;

use crate::devices::BusDevice;

/// A device was to be put where another one is.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("bus range {base:#x}+{length:#x} is taken or beyond the address space")]
pub struct BusError {
    base: u64,
    length: u64,
}

/// Devices by their ranges of ports or of guest physical addresses.
#[derive(Debug, Default)]
pub(crate) struct Bus {
    /// Sorted by base, not overlapping.
    ranges: Vec<Range>,
}

#[derive(Debug)]
struct Range {
    base: u64,
    length: u64,
    device: Arc<dyn BusDevice>,
}

impl Bus {
    /// Gives `device` the `length` addresses from `base` on.
    pub(crate) fn insert(
        &mut self,
        base: u64,
        length: u64,
        device: Arc<dyn BusDevice>,
    ) -> Result<(), BusError> {
        let fault = BusError { base, length };
        let end = base.checked_add(length).ok_or(BusError { base, length })?;
        let index = self.ranges.partition_point(|range| range.base < base);
        let overlaps_next = self.ranges.get(index).is_some_and(|next| next.base < end);
        let overlaps_previous = index
            .checked_sub(1)
            .and_then(|previous| self.ranges.get(previous))
            .is_some_and(|previous| previous.base + previous.length > base);
        if length == 0 || overlaps_next || overlaps_previous {
            return Err(fault);
        }
        self.ranges.insert(index, Range { base, length, device });
        Ok(())
    }

    /// Answers a read of `data.len()` bytes at `address`.
    pub(crate) fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address, data.len()) {
            Some((device, offset)) => device.read(offset, data),
            None => data.fill(0xff),
        }
    }

    /// Carries out a write of `data` at `address`.
    pub(crate) fn write(&self, address: u64, data: &[u8]) {
        if let Some((device, offset)) = self.find(address, data.len()) {
            device.write(offset, data);
        }
    }

    /// The device that owns all of the access, and the offset in its range.
    fn find(&self, address: u64, length: usize) -> Option<(&dyn BusDevice, u64)> {
        let index = self.ranges.partition_point(|range| range.base <= address).checked_sub(1)?;
        let range = self.ranges.get(index)?;
        let offset = address.checked_sub(range.base)?;
        let end = offset.checked_add(u64::try_from(length).ok()?)?;
        (end <= range.length).then_some((&*range.device, offset))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Remembers writes; reads as the offset.
    #[derive(Debug, Default)]
    struct Recorder(Mutex<Vec<(u64, Vec<u8>)>>);

    impl BusDevice for Recorder {
        fn read(&self, offset: u64, data: &mut [u8]) {
            data.fill(u8::try_from(offset).unwrap());
        }

        fn write(&self, offset: u64, data: &[u8]) {
            self.0.lock().unwrap().push((offset, data.to_vec()));
        }
    }

    fn bus_with_recorders() -> (Bus, [Arc<Recorder>; 2]) {
        let devices = [Arc::new(Recorder::default()), Arc::new(Recorder::default())];
        let mut bus = Bus::default();
        bus.insert(0x2000, 0x10, devices[1].clone()).unwrap();
        bus.insert(0x1000, 0x10, devices[0].clone()).unwrap();
        (bus, devices)
    }

    #[test]
    fn accesses_reach_their_device_with_the_offset() {
        let (bus, devices) = bus_with_recorders();
        bus.write(0x1008, &[1, 2]);
        let mut data = [0; 4];
        bus.read(0x200c, &mut data);
        assert_eq!(data, [0xc; 4]);
        assert_eq!(*devices[0].0.lock().unwrap(), [(8, vec![1, 2])]);
        assert!(devices[1].0.lock().unwrap().is_empty());
    }

    #[test]
    fn an_access_across_the_end_of_a_device_reaches_nobody() {
        let (bus, devices) = bus_with_recorders();
        let mut data = [0; 4];
        bus.read(0x100e, &mut data);
        assert_eq!(data, [0xff; 4]);
        bus.write(0x100e, &[0; 4]);
        bus.write(u64::MAX, &[0; 4]);
        assert!(devices[0].0.lock().unwrap().is_empty());
    }

    #[test]
    fn unclaimed_addresses_read_as_ones() {
        let (bus, _) = bus_with_recorders();
        for address in [0, 0xfff, 0x1010, 0x2010, u64::MAX] {
            let mut data = [0; 1];
            bus.read(address, &mut data);
            assert_eq!(data, [0xff]);
        }
    }

    #[test]
    fn overlapping_and_empty_ranges_are_refused() {
        let (mut bus, _) = bus_with_recorders();
        for (base, length) in [(0x100f, 1), (0xfff, 2), (0x1000, 0x1001), (0, 0), (u64::MAX, 2)] {
            let device = Arc::new(Recorder::default());
            assert_eq!(bus.insert(base, length, device), Err(BusError { base, length }));
        }
    }
}
