//! The fields that errors of the engine name.

use std::fmt;

use crate::rules::ExcludeField;

/// A field of a request, of a write, or of the options of an engine.
///
/// Positions count from 0. A field displays as its name in this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Field {
    /// The name of the index.
    Index,
    /// The number of candidates to return.
    K,
    /// The number of candidates to skip.
    Offset,
    /// `k`, offset and effort together.
    Params,
    /// [`Effort::EfSearch`](crate::engine::Effort::EfSearch).
    EfSearch,
    /// [`Effort::TargetRecall`](crate::engine::Effort::TargetRecall).
    TargetRecall,
    /// The k that the effort is chosen for.
    EffortK,
    /// The search plan.
    Plan,
    /// [`Query::Vector`](crate::engine::Query::Vector).
    QueryVector,
    /// [`Query::Interests`](crate::engine::Query::Interests).
    Interests,
    /// The vector of one interest.
    InterestVector(usize),
    /// The weight of one interest.
    InterestWeight(usize),
    /// The minimum share of one interest.
    InterestMinShare(usize),
    /// [`Query::Seeds`](crate::engine::Query::Seeds).
    Seeds,
    /// The weight of one seed.
    SeedWeight(usize),
    /// The filter.
    Filter {
        /// The place within the filter, such as `must[1].keyword.attribute`; empty for the whole filter.
        path: String,
    },
    /// The filter, if the caller sent it as text.
    FilterText,
    /// All excluded videos.
    Exclude,
    /// One list of the excluded videos.
    Excluded(ExcludeField),
    /// All caps.
    Caps,
    /// One cap.
    Cap(usize),
    /// The attribute of one cap.
    CapAttribute(usize),
    /// The maximum of one cap.
    CapMaxPerValue(usize),
    /// The places that are kept for fresh videos.
    Fresh,
    /// The timestamp that decides which videos are fresh.
    FreshAttribute,
    /// The number of places that are kept for fresh videos.
    FreshAtLeast,
    /// All reserves.
    Reserves,
    /// One reserve.
    Reserve(usize),
    /// The filter of one reserve.
    ReserveFilter {
        /// Which reserve.
        position: usize,
        /// The place within the filter, such as `must[1].keyword.attribute`; empty for the whole filter.
        path: String,
    },
    /// The filter of one reserve, if the caller sent it as text.
    ReserveFilterText(usize),
    /// The number of places of one reserve.
    ReserveAtLeast(usize),
    /// The share of places of one reserve.
    ReserveShare(usize),
    /// The temperature that one reserve is sampled with.
    ReserveTemperature(usize),
    /// The most that two candidates may resemble each other.
    DiversityMaxSimilarity,
    /// How much scores count against similarity.
    DiversityLambda,
    /// The least score of a candidate.
    ScoreThreshold,
    /// All score terms.
    ScoreTerms,
    /// The attribute of one score term.
    ScoreTermAttribute(usize),
    /// The weight of one score term.
    ScoreTermWeight(usize),
    /// What one score term makes of a value.
    ScoreTermForm {
        /// Which term.
        position: usize,
        /// The field of its form.
        form: &'static str,
    },
    /// All attributes to return.
    ReturnAttributes,
    /// Whether to return embeddings.
    ReturnVectors,
    /// One attribute to return.
    ReturnAttribute(usize),
    /// The name of the model that made the embedding.
    EmbeddingModel,
    /// The write that the answer must include.
    MinSequence,
    /// The generation of the pages before.
    PageToken,
    /// The embedding of a video to write.
    Vector,
    /// All attributes of a video to write.
    Attributes,
    /// One attribute of a video to write, by name.
    Attribute(String),
    /// The id of a video, as text.
    TextId,
    /// The files of training queries, in the options of an engine.
    TrainingQueries,
    /// The files of judging users, in the options of an engine.
    GateQueryFiles,
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Field::Index => "index",
            Field::K => "k",
            Field::Offset => "offset",
            Field::Params => "k and effort",
            Field::EfSearch => "ef_search",
            Field::TargetRecall => "target_recall",
            Field::EffortK => "effort_k",
            Field::Plan => "plan",
            Field::QueryVector | Field::Vector => "vector",
            Field::Interests => "interests",
            Field::InterestVector(position) => return write!(f, "interests[{position}].vector"),
            Field::InterestWeight(position) => return write!(f, "interests[{position}].weight"),
            Field::InterestMinShare(position) => return write!(f, "interests[{position}].min_share"),
            Field::Seeds => "seeds",
            Field::SeedWeight(position) => return write!(f, "seeds[{position}].weight"),
            Field::Filter { path } if path.is_empty() => "filter",
            Field::Filter { path } => return write!(f, "filter.{path}"),
            Field::FilterText => "filter_text",
            Field::Exclude => "exclude",
            Field::Excluded(ExcludeField::VideoIds) => "exclude.video_ids",
            Field::Excluded(ExcludeField::TextIds) => "exclude.text_ids",
            Field::Excluded(ExcludeField::Roaring) => "exclude.roaring",
            Field::Excluded(ExcludeField::BloomBits) => "exclude.bloom.bits",
            Field::Excluded(ExcludeField::BloomHashes) => "exclude.bloom.hashes",
            Field::Caps => "caps",
            Field::Cap(position) => return write!(f, "caps[{position}]"),
            Field::CapAttribute(position) => return write!(f, "caps[{position}].attribute"),
            Field::CapMaxPerValue(position) => return write!(f, "caps[{position}].max_per_value"),
            Field::Fresh => "fresh",
            Field::FreshAttribute => "fresh.attribute",
            Field::FreshAtLeast => "fresh.at_least",
            Field::Reserves => "reserve",
            Field::Reserve(position) => return write!(f, "reserve[{position}]"),
            Field::ReserveFilter { position, path } if path.is_empty() => {
                return write!(f, "reserve[{position}].filter");
            }
            Field::ReserveFilter { position, path } => return write!(f, "reserve[{position}].filter.{path}"),
            Field::ReserveFilterText(position) => return write!(f, "reserve[{position}].filter_text"),
            Field::ReserveAtLeast(position) => return write!(f, "reserve[{position}].at_least"),
            Field::ReserveShare(position) => return write!(f, "reserve[{position}].share"),
            Field::ReserveTemperature(position) => {
                return write!(f, "reserve[{position}].sample.temperature");
            }
            Field::DiversityMaxSimilarity => "diversity.max_similarity",
            Field::DiversityLambda => "diversity.lambda",
            Field::ScoreThreshold => "score_threshold",
            Field::ScoreTerms => "score_terms",
            Field::ScoreTermAttribute(position) => return write!(f, "score_terms[{position}].attribute"),
            Field::ScoreTermWeight(position) => return write!(f, "score_terms[{position}].weight"),
            Field::ScoreTermForm { position, form } => return write!(f, "score_terms[{position}].{form}"),
            Field::ReturnAttributes => "return_attributes",
            Field::ReturnVectors => "return_vectors",
            Field::ReturnAttribute(position) => return write!(f, "return_attributes[{position}]"),
            Field::EmbeddingModel => "embedding_model",
            Field::MinSequence => "min_sequence",
            Field::PageToken => "page_token",
            Field::Attributes => "attributes",
            Field::Attribute(name) => return write!(f, "attributes[{name:?}]"),
            Field::TextId => "text_id",
            Field::TrainingQueries => "rebuild.training_queries",
            Field::GateQueryFiles => "gate.query_files",
        };
        f.write_str(name)
    }
}
