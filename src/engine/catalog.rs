//! Writes to an index, and its videos one by one.

use jiff::Timestamp;

use super::Engine;
use super::error::EngineError;
use super::request::ReturnAttributes;
use crate::attributes::Value;
use crate::id::VideoId;
use crate::live::Mutation;

/// What becomes of the sound mutations of a batch of which one is not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteMode {
    /// Nothing is written.
    #[default]
    AllOrNothing,
    /// They are written.
    EachAlone,
}

/// What a batch of mutations came to.
#[derive(Debug)]
pub struct Written {
    /// The last of those written, or where none was, the last write before: a search that asks for this
    /// `min_sequence` sees them.
    pub sequence: u64,
    /// How many were written.
    pub written: usize,
    /// The position of each that was not, and why.
    pub refused: Vec<(usize, EngineError)>,
}

/// One video as searches see it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredVideo {
    /// The video.
    pub video_id: VideoId,
    /// `[dim]`, only if it was asked for.
    pub vector: Option<Vec<f32>>,
    /// The attributes asked for that have a value, by name.
    pub attributes: Vec<(String, Value)>,
    /// From when on it is no candidate any more.
    pub expires_at: Option<Timestamp>,
}

/// What is known of a video.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// It can be a candidate.
    Found(StoredVideo),
    /// It was taken down, and not restored.
    TakenDown(VideoId),
    /// It is not in the index.
    Unknown(VideoId),
}

impl Engine {
    /// Writes `mutations` in their order. Returns once they are on disk and every later search sees them, so it
    /// waits for the disk: not on a thread that others wait for.
    ///
    /// # Errors
    /// [`EngineError::ReadOnly`] if nothing can be written; nothing was, then.
    pub fn write(
        &self,
        index: &str,
        mutations: Vec<Mutation>,
        mode: WriteMode,
    ) -> Result<Written, EngineError> {
        let _ = (mutations, mode);
        let index = self.resolve(index)?.to_owned();
        Err(EngineError::ReadOnly { index, problem: "it has no log".to_owned() })
    }

    /// What is known of some videos, in their order.
    ///
    /// # Errors
    /// If an attribute that is asked for is unknown.
    pub fn get(
        &self,
        index: &str,
        videos: &[VideoId],
        attributes: &ReturnAttributes,
        with_vectors: bool,
    ) -> Result<Vec<Lookup>, EngineError> {
        let _ = (attributes, with_vectors);
        self.resolve(index)?;
        Ok(videos.iter().map(|video| Lookup::Unknown(*video)).collect())
    }
}
