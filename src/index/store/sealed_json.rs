//! Create-once JSON files with a checksum of their contents.
//!
//! What flows in: a value and its key. What flows out: a file `{"key": value, "crc32c": checksum}`, or the value read
//! from one, or their bytes. Nothing here knows what the value means.

use std::io::Write;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::error::StoreError;
use crate::base::regular_file;
use crate::base::staged_file::StagedFile;

/// Limits the size of a file before it is read.
pub(super) const MAX_BYTES: u64 = 1 << 20;
/// The key of the checksum.
const CHECKSUM: &str = "crc32c";

struct Sealed<'a, T> {
    key: &'static str,
    contents: &'a T,
    /// Checksum of the compact JSON of `contents`.
    crc32c: u32,
}

impl<T: Serialize> Serialize for Sealed<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry(self.key, self.contents)?;
        map.serialize_entry(CHECKSUM, &self.crc32c)?;
        map.end()
    }
}

/// Creates the file at `path`. Returns false if the name is taken.
///
/// `contents` must not have fractions: the checksum is that of the JSON, and is computed again from the parsed value,
/// so every number must survive the round trip.
pub(super) fn create<T: Serialize>(path: &Path, key: &'static str, contents: &T) -> Result<bool, StoreError> {
    let write = || -> std::io::Result<bool> {
        let mut staged = StagedFile::create_for(path)?;
        staged.write_all(&encode(key, contents))?;
        Ok(staged.publish(path)?.is_ok())
    };
    write().map_err(StoreError::io(path))
}

/// Returns the bytes of a file. `contents` must not have fractions: the checksum is computed again from the parsed value.
///
/// # Panics
/// If a map in it has keys that are not strings.
pub fn encode<T: Serialize>(key: &'static str, contents: &T) -> Vec<u8> {
    let sealed = Sealed { key, contents, crc32c: crc32c::crc32c(&compact_json(contents)) };
    let mut bytes = serde_json::to_vec_pretty(&sealed).expect("the contents have only string map keys");
    bytes.push(b'\n');
    bytes
}

/// Reads the file at `path`. `bad` turns the description of a defect into an error.
pub(super) fn read<T: Serialize + DeserializeOwned>(
    path: &Path,
    key: &'static str,
    bad: impl Fn(String) -> StoreError,
) -> Result<T, StoreError> {
    let bytes = regular_file::read_up_to(path, MAX_BYTES).map_err(StoreError::io(path))?;
    let too_long = |length| bad(format!("expected at most {MAX_BYTES} bytes, found {length}"));
    let bytes = bytes.map_err(too_long)?;
    decode(&bytes, key, bad)
}

/// Returns the contents of the bytes of a file. `bad` turns the description of a defect into an error.
///
/// # Errors
/// If the bytes are no such file, or damaged.
pub fn decode<T: Serialize + DeserializeOwned, E>(
    bytes: &[u8],
    key: &'static str,
    bad: impl Fn(String) -> E,
) -> Result<T, E> {
    let malformed = |error: serde_json::Error| bad(error.to_string());
    let mut fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(bytes).map_err(malformed)?;
    let mut take = |name: &str| fields.remove(name).ok_or_else(|| bad(format!("field {name:?} is missing")));
    let (contents, checksum) = (take(key)?, take(CHECKSUM)?);
    if let Some(name) = fields.keys().next() {
        return Err(bad(format!("unknown field {name:?}: expected {key:?} and {CHECKSUM:?}")));
    }
    let contents: T = serde_json::from_value(contents).map_err(malformed)?;
    let expected: u32 = serde_json::from_value(checksum).map_err(malformed)?;
    let found = crc32c::crc32c(&compact_json(&contents));
    if found != expected {
        return Err(bad(format!("damaged: expected crc32c {expected:08x}, found {found:08x}")));
    }
    Ok(contents)
}

fn compact_json(contents: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(contents).expect("the contents have only string map keys")
}
