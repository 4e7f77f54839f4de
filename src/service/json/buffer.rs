//! Bytes that are charged to a call while they are written.

use std::io;

use crate::service::bounds::Charge;

/// Why there is no room for further bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// They are more than the limit.
    TooLarge,
    /// The server has no memory for them.
    NoMemory,
}

/// Bytes that are charged to a call.
pub(super) struct Buffer {
    bytes: Vec<u8>,
    charge: Charge,
    max_bytes: usize,
}

impl Buffer {
    /// No bytes yet, and at most `max_bytes`.
    pub(super) fn new(charge: Charge, max_bytes: usize) -> Self {
        Self { bytes: Vec::new(), charge, max_bytes }
    }

    /// Makes room for `more` bytes.
    pub(super) fn reserve(&mut self, more: usize) -> Result<(), Full> {
        let (len, capacity) = (self.bytes.len().saturating_add(more), self.bytes.capacity());
        if len > self.max_bytes {
            return Err(Full::TooLarge);
        }
        if len > capacity {
            let grown = len.max((2 * capacity).min(self.max_bytes));
            if !self.charge.grow(grown - capacity) {
                return Err(Full::NoMemory);
            }
            self.bytes.reserve_exact(grown - self.bytes.len());
        }
        Ok(())
    }

    /// Appends bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<(), Full> {
        self.reserve(bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// The most bytes that it may have.
    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }

    /// The bytes. What is appended to them needs room.
    pub(super) fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Returns the bytes and the charge for them.
    pub(super) fn finish(mut self) -> (Vec<u8>, Charge) {
        self.bytes.shrink_to_fit();
        self.charge.set(self.bytes.len());
        (self.bytes, self.charge)
    }
}

impl io::Write for Buffer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.push(bytes).map_err(|_| io::ErrorKind::OutOfMemory)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
