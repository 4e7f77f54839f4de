//! Publishes a generation of a folder to a bucket.
//!
//! ```text
//! claim of the next number ─► generation in parts ─► read back: length and checksum ─► reports ─► manifest, create-once
//! ```
//!
//! No reader sees the generation before its manifest. What is sent is compared with what the bucket then has, byte by byte, by
//! a checksum: an upload may be acknowledged and damaged.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::chunks::{Chunks, KeepGoing};
use super::error::BucketError;
use super::handle::Bucket;
use super::manifests::next_number;
use super::map::Publication;
use super::position::Position;
use crate::index::{GENERATION_NAME, IndexStore, MANIFEST_NAME, Manifest, generation_name, manifest_name};

/// How many numbers are tried if other publishers keep taking the next one.
const ATTEMPTS: usize = 1000;
/// The names of claims, before and after the number.
const CLAIM_NAME: (&str, &str) = ("claim-", "");
/// The smallest part, and a file up to this length is sent as one.
const PART: u64 = 8 << 20;
/// The most parts that stores accept.
const MOST_PARTS: u64 = 10_000;
/// Parts in flight.
const AHEAD: usize = 4;

/// Publishes `generation` of `store` under the next free number of the bucket, with its readable reports. `keep_going` returns
/// false to stop.
///
/// # Errors
/// If the generation cannot be read, or the bucket cannot be written: then no manifest names what was sent. Claimed numbers
/// are not used again.
pub fn publish(
    bucket: &Bucket,
    store: &IndexStore,
    generation: u64,
    keep_going: KeepGoing<'_>,
) -> Result<Manifest, BucketError> {
    publish_if(bucket, store, generation, keep_going, |_| Ok(()))
}

/// The same, unless the newest generation of the bucket contains later writes, which the log may have lost.
///
/// # Errors
/// [`BucketError::Overtaken`], and those of [`publish`].
pub fn publish_newest(
    bucket: &Bucket,
    store: &IndexStore,
    generation: u64,
    keep_going: KeepGoing<'_>,
) -> Result<Manifest, BucketError> {
    publish_if(bucket, store, generation, keep_going, |log_sequence| {
        match Publication::newest(bucket) {
            Ok(Some(Publication { manifest, position })) if position.log_sequence > log_sequence => {
                Err(BucketError::Overtaken {
                    url: bucket.url().to_owned(),
                    log_sequence,
                    generation: manifest.generation,
                    found: position.log_sequence,
                })
            }
            // Generations of earlier releases have no position.
            Ok(_) | Err(BucketError::Missing { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    })
}

/// `check`: whether the manifest may still be created. It gets the log position of the generation.
fn publish_if(
    bucket: &Bucket,
    store: &IndexStore,
    generation: u64,
    keep_going: KeepGoing<'_>,
    check: impl Fn(u64) -> Result<(), BucketError>,
) -> Result<Manifest, BucketError> {
    let index = store.open_generation(generation)?;
    let times = store.build_times(generation)?;
    let number = claim(bucket)?;
    let name = generation_name(number);
    let path = store.generation_path(generation);
    let file = File::open(&path).map_err(BucketError::io(&path))?;
    send_file(bucket, &name, &file, &path, keep_going)?;
    for report in store.portable_reports(generation, &index, number)? {
        send(bucket, &report.name, &report.bytes)?;
    }
    let facts = index.metadata();
    Position::new(number, facts.rows.into(), facts.log_sequence, facts.held_after()).record(bucket)?;
    for _ in 0..ATTEMPTS {
        let next = next_number(&bucket.list()?.0, &[MANIFEST_NAME]);
        // If another manifest comes after this, its number is taken, and the next attempt looks at it.
        check(facts.log_sequence)?;
        let manifest = Manifest::of_build(next, number, index.bytes(), times.clone());
        if bucket.create(&manifest_name(next), &manifest.to_bytes())? {
            return Ok(manifest);
        }
    }
    Err(BucketError::Contended { url: bucket.url().to_owned(), attempts: ATTEMPTS })
}

/// Claims the next number of a generation.
fn claim(bucket: &Bucket) -> Result<u64, BucketError> {
    for _ in 0..ATTEMPTS {
        let number = next_number(&bucket.list()?.0, &[GENERATION_NAME, CLAIM_NAME]);
        if claim_object(bucket, &format!("{}{number:08}", CLAIM_NAME.0))? {
            return Ok(number);
        }
    }
    Err(BucketError::Contended { url: bucket.url().to_owned(), attempts: ATTEMPTS })
}

/// Creates an object whose contents nobody else writes. Returns false if somebody else created it.
pub(super) fn claim_object(bucket: &Bucket, name: &str) -> Result<bool, BucketError> {
    bucket.create(name, format!("{:032x}", rand::random::<u128>()).as_bytes())
}

/// Creates a small object whose name only this publisher uses.
pub(super) fn send(bucket: &Bucket, name: &str, bytes: &[u8]) -> Result<(), BucketError> {
    if bucket.create(name, bytes)? {
        return Ok(());
    }
    let problem = "expected a free name, found an object with other contents".to_owned();
    Err(BucketError::Damaged { url: bucket.url_of(name), problem })
}

/// Sends a file, compares what the bucket then has with it, and returns its length and checksum. `path` is for errors.
pub(super) fn send_file(
    bucket: &Bucket,
    name: &str,
    file: &File,
    path: &Path,
    keep_going: KeepGoing<'_>,
) -> Result<(u64, u32), BucketError> {
    let length = file.metadata().map_err(BucketError::io(path))?.len();
    if bucket.head(name)?.is_some() {
        let problem = "expected a free name, found an object".to_owned();
        return Err(BucketError::Damaged { url: bucket.url_of(name), problem });
    }
    let checksum = if length <= PART {
        let bytes = read_part(file, path, length)?;
        send(bucket, name, &bytes)?;
        crc32c::crc32c(&bytes)
    } else {
        send_parts(bucket, name, file, path, length, keep_going)?
    };
    check_object(bucket, name, length, checksum, keep_going)?;
    Ok((length, checksum))
}

fn send_parts(
    bucket: &Bucket,
    name: &str,
    file: &File,
    path: &Path,
    length: u64,
    keep_going: KeepGoing<'_>,
) -> Result<u32, BucketError> {
    let mut upload = bucket.begin_parts(name).wait()?;
    let part = length.div_ceil(MOST_PARTS).next_multiple_of(1 << 20).max(PART);
    let mut send = || -> Result<u32, BucketError> {
        let (mut checksum, mut sent, mut pending) = (0, 0, VecDeque::new());
        while sent < length || !pending.is_empty() {
            if !keep_going(sent, length) {
                return Err(BucketError::Stopped);
            }
            if sent < length && pending.len() < AHEAD {
                let bytes = read_part(file, path, part.min(length - sent))?;
                checksum = crc32c::crc32c_append(checksum, &bytes);
                sent += bytes.len() as u64;
                pending.push_back(bucket.begin_part(name, &mut *upload, bytes));
            } else if let Some(part) = pending.pop_front() {
                part.wait()?;
            }
        }
        Ok(checksum)
    };
    let sent = send();
    // Without the abort, the store would keep the parts for ever.
    let ended = bucket.end_parts(name, upload, sent.is_ok());
    sent.and_then(|checksum| ended.map(|()| checksum))
}

/// Reads the next `length` bytes, which are at most those of one part.
fn read_part(mut file: &File, path: &Path, length: u64) -> Result<Vec<u8>, BucketError> {
    let mut bytes = vec![0; length as usize];
    file.read_exact(&mut bytes).map_err(BucketError::io(path))?;
    Ok(bytes)
}

/// Reads an object and compares its length and checksum.
fn check_object(
    bucket: &Bucket,
    name: &str,
    length: u64,
    checksum: u32,
    keep_going: KeepGoing<'_>,
) -> Result<(), BucketError> {
    let url = || bucket.url_of(name);
    let object = bucket.head(name)?.ok_or_else(|| BucketError::Missing { url: url() })?;
    if object.bytes != length {
        return Err(BucketError::WrongLength { url: url(), expected: length, found: object.bytes });
    }
    let (mut chunks, mut found) = (Chunks::new(bucket, name, object, 0), 0);
    while let Some(chunk) = chunks.next()? {
        if !keep_going(length, length) {
            return Err(BucketError::Stopped);
        }
        found = crc32c::crc32c_append(found, &chunk);
    }
    if found != checksum {
        let problem = format!("damaged by the upload: expected crc32c {checksum:08x}, found {found:08x}");
        return Err(BucketError::Damaged { url: url(), problem });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_number_is_after_claims_and_generations() {
        let names = ["claim-00000004", "generation-00000002.index", "claim-x", "claim-00000009.json"];
        let names = names.map(str::to_owned);
        assert_eq!(next_number(&names, &[GENERATION_NAME, CLAIM_NAME]), 5);
        assert_eq!(next_number(&names, &[GENERATION_NAME]), 3);
        assert_eq!(next_number(&[], &[GENERATION_NAME]), 1);
    }
}
