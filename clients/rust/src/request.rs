//! A search request, one call per field.

use std::time::Duration;

use crate::proto::reserve::{Places, Sample};
use crate::proto::score_term::decay::Over;
use crate::proto::score_term::{Clamp, Decay, Form, Linear, Log1p, Match};
use crate::proto::search_params::Effort;
use crate::proto::search_request::Query;
use crate::proto::{
    Cap, Diversity, Dtype, Exclude, Fresh, Interest, Interests, PackedVector, Reserve, ScoreTerm,
    SearchParams, SearchRequest, Seed, Seeds, Vector,
};

/// The id of a video: a number, or text if the index has text ids.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Id {
    /// A number.
    Number(u64),
    /// Text.
    Text(String),
}

impl From<u64> for Id {
    fn from(id: u64) -> Self {
        Self::Number(id)
    }
}

impl From<String> for Id {
    fn from(id: String) -> Self {
        Self::Text(id)
    }
}

impl From<&str> for Id {
    fn from(id: &str) -> Self {
        Self::Text(id.to_owned())
    }
}

impl Vector {
    /// An embedding as bytes, which the server need not parse.
    pub fn packed(components: &[f32]) -> Self {
        let data = components.iter().flat_map(|component| component.to_le_bytes()).collect();
        Self { values: Vec::new(), packed: Some(PackedVector { data, dtype: Dtype::F32.into() }) }
    }
}

impl SearchRequest {
    /// A search for a user embedding, `[dim]`: ten candidates at the default effort.
    pub fn of_vector(vector: &[f32]) -> Self {
        Self::of_query(Query::Vector(Vector::packed(vector)))
    }

    /// A search for several interests of one user, `[dim]` each, with their weights.
    pub fn of_interests<'a>(interests: impl IntoIterator<Item = (&'a [f32], f32)>) -> Self {
        let interest = |(vector, weight)| Interest {
            vector: Some(Vector::packed(vector)),
            weight: Some(weight),
            min_share: 0.0,
        };
        Self::of_query(Query::Interests(Interests {
            interests: interests.into_iter().map(interest).collect(),
        }))
    }

    /// A search for videos like these, which are not returned themselves.
    pub fn similar_to<I: Into<Id>>(videos: impl IntoIterator<Item = I>) -> Self {
        let seed = |video: I| match video.into() {
            Id::Number(video_id) => Seed { video_id, ..Seed::default() },
            Id::Text(text_id) => Seed { text_id, ..Seed::default() },
        };
        Self::of_query(Query::Seeds(Seeds { seeds: videos.into_iter().map(seed).collect() }))
    }

    fn of_query(query: Query) -> Self {
        Self { query: Some(query), k: 10, ..Self::default() }
    }

    /// The name of the index. Not needed if the server has only one.
    pub fn with_index(self, index: impl Into<String>) -> Self {
        Self { index: index.into(), ..self }
    }

    /// The number of candidates.
    pub fn with_k(self, k: u32) -> Self {
        Self { k, ..self }
    }

    /// The number of candidates to skip: those of earlier pages.
    pub fn with_offset(self, offset: u32) -> Self {
        Self { offset, ..self }
    }

    /// The page after that of an answer with this `next_page_token`. The other fields are those of that request.
    pub fn with_page_token(self, token: impl Into<String>) -> Self {
        Self { page_token: token.into(), ..self }
    }

    /// The share of the true top k to find, above 0 and at most 1. The index must be calibrated.
    pub fn with_target_recall(self, recall: f32) -> Self {
        self.with_effort(Effort::TargetRecall(recall))
    }

    /// The size of the candidate list.
    pub fn with_ef_search(self, ef_search: u32) -> Self {
        self.with_effort(Effort::EfSearch(ef_search))
    }

    /// Scores every video: the true top k, slowly.
    pub fn with_exact(self) -> Self {
        self.with_effort(Effort::Exact(true))
    }

    fn with_effort(mut self, effort: Effort) -> Self {
        self.params = Some(SearchParams { effort: Some(effort), ..self.params.unwrap_or_default() });
        self
    }

    /// Which videos may be candidates, as text: `region = "US" and published_at > -7d`.
    pub fn with_filter(self, text: impl Into<String>) -> Self {
        Self { filter_text: text.into(), filter: None, ..self }
    }

    /// Adds videos that may not be candidates.
    pub fn with_exclude<I: Into<Id>>(mut self, videos: impl IntoIterator<Item = I>) -> Self {
        let exclude = self.exclude.get_or_insert_with(Exclude::default);
        for video in videos {
            match video.into() {
                Id::Number(video_id) => exclude.video_ids.push(video_id),
                Id::Text(text_id) => exclude.text_ids.push(text_id),
            }
        }
        self
    }

    /// Allows at most `max_per_value` candidates with the same value of an attribute.
    pub fn with_cap(mut self, attribute: impl Into<String>, max_per_value: u32) -> Self {
        self.caps.push(Cap { attribute: attribute.into(), max_per_value });
        self
    }

    /// Keeps places for videos that were published within this time.
    pub fn with_fresh(self, at_least: u32, within: Duration) -> Self {
        let within = Some(duration(within));
        Self { fresh: Some(Fresh { attribute: String::new(), within, at_least }), ..self }
    }

    /// Keeps places for the best videos that match a filter, such as `impressions < 1000`.
    pub fn with_reserve(mut self, at_least: u32, filter: impl Into<String>) -> Self {
        let places = Some(Places::AtLeast(at_least));
        self.reserve.push(Reserve { filter_text: filter.into(), places, ..Reserve::default() });
        self
    }

    /// Keeps places for videos that match a filter, and draws them: the higher the temperature, the less their scores count.
    pub fn with_sampled_reserve(
        mut self,
        at_least: u32,
        filter: impl Into<String>,
        temperature: f32,
        seed: u64,
    ) -> Self {
        let (places, sample) = (Some(Places::AtLeast(at_least)), Some(Sample { temperature, seed }));
        self.reserve.push(Reserve { filter_text: filter.into(), places, sample, ..Reserve::default() });
        self
    }

    /// Leaves out videos that are more similar than this to a better candidate: the cosine of their embeddings.
    pub fn with_max_similarity(mut self, max_similarity: f32) -> Self {
        self.diversity.get_or_insert_with(Diversity::default).max_similarity = Some(max_similarity);
        self
    }

    /// Chooses candidates by maximal marginal relevance: with 1, only scores count; with 0, only how much candidates differ.
    pub fn with_lambda(mut self, lambda: f32) -> Self {
        self.diversity.get_or_insert_with(Diversity::default).lambda = Some(lambda);
        self
    }

    /// Adds a part of the score that depends on an attribute.
    pub fn with_score_term(mut self, term: ScoreTerm) -> Self {
        self.score_terms.push(term);
        self
    }

    /// The lowest score of a candidate.
    pub fn with_score_threshold(self, score: f32) -> Self {
        Self { score_threshold: Some(score), ..self }
    }

    /// Returns these attributes with each candidate; `*` for all.
    pub fn with_attributes<S: Into<String>>(self, names: impl IntoIterator<Item = S>) -> Self {
        Self { return_attributes: names.into_iter().map(Into::into).collect(), ..self }
    }

    /// Returns the cost of the search.
    pub fn with_stats(self) -> Self {
        Self { return_stats: true, ..self }
    }

    /// The answer includes every write up to this sequence.
    pub fn with_min_sequence(self, sequence: u64) -> Self {
        Self { min_sequence: sequence, ..self }
    }
}

impl ScoreTerm {
    /// `weight` times a number.
    pub fn linear(attribute: impl Into<String>, weight: f64) -> Self {
        Self::of(attribute, weight, Form::Linear(Linear {}))
    }

    /// `weight` times ln(1 + x) of a number.
    pub fn log1p(attribute: impl Into<String>, weight: f64) -> Self {
        Self::of(attribute, weight, Form::Log1p(Log1p {}))
    }

    /// 0 for numbers up to `from`, `weight` for those from `to` on.
    pub fn clamp(attribute: impl Into<String>, weight: f64, from: f64, to: f64) -> Self {
        Self::of(attribute, weight, Form::Clamp(Clamp { from, to }))
    }

    /// `weight` for a time that is now, and half as much each time this much longer ago.
    pub fn half_life(attribute: impl Into<String>, weight: f64, half_life: Duration) -> Self {
        Self::decay(attribute, weight, Over::HalfLife(duration(half_life)))
    }

    /// `weight` for a time that is now, falling evenly to 0 this long ago.
    pub fn window(attribute: impl Into<String>, weight: f64, window: Duration) -> Self {
        Self::decay(attribute, weight, Over::Window(duration(window)))
    }

    /// `weight` for one of these keywords.
    pub fn matching<S: Into<String>>(
        attribute: impl Into<String>,
        weight: f64,
        any_of: impl IntoIterator<Item = S>,
    ) -> Self {
        let any_of = any_of.into_iter().map(Into::into).collect();
        Self::of(attribute, weight, Form::Match(Match { any_of }))
    }

    fn decay(attribute: impl Into<String>, weight: f64, over: Over) -> Self {
        Self::of(attribute, weight, Form::Decay(Decay { over: Some(over) }))
    }

    fn of(attribute: impl Into<String>, weight: f64, form: Form) -> Self {
        Self { attribute: attribute.into(), weight, form: Some(form) }
    }
}

/// A duration that is too long for a message is refused by the server.
fn duration(duration: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: duration.subsec_nanos().cast_signed() }
}
