//! A search request, one call per field.

use super::request::{Effort, Interest, Query, ReturnAttributes, SearchRequest, Seed};
use crate::base::id::VideoId;
use crate::rules::{Cap, ExpressionError, Filter, Fresh, Rules};
use crate::search::Plan;

impl Default for SearchRequest {
    /// Ten candidates of the only index, at the default effort, without rules. The query is empty: set
    /// [`SearchRequest::query`].
    fn default() -> Self {
        Self {
            index: String::new(),
            query: Query::Vector(Vec::new()),
            k: 10,
            effort: Effort::Default,
            effort_k: 0,
            plan: None,
            rules: Rules::default(),
            marks_matches: false,
            offset: 0,
            return_attributes: ReturnAttributes::None,
            return_vectors: false,
            embedding_model: None,
            min_sequence: 0,
            generation: None,
        }
    }
}

impl SearchRequest {
    /// A search for a user embedding, `[dim]`, finite.
    pub fn vector(vector: impl Into<Vec<f32>>) -> Self {
        Self { query: Query::Vector(vector.into()), ..Self::default() }
    }

    /// A search for several interests of one user at once, up to 16.
    pub fn interests(interests: impl Into<Vec<Interest>>) -> Self {
        Self { query: Query::Interests(interests.into()), ..Self::default() }
    }

    /// A search for videos like these, which are not returned themselves.
    pub fn similar_to(videos: impl IntoIterator<Item = VideoId>) -> Self {
        let seed = |video_id| Seed { video_id, weight: 1.0 };
        Self { query: Query::Seeds(videos.into_iter().map(seed).collect()), ..Self::default() }
    }

    /// The index by name; without it, the only one.
    pub fn index(self, name: impl Into<String>) -> Self {
        Self { index: name.into(), ..self }
    }

    /// The number of candidates.
    pub fn k(self, k: usize) -> Self {
        Self { k, ..self }
    }

    /// The number of candidates to skip: those of earlier pages.
    pub fn offset(self, offset: usize) -> Self {
        Self { offset, ..self }
    }

    /// Effort by the number of candidates that the search expands.
    pub fn ef_search(self, ef_search: usize) -> Self {
        Self { effort: Effort::EfSearch(ef_search), ..self }
    }

    /// Effort by the recall that it reached when the generation was calibrated: above 0, at most 1.
    pub fn target_recall(self, recall: f32) -> Self {
        Self { effort: Effort::TargetRecall(recall), ..self }
    }

    /// Scores every video: the ground truth.
    pub fn exact(self) -> Self {
        Self { effort: Effort::Exact, ..self }
    }

    /// Forces a plan, for measurements.
    pub fn plan(self, plan: Plan) -> Self {
        Self { plan: Some(plan), ..self }
    }

    /// Which videos may be candidates.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.rules.filter = Some(filter);
        self
    }

    /// Which videos may be candidates, as text: `region = "US" and published_at > -7d`.
    ///
    /// # Errors
    /// [`ExpressionError`] with the position of the first mistake.
    pub fn filter_text(self, text: &str) -> Result<Self, ExpressionError> {
        text.parse().map(|filter| self.filter(filter))
    }

    /// Adds videos that must not be candidates, for example those the user has seen.
    pub fn exclude(mut self, videos: impl IntoIterator<Item = VideoId>) -> Self {
        self.rules.exclude.video_ids.extend(videos);
        self
    }

    /// Allows at most `max_per_value` candidates with the same value of `attribute`. Several caps hold together.
    pub fn cap(mut self, attribute: impl Into<String>, max_per_value: usize) -> Self {
        self.rules.caps.push(Cap { attribute: attribute.into(), max_per_value });
        self
    }

    /// Keeps places for recently published videos.
    pub fn fresh(mut self, fresh: Fresh) -> Self {
        self.rules.fresh = Some(fresh);
        self
    }

    /// The lowest score of a candidate.
    pub fn score_threshold(mut self, score: f32) -> Self {
        self.rules.score_threshold = Some(score);
        self
    }

    /// Returns these attributes with each candidate.
    pub fn return_attributes<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        Self { return_attributes: ReturnAttributes::Named(names), ..self }
    }

    /// Returns every attribute with each candidate.
    pub fn return_all_attributes(self) -> Self {
        Self { return_attributes: ReturnAttributes::All, ..self }
    }

    /// Returns the embedding of each candidate.
    pub fn return_vectors(self) -> Self {
        Self { return_vectors: true, ..self }
    }

    /// The model that made the query; a request for an index of another model is refused.
    pub fn embedding_model(self, model: impl Into<String>) -> Self {
        Self { embedding_model: Some(model.into()), ..self }
    }

    /// The answer must know every write up to this sequence number.
    pub fn min_sequence(self, sequence: u64) -> Self {
        Self { min_sequence: sequence, ..self }
    }
}
