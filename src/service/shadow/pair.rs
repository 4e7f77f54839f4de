//! An index and its candidate, and what was found so far.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;

use super::candidate::{Candidate, Work, search_index};
use super::report::{Compared, Comparisons};
use crate::base::metric::Metric;
use crate::base::mix::mix;
use crate::base::priority::thread_time;
use crate::engine::{Engine, Pause};
use crate::service::convert::timestamp;
use crate::service::proto::{self, SearchRequest};

/// At most one in this many comparisons is also one with exact answers.
const EXACT_ONE_IN: u64 = 10;

/// An index and its candidate.
pub(super) struct Pair {
    pub(super) index: String,
    metric: Metric,
    candidate: Candidate,
    /// The candidate as the caller named it.
    named: proto::ShadowCandidate,
    share: f64,
    started_at: Timestamp,
    /// Searches since it began.
    searches: AtomicU64,
    skipped: AtomicU64,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    /// The generation of the index that the comparisons are of.
    generation: u64,
    compared: u64,
    failed: u64,
    problem: String,
    comparisons: Comparisons,
    /// The processor time of comparisons without exact answers, and of those with.
    time: Duration,
    exact_time: Duration,
}

/// What became of a search that was repeated.
pub(super) enum Outcome {
    /// Index and candidate took this long.
    Compared([Duration; 2]),
    Failed,
    /// The candidate is what serves now.
    Serves,
}

impl Pair {
    pub(super) fn new(
        index: &str,
        metric: Metric,
        candidate: Candidate,
        named: proto::ShadowCandidate,
        share: f64,
    ) -> Self {
        Self {
            index: index.to_owned(),
            metric,
            candidate,
            named,
            share,
            started_at: Timestamp::now(),
            searches: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            found: Mutex::default(),
        }
    }

    /// Counts a search, and returns whether it is one of those to repeat. Callers cannot predict which are.
    pub(super) fn takes(&self) -> bool {
        let number = self.searches.fetch_add(1, Ordering::Relaxed);
        mix(number) as f64 <= self.share * u64::MAX as f64
    }

    /// Counts a search that is left out.
    pub(super) fn skip(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// Repeats a search on both sides, and records what it finds. `pause`: of exact searches.
    pub(super) fn compare(&self, engine: &Engine, request: &SearchRequest, pause: &Pause) -> Outcome {
        let (number, is_exact) = {
            let found = self.found.lock();
            let number = found.compared + found.failed;
            // Exact answers take at most as long as the others, however large the index is.
            (number, number.is_multiple_of(EXACT_ONE_IN) && found.exact_time <= found.time)
        };
        let began = thread_time();
        // A panic would end the thread, and with it every comparison.
        let compared = catch_unwind(AssertUnwindSafe(|| {
            self.search_both(engine, request, number, is_exact.then_some(pause))
        }));
        let compared = compared.unwrap_or_else(|_| Err("a search panicked".to_owned()));
        let mut found = self.found.lock();
        let time = if is_exact { &mut found.exact_time } else { &mut found.time };
        *time += thread_time().saturating_sub(began);
        match compared {
            Ok((generation, _)) if self.candidate.is_generation(generation) => Outcome::Serves,
            Ok((generation, compared)) => {
                if found.generation != generation {
                    found.generation = generation;
                    found.comparisons = Comparisons::default();
                }
                found.compared += 1;
                found.comparisons.push(request.k as usize, compared);
                Outcome::Compared(compared.times())
            }
            Err(problem) => {
                found.failed += 1;
                if found.problem != problem {
                    tracing::warn!(index = self.index, problem, "a search of a shadow failed");
                    found.problem = problem;
                }
                Outcome::Failed
            }
        }
    }

    /// Searches index and candidate. Returns the generation of the index, too.
    fn search_both(
        &self,
        engine: &Engine,
        request: &SearchRequest,
        number: u64,
        exact: Option<&Pause>,
    ) -> Result<(u64, Compared), String> {
        let of_index = |work| search_index(engine, request, work).map_err(|error| format!("index: {error}"));
        let of_candidate = |work| {
            self.candidate.search(engine, request, work).map_err(|error| format!("candidate: {error}"))
        };
        // The second one may find more in the caches of the processor.
        let (index, candidate) = if number.is_multiple_of(2) {
            let index = of_index(Work::AsAsked)?;
            (index, of_candidate(Work::AsAsked)?)
        } else {
            let candidate = of_candidate(Work::AsAsked)?;
            (of_index(Work::AsAsked)?, candidate)
        };
        // Another server may not allow exact searches.
        let exact = exact.and_then(|pause| {
            let work = Work::Exact(pause.clone());
            Some((of_index(work.clone()).ok()?, of_candidate(work).ok()?))
        });
        let exact = exact.as_ref().map(|(index, candidate)| (index, candidate));
        Ok((index.generation, Compared::of(self.metric, &index, &candidate, exact)))
    }

    pub(super) fn report(&self) -> proto::Shadow {
        let found = self.found.lock();
        proto::Shadow {
            candidate: Some(self.named.clone()),
            share: self.share,
            started_at: Some(timestamp(self.started_at)),
            generation: found.generation,
            compared: found.compared,
            failed: found.failed,
            skipped: self.skipped.load(Ordering::Relaxed),
            problem: found.problem.clone(),
            comparisons: found.comparisons.summaries(),
        }
    }
}
