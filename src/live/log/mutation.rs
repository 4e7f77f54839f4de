//! What can happen to a video between two builds.

use jiff::Timestamp;

use crate::attributes::Value;
use crate::base::id::VideoId;

/// A change of one video.
#[derive(Clone, Debug, PartialEq)]
pub enum Mutation {
    /// It is there from now on, or replaces what it was.
    Upsert(Upsert),
    /// It is gone, until an upsert or a later batch file brings it back.
    Delete(VideoId),
    /// It is gone and stays so, whatever upserts or batch files say, until it is restored.
    Takedown(VideoId),
    /// It may be there again: as it was last upserted, or as the batch file has it.
    Restore(VideoId),
}

/// A video as it is from now on.
#[derive(Clone, Debug, PartialEq)]
pub struct Upsert {
    /// The video.
    pub video_id: VideoId,
    /// `[dim]`, finite.
    pub embedding: Vec<f32>,
    /// By name, at most one value each; what is not named is null.
    pub attributes: Vec<(String, Value)>,
    /// From when on it is no candidate any more.
    pub expires_at: Option<Timestamp>,
    /// The model that made the embedding, if the writer said.
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

/// A mutation in the order of all.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// From 1, without gaps.
    pub sequence: u64,
    /// What happened.
    pub mutation: Mutation,
}

impl Mutation {
    /// The video that it is about.
    pub fn video_id(&self) -> VideoId {
        match self {
            Mutation::Upsert(upsert) => upsert.video_id,
            Mutation::Delete(video) | Mutation::Takedown(video) | Mutation::Restore(video) => *video,
        }
    }
}
