//! The manifests of a bucket, and the numbers of its objects.

use std::collections::BTreeSet;
use std::path::Path;

use super::error::BucketError;
use super::handle::Bucket;
use crate::index::{MANIFEST_NAME, Manifest, StoreError, manifest_name, number_in};

/// Returns the numbers of the manifests among the names of objects.
pub(super) fn manifest_numbers(names: &[String]) -> BTreeSet<u64> {
    names.iter().filter_map(|name| number_in(name, MANIFEST_NAME.0, MANIFEST_NAME.1)).collect()
}

/// Reads a manifest.
///
/// # Errors
/// If there is none, it is damaged, or the bucket cannot be read.
pub(super) fn read_manifest(bucket: &Bucket, number: u64) -> Result<Manifest, BucketError> {
    let name = manifest_name(number);
    let url = bucket.url_of(&name);
    let bytes = bucket.read_up_to(&name, Manifest::MAX_BYTES)?;
    let bytes = bytes.ok_or_else(|| BucketError::Missing { url: url.clone() })?;
    Manifest::from_bytes(&bytes, number, Path::new(&url)).map_err(|error| match error {
        StoreError::BadManifest { problem, .. } => BucketError::Damaged { url, problem },
        other => other.into(),
    })
}

/// Returns the number after the largest among the objects that are named in one of these ways.
pub(super) fn next_number(names: &[String], kinds: &[(&str, &str)]) -> u64 {
    let of = |(prefix, suffix)| names.iter().filter_map(move |name| number_in(name, prefix, suffix)).max();
    kinds.iter().filter_map(|kind| of(*kind)).max().unwrap_or_default().saturating_add(1)
}
