//! Settings of indexes in buckets.

use std::path::PathBuf;

use serde::Deserialize;

/// Settings of indexes in buckets.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// The folder for their generations, each in a folder with the name of the index.
    pub cache: PathBuf,
}
