//! Moving bytes between descriptors and guest memory without a copy in between.
//!
//! The one place where the addresses of guest memory are handed to the host kernel. Each call moves
//! at most what one system call moves and consumes exactly that much; callers loop.

use super::Segments;
use rustix::mm::Advice;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What the host gives and takes memory in, in bytes.
const PAGE_SIZE: usize = 4096;

/// An `iovec` array kept from call to call. It holds stale addresses between calls, which nobody
/// reads.
#[derive(Default)]
pub(super) struct Vectors(Vec<libc::iovec>);

impl std::fmt::Debug for Vectors {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Vectors")
    }
}

impl Segments<'_> {
    /// `preadv(2)` of at most `limit` bytes at byte `offset` of `file`; 0 at its end.
    ///
    /// # Errors
    /// Those of the system call; nothing is consumed then.
    pub fn read_from(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        limit: usize,
    ) -> io::Result<usize> {
        let offset = file_offset(offset)?;
        self.transfer(limit, |vectors| {
            let count = vector_count(vectors)?;
            // SAFETY: `transfer` passes vectors of mapped guest memory that live until it returns.
            // The guest seeing or racing the bytes is what guest memory is for; no Rust reference
            // to them exists.
            Ok(unsafe { libc::preadv(file.as_raw_fd(), vectors.as_ptr(), count, offset) })
        })
    }

    /// `pwritev(2)` of at most `limit` bytes to byte `offset` of `file`.
    ///
    /// # Errors
    /// Those of the system call; nothing is consumed then.
    pub fn write_to(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        limit: usize,
    ) -> io::Result<usize> {
        let offset = file_offset(offset)?;
        self.transfer(limit, |vectors| {
            let count = vector_count(vectors)?;
            // SAFETY: as in `read_from`; the kernel only reads the memory.
            Ok(unsafe { libc::pwritev(file.as_raw_fd(), vectors.as_ptr(), count, offset) })
        })
    }

    /// `recvmsg(2)` of at most `limit` bytes, never waiting; 0 at the end of the stream.
    ///
    /// # Errors
    /// Those of the system call (`WouldBlock` when nothing is there); nothing is consumed then.
    pub fn receive_from(&mut self, socket: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        self.transfer(limit, |vectors| {
            let mut message = message_over(vectors);
            // SAFETY: `message` points to `vectors`, for which the same holds as in `read_from`;
            // it has neither a name nor room for control data, so descriptors that a peer passes
            // are closed by the kernel.
            Ok(unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT) })
        })
    }

    /// `sendmsg(2)` of at most `limit` bytes, never waiting and without `SIGPIPE`.
    ///
    /// # Errors
    /// Those of the system call (`WouldBlock` when the socket is full); nothing is consumed then.
    pub fn send_to(&mut self, socket: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        self.transfer(limit, |vectors| {
            let message = message_over(vectors);
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            // SAFETY: as in `receive_from`; the kernel only reads the memory.
            Ok(unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) })
        })
    }

    /// Gives the whole pages among what is left back to the host: `madvise(2)` with
    /// `MADV_DONTNEED`. They read as zeroes afterwards; what fills no page stays as it is.
    ///
    /// # Errors
    /// Those of the system call; what comes after is not given back then.
    pub fn discard(&self) -> io::Result<()> {
        for slice in self.front(self.len()) {
            let guard = slice.ptr_guard_mut();
            let before = guard.as_ptr().align_offset(PAGE_SIZE);
            let length = slice.len().saturating_sub(before) / PAGE_SIZE * PAGE_SIZE;
            if length > 0 {
                // SAFETY: `before + length` is at most the slice's length, so these are pages of
                // guest memory, which stays mapped, private and anonymous as it is. That their
                // bytes change under whoever looks is what guest memory is for; no Rust reference
                // to them exists.
                unsafe {
                    let start = guard.as_ptr().add(before).cast();
                    rustix::mm::madvise(start, length, Advice::LinuxDontNeed)?;
                }
            }
        }
        Ok(())
    }

    /// Runs `call` on vectors over the next `limit` bytes, again when a signal interrupts it, and
    /// consumes what it says it moved. Without a byte to move `call` does not run.
    fn transfer(
        &mut self,
        limit: usize,
        call: impl Fn(&mut [libc::iovec]) -> io::Result<isize>,
    ) -> io::Result<usize> {
        let mut vectors = std::mem::take(&mut self.vectors);
        vectors.0.clear();
        // The guards keep foreign mappings in place; for these plain ones they are the address.
        vectors.0.extend(self.front(limit).map(|slice| libc::iovec {
            iov_base: slice.ptr_guard_mut().as_ptr().cast(),
            iov_len: slice.len(),
        }));
        let result = loop {
            if vectors.0.is_empty() {
                break Ok(0);
            }
            match call(&mut vectors.0) {
                Ok(moved) => match usize::try_from(moved) {
                    Ok(moved) => break Ok(moved),
                    Err(_) => {
                        let error = io::Error::last_os_error();
                        if error.kind() != io::ErrorKind::Interrupted {
                            break Err(error);
                        }
                    }
                },
                Err(error) => break Err(error),
            }
        };
        self.vectors = vectors;
        self.consume(*result.as_ref().unwrap_or(&0));
        result
    }
}

fn file_offset(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

fn vector_count(vectors: &[libc::iovec]) -> io::Result<libc::c_int> {
    libc::c_int::try_from(vectors.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

fn message_over(vectors: &mut [libc::iovec]) -> libc::msghdr {
    // SAFETY: an all-zero `msghdr` is a valid one: no name, no vectors, no control data.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = vectors.as_mut_ptr();
    message.msg_iovlen = vectors.len();
    message
}
