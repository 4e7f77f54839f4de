//! Reads pieces of known size from the bytes of a bitmap.

use super::error::BitmapError;

/// The bytes that are still to be read, and their offset in the bitmap.
pub(super) struct Input<'a> {
    pub(super) rest: &'a [u8],
    pub(super) at: usize,
}

impl<'a> Input<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, at: 0 }
    }

    pub(super) fn array<const BYTES: usize>(&mut self) -> Result<&'a [u8; BYTES], BitmapError> {
        let Some((array, rest)) = self.rest.split_first_chunk() else {
            return Err(self.truncated(BYTES));
        };
        self.rest = rest;
        self.at += BYTES;
        Ok(array)
    }

    pub(super) fn bytes(&mut self, count: usize) -> Result<&'a [u8], BitmapError> {
        let Some((bytes, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.truncated(count));
        };
        self.rest = rest;
        self.at += count;
        Ok(bytes)
    }

    pub(super) fn chunks<const BYTES: usize>(
        &mut self,
        count: usize,
    ) -> Result<&'a [[u8; BYTES]], BitmapError> {
        Ok(self.bytes(count * BYTES)?.as_chunks().0)
    }

    fn truncated(&self, expected: usize) -> BitmapError {
        BitmapError::Truncated { at: self.at, expected, found: self.rest.len() }
    }
}
