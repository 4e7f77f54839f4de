//! One object as chunks in order, of which some are requested ahead of the reader.

use std::collections::VecDeque;

use bytes::Bytes;

use super::error::BucketError;
use super::handle::{Bucket, Object, Pending};

/// Called with the bytes of a file that are done and those in all; returns false to stop.
pub type KeepGoing<'a> = &'a dyn Fn(u64, u64) -> bool;

/// Bytes of one request.
const CHUNK: u64 = 8 << 20;
/// Requests in flight.
const AHEAD: usize = 4;

/// The bytes of an object from an offset to its end.
pub(super) struct Chunks<'a> {
    bucket: &'a Bucket,
    name: &'a str,
    object: Object,
    /// The start of the next chunk to request.
    next: u64,
    pending: VecDeque<(u64, Pending<Bytes>)>,
}

impl<'a> Chunks<'a> {
    /// Begins to read `object` from byte `start`.
    pub(super) fn new(bucket: &'a Bucket, name: &'a str, object: Object, start: u64) -> Self {
        Self { bucket, name, object, next: start, pending: VecDeque::new() }
    }

    /// Returns the next chunk, or `None` at the end.
    ///
    /// # Errors
    /// If it cannot be read, or is shorter than the object.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, BucketError> {
        while self.pending.len() < AHEAD && self.next < self.object.bytes {
            let length = CHUNK.min(self.object.bytes - self.next);
            let range = self.next..self.next + length;
            self.next += length;
            let pending = self.bucket.begin_range(self.name, range, self.object.e_tag.clone());
            self.pending.push_back((length, pending));
        }
        let Some((expected, pending)) = self.pending.pop_front() else { return Ok(None) };
        let bytes = pending.wait()?;
        let found = bytes.len() as u64;
        if found != expected {
            // The connection was cut, or the object was replaced by a shorter one.
            let problem = format!("expected a chunk of {expected} bytes, found {found}");
            return Err(BucketError::Unreachable { url: self.bucket.url_of(self.name), problem });
        }
        Ok(Some(bytes))
    }
}
