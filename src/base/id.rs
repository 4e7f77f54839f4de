//! The two kinds of identifier, without implicit conversion between them.

use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The id of a video in the catalog: any `u64`, chosen by the caller.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable, Serialize, Deserialize,
)]
#[repr(transparent)]
#[serde(transparent)]
pub struct VideoId(pub u64);

impl VideoId {
    /// The id of a video that is identified by text: the first 8 bytes of the SHA-256 of the text, little-endian.
    pub fn of_text(text: &str) -> Self {
        let digest = Sha256::digest(text);
        Self(u64::from_le_bytes(*digest.first_chunk().expect("a digest has 32 bytes")))
    }
}

/// The largest sequence number of a write, in every file. A file with a larger one is refused, so that no addition overflows.
pub const MAX_SEQUENCE: u64 = 1 << 62;

/// The position of a video in one index generation: `0..rows`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Pod, Zeroable)]
#[repr(transparent)]
pub struct NodeId(pub u32);

impl NodeId {
    /// The largest number of videos in one index generation: the candidate list uses the top bit of a node id, and the
    /// largest `u32` marks an unused edge slot.
    pub const MAX_NODES: usize = i32::MAX as usize;

    /// The node id as an index into per-node arrays.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl std::fmt::Display for VideoId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
