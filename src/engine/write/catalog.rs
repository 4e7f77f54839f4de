//! Writes to an index, and its videos one by one.

use jiff::Timestamp;

use crate::attributes::Value;
use crate::base::id::VideoId;
use crate::engine::Engine;
use crate::engine::error::EngineError;
use crate::engine::query::request::ReturnAttributes;
use crate::engine::query::snapshot::{attributes as named_values, vector};
use crate::index::Index;
use crate::live::delta::state::is_of_model;
use crate::live::{Mutation, UpsertError, check_attributes, check_embedding};

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
    /// [`EngineError::ReadOnly`] if nothing can be written; nothing is acknowledged, then.
    pub fn write(
        &self,
        index: &str,
        mutations: Vec<Mutation>,
        mode: WriteMode,
    ) -> Result<Written, EngineError> {
        let served = self.served(index)?;
        let read_only = |problem| EngineError::ReadOnly { index: served.name().to_owned(), problem };
        if let Some(problem) = served.writing().read_only() {
            return Err(read_only(problem));
        }
        let snapshot = served.snapshot()?;
        let mut refused = Vec::new();
        let mut sound = Vec::with_capacity(mutations.len());
        for (position, mut mutation) in mutations.into_iter().enumerate() {
            // Whoever names no model means this one, also to a later generation of another.
            if let Mutation::Upsert(upsert) = &mut mutation
                && upsert.embedding_model.is_none()
            {
                upsert.embedding_model.clone_from(&snapshot.index.metadata().embedding_model);
            }
            match check(served.name(), &snapshot.index, &mutation) {
                Ok(()) => sound.push(mutation),
                Err(error) => refused.push((position, error)),
            }
        }
        if mode == WriteMode::AllOrNothing && !refused.is_empty() {
            sound.clear();
        }
        let written = sound.len();
        let sequence = match written {
            0 => snapshot.sequence,
            _ => served.writing().write(sound).map_err(|error| read_only(error.to_string()))?,
        };
        Ok(Written { sequence, written, refused })
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
        let served = self.served(index)?;
        let snapshot = served.snapshot()?;
        let columns = snapshot.columns(attributes)?;
        let look_up = |video: &VideoId| match snapshot.segments.node_of(*video) {
            Some(node) => {
                let (part, node) = snapshot.segments.locate(node);
                let expires_at = part.index.expiries().map(|times| times[node.index()]);
                let expires_at = expires_at.filter(|time| *time != i64::MAX);
                Lookup::Found(StoredVideo {
                    video_id: *video,
                    vector: with_vectors.then(|| vector(&part.index, node)),
                    attributes: named_values(&part.index, node, &columns),
                    expires_at: expires_at.and_then(|time| Timestamp::from_microsecond(time).ok()),
                })
            }
            None if served.shared().is_taken_down(*video) => Lookup::TakenDown(*video),
            None => Lookup::Unknown(*video),
        };
        Ok(videos.iter().map(look_up).collect())
    }
}

/// Whether an index takes a mutation.
fn check(name: &str, base: &Index, mutation: &Mutation) -> Result<(), EngineError> {
    let Mutation::Upsert(upsert) = mutation else { return Ok(()) };
    let facts = base.metadata();
    if !is_of_model(upsert, base) {
        return Err(EngineError::EmbeddingModel {
            index: name.to_owned(),
            expected: facts.embedding_model.clone(),
            found: upsert.embedding_model.clone().unwrap_or_default(),
        });
    }
    let invalid = |field: &str, error: UpsertError| EngineError::invalid(field, error.to_string());
    check_embedding(&upsert.embedding, base.dim(), facts.dtype, facts.metric)
        .map_err(|error| invalid("vector", error))?;
    check_attributes(upsert, &facts.attributes).map_err(|error| invalid("attributes", error))
}
