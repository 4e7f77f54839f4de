//! The rules of a request, in terms of one generation.

use std::sync::Arc;

use jiff::Timestamp;

use crate::attributes::Columns;
use crate::base::id::NodeId;
use crate::base::instant::Instant;
use crate::base::interrupt::Interrupt;
use crate::engine::error::EngineError;
use crate::engine::field::Field;
use crate::engine::options::Limits;
use crate::engine::query::context::RequestContext;
use crate::engine::query::recent_matches::{Matches, RecentMatches, counted};
use crate::engine::query::request::SearchRequest;
use crate::index::{AttributeKind, Index};
use crate::live::delta::segments::{IndexSegment, Segments};
use crate::node_set::CountedSet;
use crate::rules::{
    self, BindError, BoundTerms, Cap, Diversity, Exclusion, Filter, FilterProblem, Fresh, MatchError, Places,
    Rules, ScoreTerm, TermError, TermField, matching,
};
use crate::search::{CapKeys, Interest, NodeRules, Reserve, Segment};

/// The rules of one request.
pub(crate) struct ResolvedRules<'a> {
    segments: Vec<ResolvedSegment<'a>>,
    /// `None` if no video is excluded.
    exclusion: Option<Exclusion<'a>>,
    caps: Vec<CapKeys<'a>>,
    /// That of fresh videos first, if there is one.
    reserves: Vec<Reserve>,
    score_threshold: Option<f32>,
    diversity: Diversity,
    offset: usize,
    /// The time that relative times refer to.
    pub(crate) now: Timestamp,
}

/// The rules resolved for one segment.
struct ResolvedSegment<'a> {
    segment: &'a IndexSegment,
    /// The nodes that match the filter, without tombstones; `None` without a filter.
    matches: Option<Matches>,
    /// `[reserves]`: the nodes that match each.
    reserves: Vec<Matches>,
    /// `None` without score terms.
    terms: Option<BoundTerms<'a>>,
}

/// What the rules are resolved against.
#[derive(Clone, Copy)]
pub(crate) struct Searched<'a> {
    pub(crate) generation: u64,
    pub(crate) segments: &'a Segments,
    pub(crate) recent: &'a RecentMatches,
}

/// Whether a request has any rules.
pub(crate) fn has_rules(request: &SearchRequest) -> bool {
    let rules = &request.rules;
    rules.filter.is_some()
        || !rules.exclude.is_empty()
        || !rules.caps.is_empty()
        || rules.fresh.is_some()
        || !rules.reserves.is_empty()
        || rules.score_threshold.is_some()
        || rules.diversity.is_some()
        || !rules.score_terms.is_empty()
}

impl<'a> ResolvedRules<'a> {
    /// Resolves the rules of a request; `None` if interrupted first.
    ///
    /// # Errors
    /// Names the field that is invalid.
    pub(crate) fn of(
        context: &RequestContext<'_>,
        Searched { generation, segments, recent }: Searched<'a>,
        request: &'a SearchRequest,
        interests: &[Interest<'_>],
        interrupt: &mut Interrupt<'_>,
    ) -> Result<Option<Self>, EngineError> {
        let rules = &request.rules;
        if request.offset.saturating_add(request.k) > context.limits.max_k {
            let most = context.limits.max_k.saturating_sub(request.k);
            let problem = format!("expected at most {most} with k = {}, found {}", request.k, request.offset);
            return Err(EngineError::invalid(Field::Offset, problem));
        }
        if let Some(found) = rules.score_threshold.filter(|threshold| !threshold.is_finite()) {
            let problem = format!("expected a finite number, found {found}");
            return Err(EngineError::invalid(Field::ScoreThreshold, problem));
        }
        let diversity = diversity(context, request, segments.base().index.dim())?;
        let exclusion = match rules.exclude.is_empty() {
            true => None,
            false => {
                let exclusion = Exclusion::of(&rules.exclude).map_err(|error| {
                    EngineError::invalid(Field::Excluded(error.field()), error.to_string())
                })?;
                Some(exclusion).filter(|exclusion| !exclusion.is_empty())
            }
        };
        let caps = caps(segments, &rules.caps)?;
        let now = Timestamp::now();
        let of_interests = interests.iter().map(|interest| interest.at_least).sum();
        let reserves = reserves(&segments.base().index, rules, request.k, of_interests)?;
        let mut resolved = Vec::new();
        for segment in segments.iter() {
            let columns = Columns::of(&segment.index);
            let is_base = Arc::ptr_eq(&segment.index, &segments.base().index);
            let mut find = |filter: &Filter, field: &dyn Fn(String) -> Field| {
                let mut find = || matching(filter, &columns, now, interrupt);
                match if is_base { recent.of(filter, find) } else { find().map(counted) } {
                    Ok(matches) => Ok(Some(matches)),
                    Err(MatchError::Interrupted) => Ok(None),
                    Err(MatchError::Invalid { path, problem }) => {
                        Err(EngineError::invalid(field(path), problem.to_string()))
                    }
                    Err(error @ MatchError::BuiltBeforeFilters { .. }) => {
                        let (index, problem) = (context.name.to_owned(), error.to_string());
                        Err(EngineError::NotFilterable { index, generation, problem })
                    }
                }
            };
            let mut matches = None;
            if let Some(filter) = &rules.filter {
                let Some(found) = find(filter, &|path| Field::Filter { path })? else { return Ok(None) };
                matches = Some(without(found, segment.tombstones.as_deref()));
            }
            let mut of_reserves: Vec<Matches> =
                rules.fresh.iter().map(|fresh| since(&columns, fresh, now)).collect();
            for (position, reserve) in rules.reserves.iter().enumerate() {
                let field = |path| Field::ReserveFilter { position, path };
                let Some(found) = find(&reserve.filter, &field)? else { return Ok(None) };
                of_reserves.push(found);
            }
            let terms = match score_terms(&rules.score_terms, columns, now, interrupt) {
                Ok(terms) => terms,
                Err(BindError::Keywords(MatchError::Interrupted)) => return Ok(None),
                Err(BindError::Keywords(error)) => {
                    let (index, problem) = (context.name.to_owned(), error.to_string());
                    return Err(EngineError::NotFilterable { index, generation, problem });
                }
                Err(BindError::Invalid(error)) => {
                    let field = field_of(&error, &rules.score_terms);
                    return Err(EngineError::invalid(field, error.problem.to_string()));
                }
            };
            resolved.push(ResolvedSegment { segment, matches, reserves: of_reserves, terms });
        }
        Ok(Some(Self {
            segments: resolved,
            exclusion,
            caps,
            reserves,
            score_threshold: rules.score_threshold,
            diversity,
            offset: request.offset,
            now,
        }))
    }

    /// How many videos match the filter; `None` without one.
    pub(crate) fn matches(&self) -> Option<usize> {
        self.segments.iter().map(|segment| segment.matches.as_ref().map(|matches| matches.count)).sum()
    }

    /// The segments as a search reads them.
    pub(crate) fn segments<'s>(&'s self) -> Vec<Segment<'s>> {
        let segment = |resolved: &'s ResolvedSegment<'a>| Segment {
            index: &resolved.segment.index,
            video_ids: resolved.segment.index.video_ids(),
            start: resolved.segment.start,
            matches: resolved
                .matches
                .as_ref()
                .map(|CountedSet { nodes, count }| CountedSet { nodes: &**nodes, count: *count }),
            tombstones: resolved.segment.tombstones.as_deref().map(CountedSet::as_ref),
            reserves: &resolved.reserves,
            terms: resolved.terms.as_ref(),
        };
        self.segments.iter().map(segment).collect()
    }

    /// The rules as a search reads them. The nodes that the query was made of, `seeds`, are no hits.
    pub(crate) fn of_nodes<'s>(&'s self, segments: &'s [Segment<'s>], seeds: &'s [NodeId]) -> NodeRules<'s> {
        NodeRules {
            segments,
            exclusion: self.exclusion.as_ref(),
            seeds,
            caps: &self.caps,
            reserves: &self.reserves,
            score_threshold: self.score_threshold,
            diversity: self.diversity,
            offset: self.offset,
        }
    }
}

/// The terms for one segment; `None` without any.
fn score_terms<'a>(
    terms: &'a [ScoreTerm],
    columns: Columns<'a>,
    now: Timestamp,
    interrupt: &mut Interrupt<'_>,
) -> Result<Option<BoundTerms<'a>>, BindError> {
    if terms.is_empty() { Ok(None) } else { BoundTerms::of(terms, columns, now, interrupt).map(Some) }
}

fn field_of(error: &TermError, terms: &[ScoreTerm]) -> Field {
    let position = error.position;
    match error.field {
        TermField::All => Field::ScoreTerms,
        TermField::Attribute => Field::ScoreTermAttribute(position),
        TermField::Weight => Field::ScoreTermWeight(position),
        TermField::Form => Field::ScoreTermForm { position, form: terms[position].form.field() },
    }
}

/// The matches without tombstones.
fn without(matches: Matches, tombstones: Option<&CountedSet>) -> Matches {
    let Some(tombstones) = tombstones else { return matches };
    let mut nodes = Arc::unwrap_or_clone(matches.nodes);
    nodes.subtract(&tombstones.nodes);
    counted(nodes)
}

fn caps<'a>(segments: &'a Segments, caps: &[Cap]) -> Result<Vec<CapKeys<'a>>, EngineError> {
    if caps.len() > Limits::MAX_CAPS {
        let problem = format!("expected at most {} caps, found {}", Limits::MAX_CAPS, caps.len());
        return Err(EngineError::invalid(Field::Caps, problem));
    }
    let columns = Columns::of(&segments.base().index);
    let resolve = |(position, cap): (usize, &Cap)| {
        let field = Field::CapAttribute(position);
        let column = column(&columns, &cap.attribute, field.clone())?;
        let keys: Option<Vec<_>> = segments.iter().map(|segment| segment.value_keys(column)).collect();
        let keys = keys.ok_or_else(|| {
            let found = columns.schema()[column].kind.name();
            let problem =
                format!("expected a keyword, a list of keywords, an integer or a bool, found {found}");
            EngineError::invalid(field, problem)
        })?;
        if cap.max_per_value == 0 {
            return Err(EngineError::invalid(
                Field::CapMaxPerValue(position),
                "expected at least 1, found 0",
            ));
        }
        Ok(CapKeys { segments: keys, max_per_value: cap.max_per_value })
    };
    caps.iter().enumerate().map(resolve).collect()
}

/// The diversity of a request, with memory for the embeddings that are compared.
fn diversity(
    context: &RequestContext<'_>,
    request: &SearchRequest,
    dim: usize,
) -> Result<Diversity, EngineError> {
    let Some(diversity) = request.rules.diversity else { return Ok(Diversity::default()) };
    let Diversity { max_similarity, lambda } = diversity;
    if let Some(found) = max_similarity.filter(|most| !(*most > 0.0 && *most <= 1.0)) {
        let problem = format!("expected more than 0 and at most 1, found {found}");
        return Err(EngineError::invalid(Field::DiversityMaxSimilarity, problem));
    }
    if let Some(found) = lambda.filter(|lambda| !(0.0..=1.0).contains(lambda)) {
        let problem = format!("expected 0 to 1, found {found}");
        return Err(EngineError::invalid(Field::DiversityLambda, problem));
    }
    let rows = diversity.held_rows(request.offset, request.k);
    context.budget.reserve(rows.saturating_mul(dim).saturating_mul(size_of::<f32>()))?;
    Ok(diversity)
}

/// The reserves of a request, that of fresh videos first. Checks that no more than `k` places are kept, of which `of_interests` are for
/// interests.
fn reserves(base: &Index, rules: &Rules, k: usize, of_interests: usize) -> Result<Vec<Reserve>, EngineError> {
    let mut reserves = Vec::with_capacity(rules.reserves.len() + 1);
    let mut kept = of_interests;
    if let Some(fresh) = &rules.fresh {
        check_fresh(base, fresh, k, kept)?;
        kept += fresh.at_least;
        reserves.push(Reserve { at_least: fresh.at_least, sample: None });
    }
    let most = rules::Reserve::MAX_RESERVES;
    if rules.reserves.len() > most {
        let problem = format!("expected at most {most} reserves, found {}", rules.reserves.len());
        return Err(EngineError::invalid(Field::Reserves, problem));
    }
    for (position, reserve) in rules.reserves.iter().enumerate() {
        let field = match reserve.places {
            Places::AtLeast(_) => Field::ReserveAtLeast(position),
            Places::Share(share) if (0.0..=1.0).contains(&share) => Field::ReserveShare(position),
            Places::Share(share) => {
                let problem = format!("expected 0 to 1, found {share}");
                return Err(EngineError::invalid(Field::ReserveShare(position), problem));
            }
        };
        let at_least = reserve.at_least(k);
        if at_least > k - kept {
            let problem = format!("expected at most {} of k = {k}, found {at_least}", k - kept);
            return Err(EngineError::invalid(field, problem));
        }
        kept += at_least;
        if let Some(sample) = reserve.sample.filter(|sample| !sample.is_valid()) {
            let problem = format!("expected a finite number above 0, found {}", sample.temperature);
            return Err(EngineError::invalid(Field::ReserveTemperature(position), problem));
        }
        reserves.push(Reserve { at_least, sample: reserve.sample });
    }
    Ok(reserves)
}

/// The fresh nodes. The attribute was checked.
fn since(columns: &Columns<'_>, fresh: &Fresh, now: Timestamp) -> Matches {
    let earliest = Instant::from(now).saturating_sub(fresh.within);
    let column = columns.find(&fresh.attribute).expect("the column was checked");
    counted(columns.since(column, earliest).expect("the column contains timestamps"))
}

/// Checks that the attribute is a timestamp, and that of `k` places enough are left, of which `kept` are kept for
/// interests.
fn check_fresh(base: &Index, fresh: &Fresh, k: usize, kept: usize) -> Result<(), EngineError> {
    let columns = Columns::of(base);
    let column = column(&columns, &fresh.attribute, Field::FreshAttribute)?;
    if columns.schema()[column].kind != AttributeKind::Timestamp {
        let found = columns.schema()[column].kind.name();
        return Err(EngineError::invalid(
            Field::FreshAttribute,
            format!("expected a timestamp, found {found}"),
        ));
    }
    if fresh.at_least + kept > k {
        let problem =
            format!("expected at most {} of k = {k}, found {}", k.saturating_sub(kept), fresh.at_least);
        return Err(EngineError::invalid(Field::FreshAtLeast, problem));
    }
    Ok(())
}

fn column(columns: &Columns<'_>, name: &str, field: Field) -> Result<usize, EngineError> {
    columns.find(name).ok_or_else(|| {
        let known = columns.schema().iter().map(|column| column.name.as_str());
        EngineError::invalid(field, FilterProblem::unknown_attribute(name, known).to_string())
    })
}
