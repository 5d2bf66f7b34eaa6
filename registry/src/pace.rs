//! A body that has to keep coming: too few bytes in too long a time are a stall (threats.md row 18).

use std::io::{self, Read};
use std::time::{Duration, Instant};

use crate::retry::Patience;

/// Reads a body; fails with `TimedOut` where it comes too slowly. Only time spent waiting for it
/// counts: whoever reads may be slow.
pub(crate) struct Paced<R> {
    inner: R,
    patience: Patience,
    /// Of the window that is being measured.
    waited: Duration,
    bytes: u64,
}

impl<R: Read> Paced<R> {
    pub(crate) fn new(inner: R, patience: Patience) -> Self {
        Self { inner, patience, waited: Duration::ZERO, bytes: 0 }
    }
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let start = Instant::now();
        let count = self.inner.read(buf)?;
        self.waited += start.elapsed();
        self.bytes += count as u64;
        if self.waited >= self.patience.stall && count > 0 {
            if self.bytes < self.patience.least {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it comes too slowly"));
            }
            (self.waited, self.bytes) = (Duration::ZERO, 0);
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    struct Slow(Duration);

    impl Read for Slow {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            thread::sleep(self.0);
            buf.fill(0);
            Ok(buf.len())
        }
    }

    #[test]
    fn row18_a_drip_is_a_stall_and_a_slow_reader_is_not() {
        let stall = Duration::from_millis(100);
        let patience = Patience { stall, least: 50, ..Patience::DEFAULT };
        let mut drip = Paced::new(Slow(Duration::from_millis(15)), patience);
        let failed = (0..20).find_map(|_| drip.read(&mut [0]).err());
        assert_eq!(failed.unwrap().kind(), io::ErrorKind::TimedOut);
        let mut stream = Paced::new(Slow(Duration::from_millis(15)), patience);
        assert!((0..20).all(|_| stream.read(&mut [0; 100]).is_ok()));
        let mut stream = Paced::new(Slow(Duration::ZERO), patience);
        for _ in 0..3 {
            assert!(stream.read(&mut [0]).is_ok());
            thread::sleep(stall);
        }
    }
}
