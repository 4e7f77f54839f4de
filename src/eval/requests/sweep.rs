//! Recall against latency of requests with rules: every label at every k and effort.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::check::Check;
use super::exact::{ExactAnswer, ExactAnswers};
use super::file::{Request, Requests};
use super::target::{RequestSweepError, Target};
use crate::base::hits::hits;
use crate::base::metric::Metric;
use crate::base::parallel;
use crate::engine::{Budget, Completeness, Effort, SearchResponse};
use crate::eval::report::{Report, SweepRow};
use crate::eval::sweep::report;
use crate::eval::times::{PASSES, Times, share};
use crate::search::Plan;

/// Requests per batch. A batch is searched back to back before its answers are checked: the lookups of the check would
/// evict what the next search reads from the caches.
const BATCH: usize = 50;

/// What to measure.
#[derive(Clone, Debug)]
pub struct RequestSweep {
    /// Every k.
    pub k: Vec<usize>,
    /// Every `ef_search`; k if empty and without the default effort.
    pub ef_search: Vec<usize>,
    /// Whether to measure the effort of a request that sets none, too.
    pub default_effort: bool,
    /// Plan of requests that do not name one; `None` lets the planner choose.
    pub plan: Option<Plan>,
    /// Threads that search at once.
    pub threads: usize,
}

/// An answer broke a rule of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Line of the request, from 1.
    pub line: usize,
    /// The rule and how the answer breaks it.
    pub problem: String,
}

impl RequestSweep {
    /// Searches every request once per k, so that invalid requests are reported before anything is measured.
    ///
    /// # Errors
    /// [`RequestSweepError`] for the first line that the engine refuses, or if there is nothing to measure.
    pub fn check(&self, target: &Target<'_>, requests: &Requests) -> Result<(), RequestSweepError> {
        match (self.k.is_empty(), self.threads, requests.all().is_empty()) {
            (true, ..) => return Err(RequestSweepError::Nothing("k")),
            (_, 0, _) => return Err(RequestSweepError::Nothing("threads")),
            (.., true) => return Err(RequestSweepError::Nothing("requests")),
            _ => {}
        }
        let ask = |request: &Request, k: usize, effort: Effort| {
            let search = request.search(target.name, k, effort, self.plan);
            let answer = target.engine.search(&search, &Budget::default());
            answer.map(drop).map_err(|error| RequestSweepError::refused(request, &error))
        };
        for k in &self.k {
            let efforts = self.efforts(*k);
            let least = self.ef_search.iter().copied().min();
            let least = least.map_or(efforts[0], Effort::EfSearch);
            let all = requests.all();
            let refused =
                parallel::find_map_first(all.len(), 1, |request| ask(&all[request], *k, least).err());
            refused.map_or(Ok(()), Err)?;
            efforts.iter().try_for_each(|effort| ask(&requests.all()[0], *k, *effort))?;
        }
        Ok(())
    }

    /// The number of searches of a measurement.
    pub fn searches(&self, requests: &Requests) -> usize {
        PASSES * self.points().count() * requests.all().len()
    }

    /// Every pair of k and effort.
    fn points(&self) -> impl Iterator<Item = (usize, Effort)> {
        self.k.iter().flat_map(|k| self.efforts(*k).into_iter().map(move |effort| (*k, effort)))
    }

    /// The default effort first. At least one.
    fn efforts(&self, k: usize) -> Vec<Effort> {
        let mut efforts: Vec<Effort> = self.default_effort.then_some(Effort::Default).into_iter().collect();
        efforts.extend(self.ef_search.iter().copied().map(Effort::EfSearch));
        if efforts.is_empty() { vec![Effort::EfSearch(k)] } else { efforts }
    }
}

/// Measures `target` on `requests` against their exact answers.
///
/// Calls `searched` with the number of searches of each batch, [`RequestSweep::searches`] in total, then `done` with each
/// row and its first violation of a rule.
///
/// Batches of different labels alternate, and the passes of a k and effort are spread over the run, so that a slow phase of
/// the machine affects everything that is compared.
///
/// # Errors
/// [`RequestSweepError`] for a line that the engine refuses.
pub fn sweep_requests(
    target: &Target<'_>,
    requests: &Requests,
    exact: &ExactAnswers,
    plan: &RequestSweep,
    searched: impl Fn(usize) + Sync,
    mut done: impl FnMut(&SweepRow, Option<&Violation>),
) -> Result<Report, RequestSweepError> {
    plan.check(target, requests)?;
    let batches = &batches(requests.labels())[..];
    let point = |(k, effort)| Point { target, requests, batches, exact, plan, k, effort };
    let points: Vec<_> = plan.points().map(point).collect();
    let mut best: Vec<Vec<Pass>> =
        points.iter().map(|point| point.pass(&searched)).collect::<Result<_, _>>()?;
    for _ in 1..PASSES {
        for (point, best) in points.iter().zip(&mut best) {
            for (best, again) in best.iter_mut().zip(point.pass(&searched)?) {
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

/// All requests at one k and effort.
struct Point<'a> {
    target: &'a Target<'a>,
    requests: &'a Requests,
    /// The label and the requests of each batch, from [`batches`].
    batches: &'a [(usize, &'a [usize])],
    exact: &'a ExactAnswers,
    plan: &'a RequestSweep,
    k: usize,
    effort: Effort,
}

/// The figures of one pass over the requests of one label.
struct Pass {
    /// Latency of each request. Kept as a list, since there may be as many labels as requests.
    latencies: Vec<Duration>,
    /// Candidates of the exact answers, and how many of them were found.
    wanted: usize,
    hits: usize,
    distances: u64,
    hops: u64,
    /// Sum of the lengths of candidate lists.
    ef_search: usize,
    /// Sum of matches of all filters, and number of requests with a filter.
    matches: usize,
    filters: usize,
    plans: BTreeMap<&'static str, usize>,
    short_answers: usize,
    violations: usize,
    /// The violation with the lowest line.
    violation: Option<Violation>,
    refused: Option<RequestSweepError>,
}

impl Point<'_> {
    /// Runs one pass. Returns its figures per label.
    fn pass(&self, searched: &(impl Fn(usize) + Sync)) -> Result<Vec<Pass>, RequestSweepError> {
        let empty = || self.requests.labels().iter().map(|_| Pass::empty()).collect::<Vec<_>>();
        let by_thread = share(self.plan.threads, self.batches.len(), empty, |passes, at| {
            let (label, batch) = self.batches[at];
            self.run(batch, &mut passes[label]);
            searched(batch.len());
        });
        let mut whole = empty();
        for passes in by_thread {
            whole.iter_mut().zip(passes).for_each(|(whole, pass)| whole.join(pass));
        }
        let refused = whole.iter_mut().find_map(|whole| whole.refused.take());
        refused.map_or(Ok(whole), Err)
    }

    fn run(&self, batch: &[usize], pass: &mut Pass) {
        let check = Check { index: self.target.index, started: self.requests.read_at() };
        let budget = Budget::default();
        let answers = batch.iter().map(|at| {
            let request = &self.requests.all()[*at];
            // Built right before the search: a server has also just received its request, so it is in the caches.
            let search = request.search(self.target.name, self.k, self.effort, self.plan.plan);
            let started = Instant::now();
            let answer = self.target.engine.search(&search, &budget);
            pass.latencies.push(started.elapsed());
            answer
        });
        let answers = answers.collect::<Vec<_>>();
        for (at, answer) in batch.iter().zip(answers) {
            let request = &self.requests.all()[*at];
            match answer {
                Ok(answer) => {
                    let exact = self.exact.get(*at, self.k);
                    pass.add(self.target.index.metadata().metric, &answer, exact);
                    if let Some(problem) = check.violation(request, self.k, &answer.candidates, exact) {
                        pass.violations += 1;
                        pass.keep(Violation { line: request.line, problem });
                    }
                }
                Err(error) => pass.refused = Some(RequestSweepError::refused(request, &error)),
            }
        }
    }
}

/// Returns batches of requests with the position of their label, ordered so that the batches of every label are spread
/// evenly over the pass.
fn batches(labels: &[(Option<String>, Vec<usize>)]) -> Vec<(usize, &[usize])> {
    let mut all = Vec::new();
    for (label, (_, members)) in labels.iter().enumerate() {
        let batches = members.chunks(BATCH);
        let count = batches.len() as f64;
        all.extend(batches.enumerate().map(|(at, batch)| (at as f64 / count, label, batch)));
    }
    all.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
    all.into_iter().map(|(_, label, batch)| (label, batch)).collect()
}

impl Pass {
    fn empty() -> Self {
        Self {
            latencies: Vec::new(),
            wanted: 0,
            hits: 0,
            distances: 0,
            hops: 0,
            ef_search: 0,
            matches: 0,
            filters: 0,
            plans: BTreeMap::new(),
            short_answers: 0,
            violations: 0,
            violation: None,
            refused: None,
        }
    }

    fn add(&mut self, metric: Metric, answer: &SearchResponse, exact: &ExactAnswer) {
        let found = answer.candidates.iter().map(|candidate| (candidate.video_id, candidate.score));
        self.wanted += exact.ids.len();
        self.hits += hits(metric, found, &exact.ids, |at| exact.scores[at]);
        self.distances += answer.stats.distances;
        self.hops += answer.stats.expanded;
        self.ef_search += answer.stats.ef_search;
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
        self.ef_search += other.ef_search;
        self.matches += other.matches;
        self.filters += other.filters;
        other.plans.into_iter().for_each(|(plan, count)| *self.plans.entry(plan).or_default() += count);
        self.short_answers += other.short_answers;
        self.violations += other.violations;
        other.violation.into_iter().for_each(|violation| self.keep(violation));
        self.refused = self.refused.take().or(other.refused);
    }

    /// Search time, summed over all threads.
    fn elapsed(&self) -> Duration {
        self.latencies.iter().sum()
    }

    fn row(&self, point: &Point<'_>) -> SweepRow {
        let requests = self.latencies.len();
        let mut times = Times::none();
        self.latencies.iter().for_each(|latency| times.record(*latency));
        // Threads work on several labels at once: each label is charged the search time divided by the threads.
        times.elapsed /= point.plan.threads.min(point.batches.len()) as u32;
        let share = |count: u64| count as f64 / requests as f64;
        let most = self.plans.iter().max_by_key(|(_, count)| **count);
        SweepRow {
            k: point.k,
            ef_search: Some(match point.effort {
                Effort::EfSearch(ef_search) => ef_search,
                _ => share(self.ef_search as u64).round() as usize,
            }),
            default_effort: point.effort == Effort::Default,
            // An empty exact answer counts as fully recalled.
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
    fn batches_of_all_labels_alternate_over_the_whole_pass() {
        let members = |first: usize, count| (first..first + count).collect::<Vec<_>>();
        let labels = [(None, members(0, 120)), (Some("few".to_owned()), members(120, 60))];
        let batches = batches(&labels);
        let of: Vec<_> = batches.iter().map(|(label, batch)| (*label, batch.len())).collect();
        assert_eq!(of, [(0, 50), (1, 50), (0, 50), (1, 10), (0, 20)]);
        let all: Vec<usize> = batches.iter().flat_map(|(_, batch)| batch.iter().copied()).collect();
        assert!((0..180).all(|request| all.contains(&request)) && all.len() == 180);
    }
}
