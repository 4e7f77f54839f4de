//! The errors of an engine.

use std::path::PathBuf;

use crate::base::id::VideoId;
use crate::engine::field::Field;
use crate::index::{RefusalReason, StoreError};
use crate::live::LogError;

/// Why an engine cannot be opened, or a request or write failed.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A field of the request has an invalid value.
    #[error("{field}: {problem}")]
    InvalidArgument {
        /// Which field.
        field: Field,
        /// What is wrong, with expected and found.
        problem: String,
    },
    /// No index of that name is served.
    #[error("unknown index {name:?}: this server has {available:?}")]
    UnknownIndex {
        /// The requested name.
        name: String,
        /// The names of all indexes.
        available: Vec<String>,
    },
    /// None of the seeds of the query is in the index.
    #[error("video {video} is not in index {index:?}")]
    UnknownVideo {
        /// The index.
        index: String,
        /// The first seed.
        video: VideoId,
    },
    /// The current generation is damaged, and no other can be served; or another server writes.
    #[error("index {index:?} is out of service: {problem}")]
    OutOfService {
        /// The index.
        index: String,
        /// Why the index must not answer.
        problem: String,
    },
    /// The generations of the index are built elsewhere.
    #[error(
        "index {index:?} is not built here: its generations come from {location}; `shortlist build --out {location}` adds one"
    )]
    BuiltElsewhere {
        /// The index.
        index: String,
        /// The bucket.
        location: String,
    },
    /// The video to explain is not in the index.
    #[error("video {video} is not in index {index:?}")]
    NotInIndex {
        /// The index.
        index: String,
        /// The video.
        video: VideoId,
    },
    /// The generation cannot be filtered.
    #[error("generation {generation} of index {index:?}: {problem}")]
    NotFilterable {
        /// The index.
        index: String,
        /// The generation that would answer.
        generation: u64,
        /// What the filter needs.
        problem: String,
    },
    /// The embedding comes from another model than the index.
    #[error("index {index:?} holds embeddings of {}, the request was made with {found:?}", model(expected.as_deref()))]
    EmbeddingModel {
        /// The index.
        index: String,
        /// The model of the index; `None` if it was built without a name.
        expected: Option<String>,
        /// The model of the request.
        found: String,
    },
    /// The request has a target recall, but the generation is not calibrated.
    #[error("index {index:?} is not calibrated: the recall of generation {generation} was not measured")]
    NotCalibrated {
        /// The index.
        index: String,
        /// The generation that would answer.
        generation: u64,
        /// Its folder.
        dir: PathBuf,
    },
    /// The request has a target recall, but the calibration does not cover its k.
    #[error(
        "generation {generation} of index {index:?} is calibrated up to k = {largest}, the \
         request is for {k}"
    )]
    KNotCalibrated {
        /// The index.
        index: String,
        /// The generation that would answer.
        generation: u64,
        /// Number of candidates to search for, seeds included.
        k: usize,
        /// The largest k that was measured.
        largest: usize,
    },
    /// No measured effort that the server allows reaches the target recall.
    #[error(
        "the best recall measured for k = {k} on generation {generation} of index {index:?}, \
         with the effort that this server allows, is {}, the request is for {target}; an exact search finds all",
        floor(*best)
    )]
    RecallUnreachable {
        /// The index.
        index: String,
        /// The generation that would answer.
        generation: u64,
        /// Number of candidates to search for, seeds included.
        k: usize,
        /// The target recall.
        target: f64,
        /// The best measured recall.
        best: f64,
    },
    /// The index does not accept writes; searches continue.
    #[error("index {index:?} is read-only: {problem}")]
    ReadOnly {
        /// The index.
        index: String,
        /// Why.
        problem: String,
    },
    /// The log of the index did not confirm a write in time. It may be written; the same write can be sent again.
    #[error("index {index:?}: {problem}")]
    Unconfirmed {
        /// The index.
        index: String,
        /// Why.
        problem: String,
    },
    /// Too many activations of the index wait for each other.
    #[error("index {index:?}: {waiting} activations are running or waiting already")]
    Busy {
        /// The index.
        index: String,
        /// How many.
        waiting: usize,
    },
    /// No delta segment can be built from writes in the log.
    #[error("writes since the build cannot be searched: {problem}")]
    Unsearchable {
        /// Why.
        problem: String,
    },
    /// A thread could not be started.
    #[error("cannot start a thread: {0}")]
    NoThread(std::io::Error),
    /// The log of an index cannot be used.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The `min_sequence` of the request is above the last write that this server has.
    #[error("index {index:?} knows of writes up to {found}, the request asks for {expected}")]
    NotYetWritten {
        /// The index.
        index: String,
        /// The sequence number of the request.
        expected: u64,
        /// The sequence number of the last write.
        found: u64,
    },
    /// The generation of the pages before does not serve any more.
    #[error(
        "the pages before are of generation {expected} of index {index:?}, now {found} serves: begin with the first page"
    )]
    OtherGeneration {
        /// The index.
        index: String,
        /// The generation of the request.
        expected: u64,
        /// The generation that serves.
        found: u64,
    },
    /// The answer would be larger than the server sends.
    #[error(
        "the answer would have more than the {limit} bytes that this server sends: ask for fewer candidates, videos or \
         attributes at a time"
    )]
    AnswerTooLarge {
        /// The field that makes the answer large.
        field: Field,
        /// The largest number of bytes.
        limit: usize,
    },
    /// There is no memory left for the answer at the moment.
    #[error("the answers that are being sent take all the memory that this server has for answers")]
    NoRoom,
    /// The caller cancelled the request.
    #[error("the caller cancelled the request")]
    Cancelled,
    /// The deadline passed before the search was done.
    #[error("the deadline passed before the search was done")]
    DeadlineExceeded,
    /// The compute threads could not be started.
    #[error("cannot start the search threads: {0}")]
    Threads(rayon::ThreadPoolBuildError),
    /// A generation or its folder cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl EngineError {
    pub(crate) fn invalid(field: Field, problem: impl Into<String>) -> Self {
        EngineError::InvalidArgument { field, problem: problem.into() }
    }

    /// Returns the field that the caller has to change, if the error is about a field.
    pub fn field(&self) -> Option<Field> {
        match self {
            Self::InvalidArgument { field, .. } => Some(field.clone()),
            Self::NotFilterable { .. } => Some(Field::Filter { path: String::new() }),
            Self::EmbeddingModel { .. } => Some(Field::EmbeddingModel),
            Self::NotCalibrated { .. } | Self::KNotCalibrated { .. } | Self::RecallUnreachable { .. } => {
                Some(Field::TargetRecall)
            }
            Self::NotYetWritten { .. } => Some(Field::MinSequence),
            Self::OtherGeneration { .. } => Some(Field::PageToken),
            Self::AnswerTooLarge { field, .. } => Some(field.clone()),
            _ => None,
        }
    }

    /// Returns why a publication is not served, in a word each, if this is the error of it.
    pub fn refusal_reasons(&self) -> Vec<RefusalReason> {
        match self {
            Self::Store(StoreError::NotServable { reasons, .. }) => reasons.clone(),
            Self::InvalidArgument { field: Field::GateQueryFiles, .. } => vec![RefusalReason::Measurement],
            _ => vec![RefusalReason::Other],
        }
    }

    /// Returns whether the cause may end without a change of the files of the index.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Log(error) => error.may_end(),
            Self::ReadOnly { .. } | Self::Unconfirmed { .. } | Self::NoThread(_) => true,
            Self::Store(error) => error.is_transient(),
            _ => false,
        }
    }

    /// Returns the message without the name of the field.
    pub fn problem(&self) -> String {
        match self {
            Self::InvalidArgument { problem, .. } => problem.clone(),
            other => other.to_string(),
        }
    }
}

/// Names the model of an index.
fn model(name: Option<&str>) -> String {
    name.map_or_else(|| "a model without a name".to_owned(), |name| format!("{name:?}"))
}

/// Rounds down to four digits, so that a request with the printed recall succeeds.
fn floor(recall: f64) -> f64 {
    (recall * 1e4).floor() / 1e4
}
