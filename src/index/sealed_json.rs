//! JSON files that are created once, whole, and carry a checksum of what they say.
//!
//! What flows in: a value and the word for it. What flows out: `{"word": value, "crc32c": checksum}`, or
//! the value again. Nothing here knows what the value means.

use std::fs;
use std::io::Write;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::error::StoreError;
use crate::base::staged_file::StagedFile;

const MAX_BYTES: u64 = 1 << 20;
const CHECKSUM: &str = "crc32c";

struct Sealed<'a, T> {
    word: &'static str,
    contents: &'a T,
    /// Of the compact JSON of `contents`.
    crc32c: u32,
}

impl<T: Serialize> Serialize for Sealed<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry(self.word, self.contents)?;
        map.serialize_entry(CHECKSUM, &self.crc32c)?;
        map.end()
    }
}

/// Creates the file at `path`. False if the name was taken already.
///
/// Checksums are those of the JSON, so a number in `contents` must come back from it as it was: no fractions.
pub(super) fn create<T: Serialize>(
    path: &Path,
    word: &'static str,
    contents: &T,
) -> Result<bool, StoreError> {
    let sealed = Sealed { word, contents, crc32c: crc32c::crc32c(&compact_json(contents)) };
    let write = || -> std::io::Result<bool> {
        let mut staged = StagedFile::beside(path)?;
        serde_json::to_writer_pretty(&mut staged, &sealed)?;
        staged.write_all(b"\n")?;
        Ok(staged.publish(path)?.is_ok())
    };
    write().map_err(StoreError::io(path))
}

/// Reads the file at `path`; `bad` makes an error of what is wrong with it.
pub(super) fn read<T: Serialize + DeserializeOwned>(
    path: &Path,
    word: &'static str,
    bad: impl Fn(String) -> StoreError,
) -> Result<T, StoreError> {
    let length = fs::metadata(path).map_err(StoreError::io(path))?.len();
    if length > MAX_BYTES {
        return Err(bad(format!("expected at most {MAX_BYTES} bytes, found {length}")));
    }
    let bytes = fs::read(path).map_err(StoreError::io(path))?;
    let malformed = |error: serde_json::Error| bad(error.to_string());
    let mut fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&bytes).map_err(malformed)?;
    let mut take = |name: &str| fields.remove(name).ok_or_else(|| bad(format!("field {name:?} is missing")));
    let (contents, checksum) = (take(word)?, take(CHECKSUM)?);
    if let Some(name) = fields.keys().next() {
        return Err(bad(format!("unknown field {name:?}: expected {word:?} and {CHECKSUM:?}")));
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
    serde_json::to_vec(contents).expect("the contents have no map keys that JSON could not hold")
}
