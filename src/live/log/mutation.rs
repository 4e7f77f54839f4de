//! The changes of a video between two builds.

use crate::attributes::Value;
use crate::base::id::VideoId;
use crate::base::instant::Instant;

/// A change of one video.
#[derive(Clone, Debug, PartialEq)]
pub enum Mutation {
    /// Adds the video or replaces it.
    Upsert(Upsert),
    /// Removes the video until an upsert or a later batch build adds it again.
    Delete(VideoId),
    /// Removes the video until it is restored. Upserts and batch builds do not bring it back.
    Takedown(VideoId),
    /// Ends a takedown: the video is as last upserted, or as in the batch build.
    Restore(VideoId),
}

/// The new state of a video.
#[derive(Clone, Debug, PartialEq)]
pub struct Upsert {
    /// The video.
    pub video_id: VideoId,
    /// `[dim]`, finite.
    pub embedding: Vec<f32>,
    /// By name, at most one value each; attributes that are not listed are null.
    pub attributes: Vec<(String, Value)>,
    /// When it stops being a candidate.
    pub expires_at: Option<Instant>,
    /// The model that made the embedding, if the writer named it.
    pub embedding_model: Option<String>,
}

impl Upsert {
    /// A video with this embedding, `[dim]`, finite, without attributes or an expiry.
    pub fn new(video_id: VideoId, embedding: impl Into<Vec<f32>>) -> Self {
        Self {
            video_id,
            embedding: embedding.into(),
            attributes: Vec::new(),
            expires_at: None,
            embedding_model: None,
        }
    }
}

/// A mutation with its sequence number.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// From 1.
    pub sequence: u64,
    /// The mutation.
    pub mutation: Mutation,
}

impl Mutation {
    /// Returns the video that changes.
    pub fn video_id(&self) -> VideoId {
        match self {
            Mutation::Upsert(upsert) => upsert.video_id,
            Mutation::Delete(video) | Mutation::Takedown(video) | Mutation::Restore(video) => *video,
        }
    }

    /// Returns whether this takes a video down.
    pub fn is_takedown(&self) -> bool {
        matches!(self, Mutation::Takedown(_))
    }
}
