//! What a search wants, and what shards are asked for.
//!
//! What flows in: a request of a caller, whose seeds are resolved already. What flows out: requests to shards for a part of it, and
//! the attributes that the rules read beyond those that the caller asked for.

use jiff::Timestamp;

use super::excluded::Excluded;
use super::value::Value;
use crate::base::instant::Instant;
use crate::engine;
use crate::rules::{Diversity, ExclusionError, Sample};
use crate::search::{ReservedRows, RowRules};
use crate::service::parts::timestamp;
use crate::service::proto::reserve::Places;
use crate::service::proto::search_request::Query;
use crate::service::proto::{
    BoolCondition, Condition, Exclude, Filter, KeywordCondition, ListCondition, NumberRange, SearchParams,
    SearchRequest, Time, TimeRange, condition, number, time,
};

/// Videos recently published.
#[derive(Clone, Debug)]
pub(super) struct FreshWanted {
    pub(super) attribute: String,
    /// From then on, a video is fresh.
    pub(super) earliest: Instant,
}

/// What a search wants.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The request, as shards get it, but for what is changed for each call. Excludes no videos.
    pub(super) request: SearchRequest,
    pub(super) excluded: Excluded,
    pub(super) k: usize,
    pub(super) offset: usize,
    /// Attributes with caps, by cap.
    pub(super) capped: Vec<String>,
    pub(super) fresh: Option<FreshWanted>,
    /// Reserves whose videos are drawn, by position, and how.
    pub(super) sampled: Vec<(usize, Sample)>,
    /// Whether the caller wants candidates to name all reserves that they match.
    pub(super) marks_matches: bool,
    /// Whether the caller wants the embeddings of candidates.
    pub(super) returns_vectors: bool,
    pub(super) rules: RowRules,
    pub(super) is_exact: bool,
    pub(super) has_interests: bool,
    /// Attributes that shards return and the caller did not ask for.
    pub(super) added: Vec<String>,
    /// The filter as a tree, without what is added for a call; `None` if it is the tree of the request.
    pub(super) parsed_filter: Option<Filter>,
}

/// One kind of list that a shard is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The best of all.
    All,
    /// The best of those that are fresh.
    Fresh,
    /// The best of those that match one reserve.
    Reserve(usize),
    /// Those that are drawn from one reserve.
    Drawn(usize),
    /// The best of one interest.
    Interest(usize),
}

impl Wanted {
    /// Reads a request that was checked, for as many shards. `seeds`: the videos that its query was made of. `max_k`: the limit of k of
    /// the shards.
    ///
    /// # Errors
    /// If a list of excluded videos is too long or damaged.
    pub(super) fn of(
        mut request: SearchRequest,
        checked: &engine::SearchRequest,
        shards: usize,
        seeds: Vec<u64>,
        max_k: usize,
    ) -> Result<Self, ExclusionError> {
        let (k, offset) = (checked.k, checked.offset);
        let params = request.params.get_or_insert_with(SearchParams::default);
        params.effort_k = wire(effort_k(checked, seeds.len(), max_k));
        let marks_matches = std::mem::replace(&mut params.mark_matches, !request.reserve.is_empty());
        let diversity = checked.rules.diversity.unwrap_or_default();
        let returns_vectors = request.return_vectors;
        let is_exact = matches!(checked.effort, engine::Effort::Exact);
        let excluded = Excluded::divide(request.exclude.take(), &checked.rules.exclude, seeds, shards)?;
        request.offset = 0;
        request.page_token.clear();
        let rules = &checked.rules;
        let of_interests = match &checked.query {
            engine::Query::Interests(interests) => {
                interests.iter().map(|interest| interest.at_least(k)).collect()
            }
            engine::Query::Vector(_) | engine::Query::Seeds(_) => Vec::new(),
        };
        let has_interests = matches!(checked.query, engine::Query::Interests(_));
        let fresh = rules.fresh.as_ref().map(|fresh| FreshWanted {
            attribute: fresh.attribute.clone(),
            earliest: Instant::from(Timestamp::now()).saturating_sub(fresh.within),
        });
        let capped: Vec<String> = rules.caps.iter().map(|cap| cap.attribute.clone()).collect();
        let mut added: Vec<String> = Vec::new();
        for name in capped.iter().chain(fresh.iter().map(|fresh| &fresh.attribute)) {
            let returned = &request.return_attributes;
            if !returned.iter().any(|other| other == "*" || other == name) {
                request.return_attributes.push(name.clone());
                added.push(name.clone());
            }
        }
        let of_fresh = rules.fresh.iter().map(|fresh| (fresh.at_least, None));
        let all = rules.reserves.iter().map(|reserve| (reserve.at_least(k), reserve.sample));
        let of_reserves = of_fresh
            .chain(all)
            .map(|(at_least, sample)| ReservedRows { at_least, is_drawn: sample.is_some() });
        let sampled = rules.reserves.iter().enumerate().filter(|(_, reserve)| reserve.at_least(k) > 0);
        let sampled = sampled.filter_map(|(at, reserve)| Some((at, reserve.sample?))).collect();
        let parsed = rules.filter.clone().filter(|_| !request.filter_text.is_empty());
        Ok(Self {
            k,
            offset,
            excluded,
            rules: RowRules {
                caps: rules.caps.iter().map(|cap| cap.max_per_value).collect(),
                of_reserves: of_reserves.collect(),
                of_interests,
                diversity,
            },
            capped,
            fresh,
            sampled,
            marks_matches,
            returns_vectors,
            is_exact,
            has_interests,
            added,
            parsed_filter: parsed.map(Into::into),
            request,
        })
    }

    /// The reserves that a video matches, one bit each: the fresh ones first, if places are kept for them.
    pub(super) fn reserves(&self, is_fresh: bool, reserved: &[u32]) -> u32 {
        let first = usize::from(self.fresh.is_some());
        let all = reserved.iter().map(|at| first + *at as usize);
        let known = all.filter(|at| *at < self.rules.of_reserves.len());
        known.fold(u32::from(is_fresh), |bits, at| bits | 1 << at)
    }

    /// The group of a source that places are kept for; `None` for the best of all.
    pub(super) fn group(&self, source: Source) -> Option<usize> {
        match source {
            Source::All => None,
            Source::Fresh => Some(0),
            Source::Reserve(at) | Source::Drawn(at) => Some(usize::from(self.fresh.is_some()) + at),
            Source::Interest(at) => Some(self.rules.of_reserves.len() + at),
        }
    }

    /// Whether rows must differ from each other.
    pub(super) fn is_diverse(&self) -> bool {
        self.rules.diversity != Diversity::default()
    }

    /// Where the page ends in the order of all candidates.
    pub(super) fn end(&self) -> usize {
        self.offset + self.k
    }

    /// Whether the caller sent a filter.
    pub(super) fn has_filter(&self) -> bool {
        self.request.filter.is_some() || !self.request.filter_text.is_empty()
    }

    /// The request as the caller sent it, to one shard, for `k` candidates from the first.
    pub(super) fn whole(&self, shard: usize, k: usize) -> SearchRequest {
        self.with(self.excluded.of(shard), k)
    }

    fn with(&self, exclude: Exclude, k: usize) -> SearchRequest {
        SearchRequest { k: wire(k), exclude: Some(exclude), ..self.request.clone() }
    }

    /// A request to one shard for the best `k` of one kind, without kept places; with caps if `has_caps`.
    pub(super) fn list(&self, shard: usize, source: Source, k: usize, has_caps: bool) -> SearchRequest {
        self.of_source(self.whole(shard, k), source, has_caps)
    }

    fn of_source(&self, mut request: SearchRequest, source: Source, has_caps: bool) -> SearchRequest {
        request.fresh = None;
        request.diversity = None;
        for (at, reserve) in request.reserve.iter_mut().enumerate() {
            let is_source = matches!(source, Source::Reserve(of) | Source::Drawn(of) if of == at);
            reserve.places = Some(Places::AtLeast(if is_source { request.k } else { 0 }));
            if source != Source::Drawn(at) {
                reserve.sample = None;
            }
        }
        if !has_caps {
            request.caps.clear();
        }
        if let Some(Query::Interests(interests)) = &mut request.query {
            for (at, interest) in interests.interests.iter_mut().enumerate() {
                interest.min_share = if source == Source::Interest(at) { 1.0 } else { 0.0 };
            }
        }
        if let (Source::Fresh, Some(fresh)) = (source, &self.fresh) {
            let at = Time { time: Some(time::Time::At(timestamp(fresh.earliest))) };
            let range =
                TimeRange { attribute: fresh.attribute.clone(), gte: Some(at), ..TimeRange::default() };
            self.tree(&mut request).must.push(condition(condition::Condition::Time(range)));
        }
        request
    }

    /// A request to one shard for the best `k` without the videos `known` and without those that have one of these values.
    pub(super) fn next(
        &self,
        shard: usize,
        k: usize,
        known: &[u64],
        full: &[(usize, Value)],
    ) -> SearchRequest {
        let exclude = self.excluded.with(shard, known);
        let mut request = self.of_source(self.with(exclude, k), Source::All, false);
        if !full.is_empty() {
            let conditions = self.full_conditions(full);
            self.tree(&mut request).must_not.extend(conditions);
        }
        request
    }

    /// A request to one shard for the best `k`, without the seeds among the excluded videos.
    pub(super) fn without_seeds(&self, shard: usize, k: usize) -> SearchRequest {
        let exclude = self.excluded.without_seeds(shard);
        self.of_source(self.with(exclude, k), Source::All, false)
    }

    /// The filter of a request as a tree.
    fn tree<'r>(&self, request: &'r mut SearchRequest) -> &'r mut Filter {
        if let Some(parsed) = &self.parsed_filter {
            request.filter = Some(parsed.clone());
            request.filter_text.clear();
        }
        request.filter.get_or_insert_default()
    }

    /// Conditions on the values that caps have no room for.
    fn full_conditions(&self, full: &[(usize, Value)]) -> Vec<Condition> {
        let mut conditions = Vec::new();
        for (cap, attribute) in self.capped.iter().enumerate() {
            let (mut words, mut listed) = (Vec::new(), Vec::new());
            for (_, value) in full.iter().filter(|(of, _)| *of == cap) {
                let number = |number| {
                    let number = Some(crate::service::proto::Number { number: Some(number) });
                    let (gte, lte) = (number, number);
                    NumberRange { attribute: attribute.clone(), gte, lte, ..NumberRange::default() }
                };
                match value {
                    Value::Word(word) => words.push(word.clone()),
                    Value::Listed(word) => listed.push(word.clone()),
                    Value::Int64(value) => conditions
                        .push(condition(condition::Condition::Number(number(number::Number::Int64(*value))))),
                    Value::Uint64(value) => conditions.push(condition(condition::Condition::Number(number(
                        number::Number::Uint64(*value),
                    )))),
                    Value::Bool(value) => {
                        let is = BoolCondition { attribute: attribute.clone(), value: *value };
                        conditions.push(condition(condition::Condition::Bool(is)));
                    }
                }
            }
            let attribute = || attribute.clone();
            if !words.is_empty() {
                let any = KeywordCondition { attribute: attribute(), any_of: words };
                conditions.push(condition(condition::Condition::Keyword(any)));
            }
            if !listed.is_empty() {
                let any = ListCondition { attribute: attribute(), any_of: listed, all_of: Vec::new() };
                conditions.push(condition(condition::Condition::List(any)));
            }
        }
        conditions
    }
}

fn condition(condition: condition::Condition) -> Condition {
    Condition { condition: Some(condition) }
}

/// The k that each shard chooses its effort for. As on one server, it covers the whole page and the seeds, which may be among the best
/// and are excluded. Shards refuse more than `max_k`, so only the caller's own `effort_k` may exceed it.
fn effort_k(checked: &engine::SearchRequest, seeds: usize, max_k: usize) -> usize {
    let own = checked.effort_k.max(checked.k.saturating_add(checked.offset));
    own.max(own.saturating_add(seeds).min(max_k))
}

fn wire(k: usize) -> u32 {
    u32::try_from(k).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effort_is_that_of_the_page_and_the_seeds_within_the_limit_of_shards() {
        let effort = |k, offset, effort_k, seeds| {
            let checked = engine::SearchRequest { k, offset, effort_k, ..engine::SearchRequest::default() };
            super::effort_k(&checked, seeds, 1000)
        };
        assert_eq!([effort(10, 0, 0, 0), effort(10, 30, 0, 0), effort(10, 0, 70, 0)], [10, 40, 70]);
        assert_eq!([effort(10, 0, 0, 5), effort(10, 30, 0, 5), effort(10, 0, 70, 5)], [15, 45, 75]);
        // One server allows seeds with the largest page.
        assert_eq!([effort(1000, 0, 0, 5), effort(400, 600, 0, 5), effort(998, 0, 0, 5)], [1000; 3]);
        // A shard says that this is too much.
        assert_eq!([effort(10, 0, 1001, 0), effort(10, 0, 1001, 5)], [1001; 2]);
        assert_eq!(effort(usize::MAX, usize::MAX, 0, usize::MAX), usize::MAX);
    }
}
