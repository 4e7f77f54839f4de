//! One object to a file, which goes on where an earlier download was cut.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use rustix::fs::statvfs;

use super::chunks::{Chunks, KeepGoing};
use super::error::BucketError;
use super::handle::Bucket;
use crate::base::regular_file;

/// Free bytes to leave to others, such as the log of the index.
const MARGIN: u64 = 8 << 20;

/// Downloads an object of `expected` bytes to the file at `partial`, which keeps what it has of an earlier download, and syncs
/// it. Returns whether it had a part. `keep_going` returns false to stop.
///
/// The length decides how much is there. The bytes themselves must be checked by the caller: the part may be of another
/// object.
///
/// # Errors
/// If the object has another length or cannot be read, and what arrived stays. [`BucketError::DiskFull`], and nothing stays.
pub(super) fn download(
    bucket: &Bucket,
    name: &str,
    expected: u64,
    partial: &Path,
    keep_going: KeepGoing<'_>,
) -> Result<bool, BucketError> {
    let object = bucket.head(name)?.ok_or_else(|| BucketError::Missing { url: bucket.url_of(name) })?;
    if object.bytes != expected {
        return Err(BucketError::WrongLength { url: bucket.url_of(name), expected, found: object.bytes });
    }
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    let mut file = regular_file::open_with(&mut options, partial).map_err(BucketError::io(partial))?;
    // A file system without locks has none to respect.
    if let Err(TryLockError::WouldBlock) = file.try_lock() {
        return Err(BucketError::InUse { path: partial.to_owned() });
    }
    let mut length = file.metadata().map_err(BucketError::io(partial))?.len();
    if length > expected {
        file.set_len(0).map_err(BucketError::io(partial))?;
        length = 0;
    }
    let had_part = length > 0;
    let needed = (expected - length).saturating_add(MARGIN);
    if let Some(free) = free_bytes(partial).filter(|free| *free < needed) {
        return Err(full(partial, &file, needed, free));
    }
    file.seek(SeekFrom::Start(length)).map_err(BucketError::io(partial))?;
    let mut chunks = Chunks::new(bucket, name, object, length);
    while let Some(chunk) = chunks.next()? {
        if !keep_going(length, expected) {
            return Err(BucketError::Stopped);
        }
        let written = file.write_all(&chunk);
        written.map_err(|error| failed(partial, &file, error, (expected - length).saturating_add(MARGIN)))?;
        length += chunk.len() as u64;
    }
    file.sync_all().map_err(|error| failed(partial, &file, error, MARGIN))?;
    Ok(had_part)
}

fn failed(partial: &Path, file: &File, error: io::Error, needed: u64) -> BucketError {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return full(partial, file, needed, free_bytes(partial).unwrap_or_default());
    }
    BucketError::io(partial)(error)
}

/// Gives the room of the part back, which the log of the index may need.
fn full(partial: &Path, file: &File, needed: u64, free: u64) -> BucketError {
    let _ = file.set_len(0);
    BucketError::DiskFull { path: partial.to_owned(), needed, free }
}

/// Returns how many bytes are free on the disk of a file, if it says so.
fn free_bytes(path: &Path) -> Option<u64> {
    let disk = statvfs(path.parent()?).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}
