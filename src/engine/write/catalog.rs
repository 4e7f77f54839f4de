//! Checks and writes batches of mutations; looks up single videos.

use std::collections::BTreeMap;

use crate::attributes::Value;
use crate::base::id::VideoId;
use crate::base::instant::Instant;
use crate::dataset::ID_COLUMN;
use crate::engine::error::EngineError;
use crate::engine::field::Field;
use crate::engine::query::answer_size::AnswerSize;
use crate::engine::query::budget::Budget;
use crate::engine::query::request::ReturnAttributes;
use crate::engine::query::snapshot::{Snapshot, attributes as named_values, vector};
use crate::engine::write::log::WriteLog;
use crate::engine::write::shared::Shared;
use crate::live::delta::fits::{Misfit, check_upsert};
use crate::live::{Append, Appended, LogError, Mutation, Upsert};

/// How a batch with invalid mutations is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteMode {
    /// Nothing is written.
    #[default]
    AllOrNothing,
    /// The valid ones are written.
    EachAlone,
}

/// The result of writing a batch of mutations.
#[derive(Debug)]
pub struct Written {
    /// The sequence number of the last mutation written, or of the last write before if none was: a search with this
    /// `min_sequence` sees the batch.
    pub sequence: u64,
    /// How many were written.
    pub written: usize,
    /// The position in the batch of each mutation that was not written, and why.
    pub refused: Vec<(usize, EngineError)>,
    /// The append to the log that wrote them; `None` if none was written.
    pub append: Option<Append>,
}

/// One video as it can be found by searches.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredVideo {
    /// The video.
    pub video_id: VideoId,
    /// Its id as text, if the index has text ids.
    pub text_id: Option<String>,
    /// `[dim]`, if requested.
    pub vector: Option<Vec<f32>>,
    /// The requested attributes that have a value, by name.
    pub attributes: Vec<(String, Value)>,
    /// When it stops being a candidate.
    pub expires_at: Option<Instant>,
}

/// The state of one video.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup {
    /// It can be a candidate.
    Found(StoredVideo),
    /// It was taken down, and not restored.
    TakenDown(VideoId),
    /// It is not in the index.
    Unknown(VideoId),
}

/// The index that a batch is written to.
pub(crate) struct Target<'a> {
    pub(crate) name: &'a str,
    pub(crate) log: &'a WriteLog,
    pub(crate) snapshot: &'a Snapshot,
}

impl Target<'_> {
    /// Checks `mutations` and writes them in their order. Returns once they are on disk and visible to searches.
    ///
    /// # Errors
    /// [`EngineError::ReadOnly`] or [`EngineError::Unconfirmed`]; then nothing is acknowledged.
    pub(crate) fn write(&self, mutations: Vec<Mutation>, mode: WriteMode) -> Result<Written, EngineError> {
        let mut refused = Vec::new();
        let mut valid = Vec::with_capacity(mutations.len());
        let mut texts = BTreeMap::new();
        for (position, mut mutation) in mutations.into_iter().enumerate() {
            // An upsert without a model is of the current model, also for a later generation of another one.
            if let Mutation::Upsert(upsert) = &mut mutation
                && upsert.embedding_model.is_none()
            {
                upsert.embedding_model.clone_from(&self.snapshot.index.metadata().embedding_model);
            }
            match self.check(&mutation).and_then(|()| self.check_text_id(&mutation, &mut texts)) {
                Ok(()) => valid.push(mutation),
                Err(error) => refused.push((position, error)),
            }
        }
        if mode == WriteMode::AllOrNothing && !refused.is_empty() {
            valid.clear();
        }
        let written = valid.len();
        let Appended { sequence, append } = match written {
            0 => Appended { sequence: self.snapshot.sequence, append: None },
            _ => self.log.write(valid).map_err(|error| match error {
                LogError::Unconfirmed { .. } => {
                    EngineError::Unconfirmed { index: self.name.to_owned(), problem: error.to_string() }
                }
                error => read_only(self.name, error.to_string()),
            })?,
        };
        Ok(Written { sequence, written, refused, append })
    }

    /// The position of the first mutation that would be refused, and why.
    pub(crate) fn first_refused(&self, mutations: &[Mutation]) -> Option<(usize, EngineError)> {
        let mut texts = BTreeMap::new();
        let mut check = |mutation: &Mutation| {
            self.check(mutation).and_then(|()| self.check_text_id(mutation, &mut texts)).err()
        };
        mutations.iter().enumerate().find_map(|(position, mutation)| Some((position, check(mutation)?)))
    }

    /// Checks that the id of an upsert is text if and only if those of the index are, and that no other text has the same
    /// id. `texts`: the ids that the batch had before.
    fn check_text_id(
        &self,
        mutation: &Mutation,
        texts: &mut BTreeMap<VideoId, String>,
    ) -> Result<(), EngineError> {
        let Mutation::Upsert(Upsert { video_id, attributes, .. }) = mutation else { return Ok(()) };
        if !self.snapshot.has_text_ids() {
            return Ok(());
        }
        let text = attributes.iter().find(|(name, _)| name == ID_COLUMN).map(|(_, value)| value);
        let text = match text {
            Some(Value::Keyword(text)) if VideoId::of_text(text) == *video_id => text,
            _ => {
                let problem = "expected the id as text, since the ids of the index are text, found a number";
                return Err(EngineError::invalid(Field::TextId, problem));
            }
        };
        let stored = self.snapshot.segments.node_of(*video_id).and_then(|node| {
            let (segment, node) = self.snapshot.segments.locate(node);
            self.snapshot.text_id(&segment.index, node)
        });
        let other = stored.as_ref().or_else(|| texts.get(video_id)).filter(|other| *other != text);
        if let Some(other) = other {
            let problem = format!(
                "expected another id than {text:?}: its 64 bits of SHA-256 are those of {other:?}, which the index has"
            );
            return Err(EngineError::invalid(Field::TextId, problem));
        }
        texts.insert(*video_id, text.clone());
        Ok(())
    }

    /// Checks that the current generation accepts a mutation.
    fn check(&self, mutation: &Mutation) -> Result<(), EngineError> {
        let Mutation::Upsert(upsert) = mutation else { return Ok(()) };
        let facts = self.snapshot.index.metadata();
        check_upsert(upsert, &self.snapshot.index).map_err(|misfit| match misfit {
            Misfit::EmbeddingModel => EngineError::EmbeddingModel {
                index: self.name.to_owned(),
                expected: facts.embedding_model.clone(),
                found: upsert.embedding_model.clone().unwrap_or_default(),
            },
            Misfit::Embedding(error) => EngineError::invalid(Field::Vector, error.to_string()),
            Misfit::Attributes(error) => {
                let field = error.attribute().map(str::to_owned).map_or(Field::Attributes, Field::Attribute);
                EngineError::invalid(field, error.to_string())
            }
        })
    }
}

pub(crate) fn read_only(index: &str, problem: String) -> EngineError {
    EngineError::ReadOnly { index: index.to_owned(), problem }
}

/// Looks up videos, in their order.
///
/// # Errors
/// If an attribute to return is unknown, or the budget ends.
pub(crate) fn look_up(
    snapshot: &Snapshot,
    shared: &Shared,
    videos: &[VideoId],
    attributes: &ReturnAttributes,
    with_vectors: bool,
    budget: &Budget,
) -> Result<Vec<Lookup>, EngineError> {
    let columns = snapshot.columns(attributes)?;
    let mut size = AnswerSize::new(budget, !columns.is_empty(), with_vectors);
    size.add_items(videos.len(), if with_vectors { snapshot.index.dim() } else { 0 })?;
    let mut look_up = |video: &VideoId| match snapshot.segments.node_of(*video) {
        Some(node) => {
            let (segment, node) = snapshot.segments.locate(node);
            let expires_at = segment.index.expiries().map(|times| times[node.index()]);
            let expires_at = expires_at.filter(|time| *time != i64::MAX);
            let text_id = snapshot.text_id(&segment.index, node);
            size.add_text(text_id.as_deref())?;
            let attributes = named_values(&segment.index, node, &columns);
            size.add_values(&attributes)?;
            Ok(Lookup::Found(StoredVideo {
                video_id: *video,
                text_id,
                vector: with_vectors.then(|| vector(&segment.index, node)),
                attributes,
                expires_at: expires_at.and_then(|time| Instant::from_microsecond(time).ok()),
            }))
        }
        None if shared.is_taken_down(*video) => Ok(Lookup::TakenDown(*video)),
        None => Ok(Lookup::Unknown(*video)),
    };
    videos.iter().map(&mut look_up).collect()
}
