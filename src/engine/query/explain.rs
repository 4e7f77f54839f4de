//! Why a video is, or is not, in the answer to a request.

use jiff::Timestamp;

use crate::attributes::Columns;
use crate::base::id::{NodeId, VideoId};
use crate::base::interrupt::Interrupt;
use crate::engine::error::EngineError;
use crate::engine::options::Limits;
use crate::engine::query::request::{
    Budget, Candidate, Completeness, Effort, Explanation, Removal, Rule, SearchRequest,
};
use crate::engine::query::resolved_query::ResolvedQuery;
use crate::engine::query::snapshot::{Snapshot, is_over};
use crate::rules::{MatchError, failing_clause};
use crate::search::{Hit, Loss, NodeRules, Place, Searcher};

impl Snapshot {
    pub(crate) fn explain(
        &self,
        name: &str,
        searcher: &Searcher,
        limits: &Limits,
        (request, video): (&SearchRequest, VideoId),
        budget: &Budget,
    ) -> Result<Explanation, EngineError> {
        // What the request gets, and what it should get: whatever is wrong with it is found by that.
        let node = self.segments.node_of(video);
        let (answer, loss) = self.search_watching(name, searcher, limits, request, (node, budget))?;
        let exact_request = SearchRequest { effort: Effort::Exact, plan: None, ..request.clone() };
        let (exact, exact_loss) =
            self.search_watching(name, searcher, limits, &exact_request, (node, budget))?;
        let late =
            || if budget.is_cancelled() { EngineError::Cancelled } else { EngineError::DeadlineExceeded };
        // What was found until then says nothing of a video that was not.
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
        let query = ResolvedQuery::of((name, &self.segments), limits, &request.query, request.k)?;
        let mut is_over = is_over(budget);
        let mut interrupt = Interrupt::when(&mut is_over);
        let resolved = self.rules(name, limits, request, &query, &mut interrupt)?.ok_or_else(late)?;
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
                    if is_due && !in_exact_answer && rank.is_none() {
                        removal = self.kept_place(&query, &rules, &own, &exact.candidates);
                    }
                }
                // In a place that was kept for it, the better ones being passed over for that.
                Place::Capped(_) if in_exact_answer || rank.is_some() || is_earlier => {}
                Place::Capped(cap) => removal = Some(capped(request, cap)),
            }
        }
        if budget.is_cancelled() {
            return Err(EngineError::Cancelled);
        }
        Ok(Explanation {
            score: own.score,
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
    /// The part of the filter that the video does not meet; `None` if it was told to stop.
    fn filtered(
        &self,
        request: &SearchRequest,
        now: Timestamp,
        node: NodeId,
        interrupt: &mut Interrupt<'_>,
    ) -> Option<Removal> {
        let filter = request.rules.filter.as_ref();
        let (of, node) = self.segments.locate(node);
        let part = match filter.map(|filter| {
            failing_clause(filter, &Columns::of(&of.index), now, node, || !interrupt.should_stop())
        }) {
            Some(Err(MatchError::Interrupted)) => return None,
            Some(Ok(part)) => part,
            // Whatever else is wrong was found by the search.
            Some(Err(_)) | None => None,
        };
        let (field, part) = part.unwrap_or_else(|| ("filter".to_owned(), String::new()));
        Some(Removal { rule: Rule::Filter, field, reason: format!("does not match: {part}") })
    }

    /// The places that are kept for others, in the exact answer, where the video is good enough for it.
    fn kept_place(
        &self,
        query: &ResolvedQuery<'_>,
        rules: &NodeRules<'_>,
        own: &Hit,
        answer: &[Candidate],
    ) -> Option<Removal> {
        let is_fresh = |video| self.segments.node_of(video).is_some_and(|node| rules.is_fresh(node));
        let keeps = |interest: &usize| query.interests[*interest].at_least > 0;
        let fills = |candidate: &Candidate| {
            if rules.fresh_at_least > 0 && is_fresh(candidate.video_id) {
                return Some(Kept::Fresh);
            }
            candidate.interest.filter(keeps).map(Kept::Interest)
        };
        let worse = answer.iter().rev().take_while(|candidate| candidate.score <= own.score);
        // They may all be on earlier pages.
        let any = || match rules.fresh_at_least {
            0 => (0..query.interests.len()).find(keeps).map(Kept::Interest),
            _ => Some(Kept::Fresh),
        };
        let (field, whose) = match worse.filter_map(fills).next().or_else(any)? {
            Kept::Fresh => ("fresh".to_owned(), "fresh videos".to_owned()),
            Kept::Interest(at) => {
                (format!("query.interests.interests[{at}].min_share"), format!("videos of interest {at}"))
            }
        };
        let reason = format!("places are kept for {whose}, which score no more");
        Some(Removal { rule: Rule::KeptPlace, field, reason })
    }
}

/// What a place is kept for.
enum Kept {
    Fresh,
    Interest(usize),
}

/// The rule that keeps the video out, whatever the others are.
fn removal(rules: &NodeRules<'_>, video: VideoId, own: &Hit) -> Option<Removal> {
    let score = own.score;
    let located = rules.locate(own.node);
    let removal = |rule, field: &str, reason: String| Some(Removal { rule, field: field.to_owned(), reason });
    if rules.seeds.contains(&own.node) {
        return removal(Rule::Seed, "query.seeds", format!("video {video} is a seed"));
    }
    if located.segment.matches.is_some_and(|matches| !matches.nodes.contains(located.node.0)) {
        return removal(Rule::Filter, "filter", "does not match".to_owned());
    }
    if rules.exclusion.is_some_and(|exclusion| exclusion.contains(video)) {
        return removal(Rule::Exclude, "exclude", format!("video {video} is excluded"));
    }
    let threshold = rules.score_threshold.filter(|threshold| score < *threshold)?;
    removal(Rule::ScoreThreshold, "score_threshold", format!("scores {score}, expected {threshold} or more"))
}

fn capped(request: &SearchRequest, cap: usize) -> Removal {
    let Some(rule) = request.rules.caps.get(cap) else {
        return Removal { rule: Rule::Cap, field: "caps".to_owned(), reason: String::new() };
    };
    let (attribute, max) = (&rule.attribute, rule.max_per_value);
    let reason = format!("{max} better ones have the same value of {attribute}");
    Removal { rule: Rule::Cap, field: format!("caps[{cap}]"), reason }
}
