//! Why a video is, or is not, in the answer to a request.

use jiff::Timestamp;

use crate::attributes::Columns;
use crate::base::id::{NodeId, VideoId};
use crate::base::interrupt::Interrupt;
use crate::engine::error::EngineError;
use crate::engine::field::Field;
use crate::engine::query::context::RequestContext;
use crate::engine::query::request::{
    Candidate, Completeness, Effort, Explanation, Removal, Rule, SearchRequest,
};
use crate::engine::query::resolved_query::ResolvedQuery;
use crate::engine::query::snapshot::Snapshot;
use crate::rules::{MatchError, failing_clause};
use crate::search::{Hit, Loss, NodeRules, Place, similarity};

/// Similarities are computed in single precision.
const ROUNDING: f32 = 1e-6;

impl Snapshot {
    /// Explains why a video is or is not in the answer to a request. Scores every video.
    ///
    /// # Errors
    /// As [`Snapshot::search`], or if the video is not in the index.
    pub(crate) fn explain(
        &self,
        context: &RequestContext<'_>,
        request: &SearchRequest,
        video: VideoId,
    ) -> Result<Explanation, EngineError> {
        let RequestContext { name, searcher, budget, .. } = *context;
        // The answer that the request gets, and the exact one. These searches also find every error in the request.
        let node = self.segments.node_of(video);
        self.columns(&request.return_attributes)?;
        let request = &request.without_contents();
        let (answer, loss) = self.search(context, request, node)?;
        let exact_request = SearchRequest { effort: Effort::Exact, plan: None, ..request.clone() };
        let (exact, exact_loss) = self.search(context, &exact_request, node)?;
        let late =
            || if budget.is_cancelled() { EngineError::Cancelled } else { EngineError::DeadlineExceeded };
        // An incomplete answer says nothing about a video that is not in it.
        if [&answer, &exact].iter().any(|answer| answer.completeness == Completeness::Deadline) {
            return Err(late());
        }
        let unknown = || EngineError::NotInIndex { index: name.to_owned(), video };
        let node = node.ok_or_else(unknown)?;
        let place = |candidates: &[Candidate]| {
            candidates.iter().position(|candidate| candidate.video_id == video).map(|at| at + 1)
        };
        let rank = place(&answer.candidates);
        let in_exact_answer = place(&exact.candidates).is_some();
        let is_earlier = exact_loss == Some(Loss::EarlierPage);
        let query = ResolvedQuery::of(context, &self.segments, request)?;
        let mut is_over = context.is_over();
        let mut interrupt = Interrupt::when(&mut is_over);
        let resolved = self.rules(context, request, &query, &mut interrupt)?.ok_or_else(late)?;
        let segments = resolved.segments();
        let rules = resolved.of_nodes(&segments, &query.seeds);
        let own = searcher.score(&query.interests, &rules, node);
        let mut removal = match removal(&rules, video, &own) {
            Some(Removal { rule: Rule::Filter, .. }) => {
                Some(self.filtered(request, resolved.now, node, &mut interrupt).ok_or_else(late)?)
            }
            removal => removal,
        };
        let mut exact_rank = None;
        if removal.is_none() {
            match searcher.place(&query.interests, &rules, node, &mut interrupt).map_err(|_| late())? {
                Place::Rank(place) => {
                    exact_rank = Some(place);
                    let is_due = place <= request.offset + request.k && !is_earlier;
                    if !in_exact_answer && rank.is_none() && !is_earlier {
                        let candidates = &exact.candidates;
                        let kept_place = || self.kept_place(request, &query, &rules, &own, candidates);
                        removal = self.similar(request, &rules, node, candidates);
                        removal = removal.or_else(|| if is_due { kept_place() } else { None });
                        removal = removal.or_else(|| if is_due { similar_before(request) } else { None });
                    }
                }
                // It has a place that was kept for it, for which better ones were passed over.
                Place::Capped(_) if in_exact_answer || rank.is_some() || is_earlier => {}
                Place::Capped(cap) => removal = Some(capped(request, cap)),
            }
        }
        if budget.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        Ok(Explanation {
            score: own.score,
            terms: rules.terms(node),
            interest: query.has_interests.then_some(own.interest),
            exact_rank,
            in_exact_answer,
            rank,
            removal,
            loss: loss.filter(|loss| in_exact_answer || *loss == Loss::EarlierPage),
            generation: answer.generation,
            stats: answer.stats,
        })
    }
}

impl Snapshot {
    /// The clause of the filter that the video does not match; `None` if interrupted.
    fn filtered(
        &self,
        request: &SearchRequest,
        now: Timestamp,
        node: NodeId,
        interrupt: &mut Interrupt<'_>,
    ) -> Option<Removal> {
        let filter = request.rules.filter.as_ref();
        let (segment, node) = self.segments.locate(node);
        let clause = match filter
            .map(|filter| failing_clause(filter, &Columns::of(&segment.index), now, node, interrupt))
        {
            Some(Err(MatchError::Interrupted)) => return None,
            Some(Ok(clause)) => clause,
            // The search has reported any other error.
            Some(Err(_)) | None => None,
        };
        let (path, clause) = clause.unwrap_or_default();
        Some(Removal {
            rule: Rule::Filter,
            field: Field::Filter { path },
            reason: format!("does not match: {clause}"),
        })
    }

    /// The candidate that keeps the video out of the exact answer, since both are too similar.
    fn similar(
        &self,
        request: &SearchRequest,
        rules: &NodeRules<'_>,
        node: NodeId,
        answer: &[Candidate],
    ) -> Option<Removal> {
        let limit = request.rules.diversity?.max_similarity?;
        let similarity = |candidate: &Candidate| {
            let other = self.segments.node_of(candidate.video_id)?;
            Some((similarity(rules, node, other), candidate.video_id))
        };
        let most = answer.iter().filter_map(similarity).max_by(|one, other| one.0.total_cmp(&other.0));
        let (found, other) = most.filter(|(found, _)| *found > limit - ROUNDING)?;
        let reason = format!("its similarity to candidate {other} is {found}, expected at most {limit}");
        Some(Removal { rule: Rule::Diversity, field: Field::DiversityMaxSimilarity, reason })
    }

    /// The kept places that keep the video out of the exact answer, although its score suffices.
    fn kept_place(
        &self,
        request: &SearchRequest,
        query: &ResolvedQuery<'_>,
        rules: &NodeRules<'_>,
        own: &Hit,
        answer: &[Candidate],
    ) -> Option<Removal> {
        let reserves_of = |video| self.segments.node_of(video).map_or(0, |node| rules.reserves_of(node));
        let keeps = |interest: &usize| query.interests[*interest].at_least > 0;
        let reserve = |of: u32| {
            let mut kept = rules.reserves.iter().enumerate().filter(|(_, reserve)| reserve.at_least > 0);
            kept.find(|(at, _)| of >> at & 1 != 0).map(|(at, _)| Kept::Reserve(at))
        };
        let fills = |candidate: &Candidate| {
            let of_reserve = reserve(reserves_of(candidate.video_id));
            of_reserve.or_else(|| candidate.interest.filter(keeps).map(Kept::Interest))
        };
        let worse = answer.iter().rev().take_while(|candidate| candidate.score <= own.score);
        // The hits on kept places may all be on earlier pages.
        let any = || reserve(u32::MAX).or_else(|| (0..query.interests.len()).find(keeps).map(Kept::Interest));
        let has_fresh = request.rules.fresh.is_some();
        let (field, whose) = match worse.filter_map(fills).next().or_else(any)? {
            Kept::Reserve(0) if has_fresh => (Field::Fresh, "fresh videos".to_owned()),
            Kept::Reserve(at) => {
                let at = at - usize::from(has_fresh);
                (Field::Reserve(at), format!("videos of reserve {at}"))
            }
            Kept::Interest(at) => (Field::InterestMinShare(at), format!("videos of interest {at}")),
        };
        let reason = format!("places are kept for {whose}, which score no more");
        Some(Removal { rule: Rule::KeptPlace, field, reason })
    }
}

/// The diversity that keeps a video out of the exact answer, although its score suffices and no candidate of the page is too similar.
fn similar_before(request: &SearchRequest) -> Option<Removal> {
    let diversity = request.rules.diversity?;
    let (field, reason) = match (diversity.lambda, diversity.max_similarity) {
        (Some(_), _) => (Field::DiversityLambda, "candidates that differ more are preferred"),
        (None, Some(_)) => (Field::DiversityMaxSimilarity, "a candidate on an earlier page is too similar"),
        (None, None) => return None,
    };
    Some(Removal { rule: Rule::Diversity, field, reason: reason.to_owned() })
}

/// What a place is kept for.
enum Kept {
    /// Its position, after that of fresh videos if there is one.
    Reserve(usize),
    Interest(usize),
}

/// The rule that keeps the video out, independent of other videos.
fn removal(rules: &NodeRules<'_>, video: VideoId, own: &Hit) -> Option<Removal> {
    let score = own.score;
    let located = rules.locate(own.node);
    let removal = |rule, field, reason: String| Some(Removal { rule, field, reason });
    if rules.seeds.contains(&own.node) {
        return removal(Rule::Seed, Field::Seeds, format!("video {video} is a seed"));
    }
    if located.segment.matches.is_some_and(|matches| !matches.nodes.contains(located.node.0)) {
        return removal(Rule::Filter, Field::Filter { path: String::new() }, "does not match".to_owned());
    }
    if rules.exclusion.is_some_and(|exclusion| exclusion.contains(video)) {
        return removal(Rule::Exclude, Field::Exclude, format!("video {video} is excluded"));
    }
    let threshold = rules.score_threshold.filter(|threshold| score < *threshold)?;
    removal(
        Rule::ScoreThreshold,
        Field::ScoreThreshold,
        format!("scores {score}, expected {threshold} or more"),
    )
}

fn capped(request: &SearchRequest, cap: usize) -> Removal {
    let Some(rule) = request.rules.caps.get(cap) else {
        return Removal { rule: Rule::Cap, field: Field::Caps, reason: String::new() };
    };
    let (attribute, max) = (&rule.attribute, rule.max_per_value);
    let reason = format!("{max} better ones have the same value of {attribute}");
    Removal { rule: Rule::Cap, field: Field::Cap(cap), reason }
}
