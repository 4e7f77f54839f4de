//! What requests take: every label with every k and effort.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rayon::prelude::*;

use super::check::Check;
use super::exact::{ExactAnswer, ExactAnswers};
use super::file::{Request, Requests};
use crate::engine::{Budget, Candidate, Completeness, Effort, Engine, EngineError, SearchResponse};
use crate::eval::report::{Report, SweepRow};
use crate::eval::sweep::report;
use crate::eval::times::{PASSES, Times, share};
use crate::index::{Index, Manifest};
use crate::search::Plan;

/// Requests that are asked one after the other before their answers are looked at: what is looked up for that would
/// take the place in the caches of what the next search reads.
const ASKED_AT_ONCE: usize = 50;

/// What answers.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Serves the index.
    pub engine: &'a Engine,
    /// The name that it serves it by.
    pub name: &'a str,
    /// The generation that it serves.
    pub index: &'a Index,
    /// Of that generation.
    pub manifest: &'a Manifest,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct RequestSweep {
    /// Every k.
    pub k: Vec<usize>,
    /// Every `ef_search`; k where there is none.
    pub ef_search: Vec<usize>,
    /// How to search for those that do not say; what seems fastest unless told.
    pub plan: Option<Plan>,
    /// Threads that search at once.
    pub threads: usize,
}

/// Why nothing can be measured.
#[derive(Debug, thiserror::Error)]
pub enum RequestSweepError {
    /// The engine does not answer one of the requests.
    #[error("line {line}: {source}")]
    Refused {
        /// Of the file, from 1.
        line: usize,
        /// Why it does not.
        r#source: EngineError,
    },
    /// There is nothing to do.
    #[error("{0}: expected at least one")]
    Nothing(&'static str),
}

impl RequestSweepError {
    /// The engine knows caps by their positions, the line by their attributes.
    pub(super) fn refused(request: &Request, error: EngineError) -> Self {
        let source = match error {
            EngineError::InvalidArgument { field, problem } => {
                let cap = cap_position(&field).and_then(|position| request.rules.caps.get(position));
                let named = cap.map(|cap| format!("caps.{}", cap.attribute));
                EngineError::InvalidArgument { field: named.unwrap_or(field), problem }
            }
            other => other,
        };
        Self::Refused { line: request.line, source }
    }
}

/// An answer broke a rule of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Of the request, from 1.
    pub line: usize,
    /// The rule and how it was broken.
    pub problem: String,
}

impl RequestSweep {
    /// Asks every request once with every k, so that what is wrong with one is known before anything is measured.
    ///
    /// # Errors
    /// The first line that the engine refuses, or that there is nothing to measure.
    pub fn check(&self, target: &Target<'_>, requests: &Requests) -> Result<(), RequestSweepError> {
        match (self.k.is_empty(), self.threads, requests.all().is_empty()) {
            (true, ..) => return Err(RequestSweepError::Nothing("k")),
            (_, 0, _) => return Err(RequestSweepError::Nothing("threads")),
            (.., true) => return Err(RequestSweepError::Nothing("requests")),
            _ => {}
        }
        let ask = |request: &Request, k: usize, ef_search: usize| {
            let search = request.search(target.name, k, Effort::EfSearch(ef_search), self.plan);
            let answer = target.engine.search(&search, &Budget::default());
            answer.map(drop).map_err(|error| RequestSweepError::refused(request, error))
        };
        for k in &self.k {
            let efforts = self.efforts(*k);
            let least = efforts.iter().copied().min().unwrap_or(*k);
            let refused = requests.all().par_iter().find_map_first(|request| ask(request, *k, least).err());
            refused.map_or(Ok(()), Err)?;
            efforts.iter().try_for_each(|ef_search| ask(&requests.all()[0], *k, *ef_search))?;
        }
        Ok(())
    }

    /// How many requests a measurement asks.
    pub fn asks(&self, requests: &Requests) -> usize {
        PASSES * self.points().count() * requests.all().len()
    }

    /// Every k with every effort.
    fn points(&self) -> impl Iterator<Item = (usize, usize)> {
        self.k.iter().flat_map(|k| self.efforts(*k).into_iter().map(move |ef_search| (*k, ef_search)))
    }

    fn efforts(&self, k: usize) -> Vec<usize> {
        if self.ef_search.is_empty() { vec![k] } else { self.ef_search.clone() }
    }
}

/// Measures `target` on `requests` against the exact answers to them; `asked` is told how many were asked, again and
/// again until those are [`RequestSweep::asks`], and then `done` of each row, and of the first answer of it that broke a
/// rule.
///
/// Labels take turns, and each k and effort has its passes at other times: on a machine that is slower for a while,
/// what is compared with each other is slower together.
///
/// # Errors
/// The line that the engine refuses.
pub fn sweep_requests(
    target: &Target<'_>,
    requests: &Requests,
    exact: &ExactAnswers,
    plan: &RequestSweep,
    asked: impl Fn(usize) + Sync,
    mut done: impl FnMut(&SweepRow, Option<&Violation>),
) -> Result<Report, RequestSweepError> {
    plan.check(target, requests)?;
    let turns = &turns(requests.labels())[..];
    let point = |(k, ef_search)| Point { target, requests, turns, exact, plan, k, ef_search };
    let points: Vec<_> = plan.points().map(point).collect();
    let mut best: Vec<Vec<Pass>> = points.iter().map(|point| point.pass(&asked)).collect::<Result<_, _>>()?;
    for _ in 1..PASSES {
        for (point, best) in points.iter().zip(&mut best) {
            for (best, again) in best.iter_mut().zip(point.pass(&asked)?) {
                if again.elapsed() < best.elapsed() {
                    *best = again;
                }
            }
        }
    }
    let mut rows = Vec::new();
    for (at, (label, _)) in requests.labels().iter().enumerate() {
        for (point, best) in points.iter().zip(&best) {
            let row = SweepRow { label: label.clone(), ..best[at].row(point) };
            done(&row, best[at].violation.as_ref());
            rows.push(row);
        }
    }
    Ok(report(target.index, target.manifest, plan.threads, requests.all().len(), rows))
}

/// All requests with one k and one effort.
struct Point<'a> {
    target: &'a Target<'a>,
    requests: &'a Requests,
    /// As [`turns`] has them.
    turns: &'a [(usize, &'a [usize])],
    exact: &'a ExactAnswers,
    plan: &'a RequestSweep,
    k: usize,
    ef_search: usize,
}

/// One run over those under a label.
struct Pass {
    /// What each took, from which quantiles are told at the end: there may be as many labels as requests.
    latencies: Vec<Duration>,
    /// Candidates of exact answers, and how many of them were found.
    wanted: usize,
    hits: usize,
    distances: u64,
    hops: u64,
    /// Videos that matched a filter, and requests that had one.
    matches: usize,
    filters: usize,
    plans: BTreeMap<&'static str, usize>,
    short_answers: usize,
    violations: usize,
    /// Of the first line that has one.
    violation: Option<Violation>,
    refused: Option<RequestSweepError>,
}

impl Point<'_> {
    /// A pass per label.
    fn pass(&self, asked: &(impl Fn(usize) + Sync)) -> Result<Vec<Pass>, RequestSweepError> {
        let empty = || self.requests.labels().iter().map(|_| Pass::empty()).collect::<Vec<_>>();
        let parts = share(self.plan.threads, self.turns.len(), empty, |parts, at| {
            let (label, batch) = self.turns[at];
            self.ask(batch, &mut parts[label]);
            asked(batch.len());
        });
        let mut whole = empty();
        for part in parts {
            whole.iter_mut().zip(part).for_each(|(whole, part)| whole.join(part));
        }
        let refused = whole.iter_mut().find_map(|whole| whole.refused.take());
        refused.map_or(Ok(whole), Err)
    }

    fn ask(&self, batch: &[usize], part: &mut Pass) {
        let check = Check { index: self.target.index, started: self.requests.read_at() };
        let budget = Budget::default();
        let effort = Effort::EfSearch(self.ef_search);
        let answers = batch.iter().map(|at| {
            let request = &self.requests.all()[*at];
            // Made no sooner: what a server searches for has just been received, and is in its caches.
            let search = request.search(self.target.name, self.k, effort, self.plan.plan);
            let started = Instant::now();
            let answer = self.target.engine.search(&search, &budget);
            part.latencies.push(started.elapsed());
            answer
        });
        let answers = answers.collect::<Vec<_>>();
        for (at, answer) in batch.iter().zip(answers) {
            let request = &self.requests.all()[*at];
            match answer {
                Ok(answer) => {
                    let exact = self.exact.get(*at, self.k);
                    part.add(&answer, exact);
                    if let Some(problem) = check.violation(request, self.k, &answer.candidates, exact) {
                        part.violations += 1;
                        part.keep(Violation { line: request.line, problem });
                    }
                }
                Err(error) => part.refused = Some(RequestSweepError::refused(request, error)),
            }
        }
    }
}

/// Of the cap that a path such as `caps[1].attribute` leads to.
fn cap_position(field: &str) -> Option<usize> {
    let (position, _) = field.strip_prefix("caps[")?.split_once(']')?;
    position.parse().ok()
}

/// Some requests of one label after some of another, each with the position of the label, so that those of all labels
/// are spread over the whole.
fn turns(labels: &[(Option<String>, Vec<usize>)]) -> Vec<(usize, &[usize])> {
    let mut turns = Vec::new();
    for (label, (_, members)) in labels.iter().enumerate() {
        let batches = members.chunks(ASKED_AT_ONCE);
        let count = batches.len() as f64;
        turns.extend(batches.enumerate().map(|(at, batch)| (at as f64 / count, label, batch)));
    }
    turns.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
    turns.into_iter().map(|(_, label, batch)| (label, batch)).collect()
}

impl Pass {
    fn empty() -> Self {
        Self {
            latencies: Vec::new(),
            wanted: 0,
            hits: 0,
            distances: 0,
            hops: 0,
            matches: 0,
            filters: 0,
            plans: BTreeMap::new(),
            short_answers: 0,
            violations: 0,
            violation: None,
            refused: None,
        }
    }

    fn add(&mut self, answer: &SearchResponse, exact: &ExactAnswer) {
        let is_hit = |candidate: &&Candidate| exact.ids.binary_search(&candidate.video_id).is_ok();
        self.wanted += exact.ids.len();
        self.hits += answer.candidates.iter().filter(is_hit).count();
        self.distances += answer.stats.distances;
        self.hops += answer.stats.expanded;
        self.matches += answer.stats.matches.unwrap_or_default();
        self.filters += usize::from(answer.stats.matches.is_some());
        *self.plans.entry(answer.stats.plan.name()).or_default() += 1;
        self.short_answers += usize::from(answer.completeness != Completeness::Complete);
    }

    fn keep(&mut self, violation: Violation) {
        if self.violation.as_ref().is_none_or(|known| violation.line < known.line) {
            self.violation = Some(violation);
        }
    }

    fn join(&mut self, other: Pass) {
        self.latencies.extend(other.latencies);
        self.wanted += other.wanted;
        self.hits += other.hits;
        self.distances += other.distances;
        self.hops += other.hops;
        self.matches += other.matches;
        self.filters += other.filters;
        other.plans.into_iter().for_each(|(plan, count)| *self.plans.entry(plan).or_default() += count);
        self.short_answers += other.short_answers;
        self.violations += other.violations;
        other.violation.into_iter().for_each(|violation| self.keep(violation));
        self.refused = self.refused.take().or(other.refused);
    }

    /// Of all threads together.
    fn elapsed(&self) -> Duration {
        self.latencies.iter().sum()
    }

    fn row(&self, point: &Point<'_>) -> SweepRow {
        let requests = self.latencies.len();
        let mut times = Times::none();
        self.latencies.iter().for_each(|latency| times.record(*latency));
        // Threads ask those of different labels meanwhile: each label has its share of all of them.
        times.elapsed /= point.plan.threads.min(point.turns.len()) as u32;
        let share = |count: u64| count as f64 / requests as f64;
        let most = self.plans.iter().max_by_key(|(_, count)| **count);
        SweepRow {
            k: point.k,
            ef_search: Some(point.ef_search),
            // Who wants nothing gets all of it.
            recall: if self.wanted == 0 { 1.0 } else { self.hits as f64 / self.wanted as f64 },
            distances: Some(share(self.distances)),
            hops: Some(share(self.hops)),
            requests: Some(requests),
            matches: (self.filters > 0).then(|| self.matches as f64 / self.filters as f64),
            plan: most.map(|(plan, _)| (*plan).to_owned()),
            plans: self
                .plans
                .iter()
                .map(|(plan, count)| ((*plan).to_owned(), share(*count as u64)))
                .collect(),
            short_answers: Some(self.short_answers),
            violations: Some(self.violations),
            ..times.row()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_take_turns_over_the_whole_pass() {
        let members = |first: usize, count| (first..first + count).collect::<Vec<_>>();
        let labels = [(None, members(0, 120)), (Some("few".to_owned()), members(120, 60))];
        let turns = turns(&labels);
        let of: Vec<_> = turns.iter().map(|(label, batch)| (*label, batch.len())).collect();
        assert_eq!(of, [(0, 50), (1, 50), (0, 50), (1, 10), (0, 20)]);
        let all: Vec<usize> = turns.iter().flat_map(|(_, batch)| batch.iter().copied()).collect();
        assert!((0..180).all(|request| all.contains(&request)) && all.len() == 180);
    }
}
