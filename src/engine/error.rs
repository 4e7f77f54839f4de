//! Why a request has no answer.

use std::path::PathBuf;

use crate::base::id::VideoId;
use crate::index::StoreError;
use crate::live::LogError;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A field of the request has a value that cannot be used.
    #[error("{field}: {problem}")]
    InvalidArgument {
        /// The path of the field, as in the proto.
        field: String,
        /// What is wrong, with expected and found.
        problem: String,
    },
    /// No index of that name is served.
    #[error("unknown index {name:?}: this server has {available:?}")]
    UnknownIndex {
        /// The name asked for.
        name: String,
        /// The names there are.
        available: Vec<String>,
    },
    /// None of the videos that were to seed the query is in the index.
    #[error("video {video} is not in index {index:?}")]
    UnknownVideo {
        /// The index.
        index: String,
        /// The first of the videos.
        video: VideoId,
    },
    /// What the index served was found damaged, and there is nothing else in its folder to serve.
    #[error("index {index:?} is out of service: {problem}")]
    OutOfService {
        /// The index.
        index: String,
        /// What is wrong with the generation that was served.
        problem: String,
    },
    /// The video that is asked about is not in the index.
    #[error("video {video} is not in index {index:?}")]
    NotInIndex {
        /// The index.
        index: String,
        /// The video.
        video: VideoId,
    },
    /// The generation cannot be filtered.
    #[error("filter: generation {generation} of index {index:?}: {problem}")]
    NotFilterable {
        /// The index.
        index: String,
        /// The generation that would answer.
        generation: u64,
        /// What it lacks.
        problem: String,
    },
    /// The embedding comes from another model than the index.
    #[error(
        "embedding_model: index {index:?} holds embeddings of {expected:?}, the request was made with {found:?}"
    )]
    EmbeddingModel {
        /// The index.
        index: String,
        /// The model of the index; `None` if its build was not told.
        expected: Option<String>,
        /// The model of the request.
        found: String,
    },
    /// A recall was asked for, and nobody measured any.
    #[error(
        "params.target_recall: index {index:?} is not calibrated: what recall generation {generation} reaches was \
         not measured; run `shortlist tune --index {}`, or ask for ef_search",
        dir.display()
    )]
    NotCalibrated {
        /// The index.
        index: String,
        /// The generation that would answer.
        generation: u64,
        /// Its folder.
        dir: PathBuf,
    },
    /// A recall was asked for, and nobody measured any for so many candidates.
    #[error(
        "params.target_recall: generation {generation} of index {index:?} is calibrated up to k = {largest}, the \
         request is for {k}"
    )]
    KNotCalibrated {
        /// The index.
        index: String,
        /// The generation that would answer.
        generation: u64,
        /// How many candidates are to be searched for, seeds included.
        k: usize,
        /// The largest k that was measured.
        largest: usize,
    },
    /// More recall was asked for than any effort measured that the server allows.
    #[error(
        "params.target_recall: the best recall measured for k = {k} on generation {generation} of index {index:?}, \
         with the effort that this server allows, is {}, the request is for {target}; an exact search finds all",
        floor(*best)
    )]
    RecallUnreachable {
        /// The index.
        index: String,
        /// The generation that would answer.
        generation: u64,
        /// How many candidates are to be searched for, seeds included.
        k: usize,
        /// The recall asked for.
        target: f64,
        /// The best that was measured.
        best: f64,
    },
    /// Nothing can be written to the index; searches go on.
    #[error("index {index:?} is read-only: {problem}")]
    ReadOnly {
        /// The index.
        index: String,
        /// Why.
        problem: String,
    },
    /// What was written cannot be searched beside the generation.
    #[error("what was written since the build cannot be searched: {problem}")]
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
    /// A search asks for writes that this server has not seen.
    #[error("min_sequence: index {index:?} knows of writes up to {found}, the request asks for {expected}")]
    NotYetWritten {
        /// The index.
        index: String,
        /// As asked for.
        expected: u64,
        /// The last write.
        found: u64,
    },
    /// The caller is gone.
    #[error("the caller cancelled the request")]
    Cancelled,
    /// The caller's deadline came first.
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
    pub(crate) fn invalid(field: impl Into<String>, problem: impl Into<String>) -> Self {
        EngineError::InvalidArgument { field: field.into(), problem: problem.into() }
    }

    /// The path of the field of the request that is at fault, as in the proto, where the message begins with it and a
    /// colon.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::InvalidArgument { field, .. } => Some(field),
            Self::NotFilterable { .. } => Some("filter"),
            Self::EmbeddingModel { .. } => Some("embedding_model"),
            Self::NotCalibrated { .. } | Self::KNotCalibrated { .. } | Self::RecallUnreachable { .. } => {
                Some("params.target_recall")
            }
            Self::NotYetWritten { .. } => Some("min_sequence"),
            _ => None,
        }
    }
}

/// To four digits, not rounded up: what it says can be asked for.
fn floor(recall: f64) -> f64 {
    (recall * 1e4).floor() / 1e4
}
