//! Where a generation is in the log: recorded next to it, so that nobody reads the generation to know.

use serde::{Deserialize, Serialize};

use super::error::BucketError;
use super::handle::Bucket;
use crate::index::{StoreError, generation_name, seal, unseal};

/// The version of the fields.
const VERSION: u32 = 1;
/// The longest object of sealed JSON.
const MAX_BYTES: u64 = 1 << 20;

/// Where a generation is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The version of these fields: 1.
    pub format_version: u32,
    /// The generation.
    pub generation: u64,
    /// The number of its videos.
    pub videos: u64,
    /// The last write that it contains.
    pub log_sequence: u64,
    /// The last entry of the log before those that it needs.
    pub held_after: u64,
}

impl Position {
    /// Records where a generation is in the log.
    pub(super) fn record(self, bucket: &Bucket) -> Result<(), BucketError> {
        bucket.create(&position_name(self.generation), &seal("position", &self)).map(drop)
    }

    pub(super) fn new(generation: u64, videos: u64, log_sequence: u64, held_after: u64) -> Self {
        Self { format_version: VERSION, generation, videos, log_sequence, held_after }
    }

    pub(super) fn read(bucket: &Bucket, generation: u64) -> Result<Self, BucketError> {
        let name = position_name(generation);
        let position: Self = read_sealed(bucket, &name, "position")?;
        if (position.format_version, position.generation) == (VERSION, generation) {
            return Ok(position);
        }
        let problem = format!(
            "expected version {VERSION} about {}, found version {} about generation {}",
            generation_name(generation),
            position.format_version,
            position.generation
        );
        Err(BucketError::Damaged { url: bucket.url_of(&name), problem })
    }
}

fn position_name(generation: u64) -> String {
    format!("position-{generation:08}.json")
}

/// Reads an object of sealed JSON.
pub(super) fn read_sealed<T>(bucket: &Bucket, name: &str, key: &'static str) -> Result<T, BucketError>
where
    T: Serialize + serde::de::DeserializeOwned,
{
    let url = bucket.url_of(name);
    let bytes = bucket.read_up_to(name, MAX_BYTES)?;
    let bytes = bytes.ok_or_else(|| BucketError::Missing { url: url.clone() })?;
    let bad = |problem: String| StoreError::BadManifest { path: url.clone().into(), problem };
    unseal(&bytes, key, bad).map_err(|error| match error {
        StoreError::BadManifest { problem, .. } => BucketError::Damaged { url, problem },
        other => other.into(),
    })
}
