//! The rules of a request, in terms of one generation.

use jiff::Timestamp;

use super::error::EngineError;
use super::request::{Limits, SearchRequest};
use crate::attributes::{Columns, ValueKeys};
use crate::graph::NodeSet;
use crate::id::NodeId;
use crate::index::{AttributeKind, Index};
use crate::rules::{Cap, Exclusion, Fresh, MatchError, matching};
use crate::search::{Interest, NodeRules};

/// The rules of one request.
pub(super) struct ResolvedRules<'a> {
    /// The nodes that match the filter, and how many they are.
    pub(super) matches: Option<(NodeSet, usize)>,
    exclusion: Exclusion,
    caps: Vec<(ValueKeys<'a>, usize)>,
    fresh: Option<(NodeSet, usize)>,
    score_threshold: Option<f32>,
    offset: usize,
    /// What times are relative to.
    pub(super) now: Timestamp,
}

/// Whether a request has rules at all.
pub(super) fn has_rules(request: &SearchRequest) -> bool {
    let rules = &request.rules;
    rules.filter.is_some()
        || !rules.exclude.video_ids.is_empty()
        || !rules.exclude.roaring.is_empty()
        || rules.exclude.bloom.is_some()
        || !rules.caps.is_empty()
        || rules.fresh.is_some()
        || rules.score_threshold.is_some()
}

impl<'a> ResolvedRules<'a> {
    /// `None` if `keep_going` said no before the filter was resolved.
    ///
    /// # Errors
    /// Names the field that cannot be used.
    pub(super) fn of(
        (name, generation, index): (&str, u64, &'a Index),
        limits: &Limits,
        request: &SearchRequest,
        interests: &[Interest<'_>],
        keep_going: impl FnMut() -> bool,
    ) -> Result<Option<Self>, EngineError> {
        let rules = &request.rules;
        if request.offset.saturating_add(request.k) > limits.max_k {
            let problem =
                format!("expected at most {} with k = {}, found {}", limits.max_k, request.k, request.offset);
            return Err(EngineError::invalid("offset", problem));
        }
        let exclusion = Exclusion::of(&rules.exclude)
            .map_err(|error| EngineError::invalid(error.field(), error.to_string()))?;
        let columns = Columns::of(index);
        let caps = caps(&columns, &rules.caps)?;
        let now = Timestamp::now();
        let fresh = rules.fresh.as_ref().map(|fresh| {
            let kept: usize = interests.iter().map(|interest| interest.at_least).sum();
            fresh_nodes(&columns, fresh, now, (request.k, kept))
        });
        let fresh = fresh.transpose()?;
        let set = rules.filter.as_ref().map(|filter| matching(filter, &columns, now, keep_going));
        let matches = match set.transpose() {
            Ok(set) => set.map(|set| {
                let count = set.count();
                (set, count)
            }),
            Err(MatchError::Interrupted) => return Ok(None),
            Err(MatchError::Invalid { path, problem }) => {
                return Err(EngineError::invalid(path, problem.to_string()));
            }
            Err(error @ MatchError::BuiltBeforeFilters { .. }) => {
                let (index, problem) = (name.to_owned(), error.to_string());
                return Err(EngineError::NotFilterable { index, generation, problem });
            }
        };
        let (score_threshold, offset) = (rules.score_threshold, request.offset);
        Ok(Some(Self { matches, exclusion, caps, fresh, score_threshold, offset, now }))
    }

    /// As a search takes them; the nodes that a query is made of are no hits.
    pub(super) fn of_nodes<'s>(&'s self, seeds: &'s [NodeId]) -> NodeRules<'s> {
        NodeRules {
            matches: self.matches.as_ref().map(|(set, count)| (set, *count)),
            exclusion: &self.exclusion,
            seeds,
            caps: self.caps.clone(),
            fresh: self.fresh.as_ref().map(|(set, at_least)| (set, *at_least)),
            score_threshold: self.score_threshold,
            offset: self.offset,
            first_page: Vec::new(),
        }
    }
}

fn caps<'a>(columns: &Columns<'a>, caps: &[Cap]) -> Result<Vec<(ValueKeys<'a>, usize)>, EngineError> {
    if caps.len() > Limits::MAX_CAPS {
        let problem = format!("expected at most {} caps, found {}", Limits::MAX_CAPS, caps.len());
        return Err(EngineError::invalid("caps", problem));
    }
    let resolve = |(position, cap): (usize, &Cap)| {
        let field = format!("caps[{position}].attribute");
        let column = column(columns, &cap.attribute, &field)?;
        let keys = columns.value_keys(column).ok_or_else(|| {
            let found = columns.schema()[column].kind.name();
            let problem =
                format!("expected a keyword, a list of keywords, an integer or a bool, found {found}");
            EngineError::invalid(field, problem)
        })?;
        if cap.max_per_value == 0 {
            let field = format!("caps[{position}].max_per_value");
            return Err(EngineError::invalid(field, "expected at least 1, found 0"));
        }
        Ok((keys, cap.max_per_value))
    };
    caps.iter().enumerate().map(resolve).collect()
}

/// The nodes that are fresh at `now`, and how many of the `k` are wanted, of which others are `kept`.
fn fresh_nodes(
    columns: &Columns<'_>,
    fresh: &Fresh,
    now: Timestamp,
    (k, kept): (usize, usize),
) -> Result<(NodeSet, usize), EngineError> {
    let column = column(columns, &fresh.attribute, "fresh.attribute")?;
    if columns.schema()[column].kind != AttributeKind::Timestamp {
        let found = columns.schema()[column].kind.name();
        return Err(EngineError::invalid("fresh.attribute", format!("expected a timestamp, found {found}")));
    }
    if fresh.at_least + kept > k {
        let problem =
            format!("expected at most {} of k = {k}, found {}", k.saturating_sub(kept), fresh.at_least);
        return Err(EngineError::invalid("fresh.at_least", problem));
    }
    let earliest = now.checked_sub(fresh.within).unwrap_or(Timestamp::MIN);
    let nodes = columns.since(column, earliest).expect("a column of times has times");
    Ok((nodes, fresh.at_least))
}

fn column(columns: &Columns<'_>, name: &str, field: &str) -> Result<usize, EngineError> {
    columns.find(name).ok_or_else(|| {
        let known: Vec<&str> = columns.schema().iter().map(|column| column.name.as_str()).collect();
        EngineError::invalid(field, format!("unknown attribute {name:?}: expected one of {known:?}"))
    })
}
