//! The measurements of the quality gate: measures a generation before it answers, and compares it with the current one.
//!
//! Both are searched with the same query vectors at the default effort of the new one: recall against exact scans, the
//! overlap of their results, and latency. Every node of the graph must be reachable.

use std::time::Instant;

use crate::base::hits::hits;
use crate::base::id::VideoId;
use crate::base::interrupt::Interrupt;
use crate::dataset::{EmbeddingsView, Rows};
use crate::engine::options::GateOptions;
use crate::engine::publish::continuity::Next;
use crate::index::{GateFindings, Index, Refusal, RefusalReason};
use crate::recall::{ground_truth_of, hits_of};
use crate::search::{Effort, Hit, SearchParams, Searcher};

/// Runs per query. The fastest counts, which excludes most of the noise of other work on the machine.
const ROUNDS: usize = 3;
/// How many times the latency of both generations is measured again, alternately, as long as it is a reason to refuse.
/// Other work may take the processor or its caches for longer than all runs of a query.
const RETRIES: usize = 5;
/// Queries per thread between two checks for cancellation: as many as an exact scan scores per pass over the embeddings.
const AT_ONCE: usize = 64;
/// A shorter p99 latency is never a problem: differences are noise.
const LEAST_P99_NS: u64 = 250_000;
/// A recall that is lower than another by at most this is no worse: about two standard errors of their difference over
/// [`GateOptions::queries`] queries.
const RECALL_NOISE: f64 = 0.02;
const MILLION: f64 = 1e6;

/// Query vectors to measure with.
pub(crate) struct GateQueries {
    /// `[n × dim]`; may be empty.
    pub(crate) vectors: Vec<f32>,
    /// A description of their origin, or why there are none.
    pub(crate) source: String,
}

/// Measures `next` on the current rayon pool, and the current generation (number and index) if the two can be compared.
/// Returns `None` once `keep_going` returns false.
pub(crate) fn measure(
    next: Next<'_>,
    current: Option<(u64, &Index)>,
    queries: &GateQueries,
    options: &GateOptions,
    keep_going: &(dyn Fn() -> bool + Sync),
) -> Option<GateFindings> {
    let index = next.index;
    let count = queries.vectors.len() / index.dim();
    let mut found = GateFindings {
        unreachable: unreachable(index),
        queries: count as u32,
        source: queries.source.clone(),
        ..GateFindings::default()
    };
    if count == 0 {
        return Some(found);
    }
    let k = options.k.clamp(1, index.len());
    // The same for both: what differs is then due to the graphs.
    let effort = SearchParams::default_effort(k, next.curves, usize::MAX);
    let params = SearchParams::new(k, effort).expect("k is at least 1");
    let subject = Subject { index, queries: &queries.vectors, params };
    let mut of_index = subject.measure(keep_going)?;
    (found.k, found.ef_search) = (k as u32, subject.ef_search());
    found.recall_ppm = of_index.recall_ppm;
    found.p99_ns = of_index.p99_ns();
    let Some((generation, current)) = current.filter(|(_, current)| current.len() >= k) else {
        return Some(found);
    };
    let current = Subject { index: current, queries: &queries.vectors, params };
    let mut of_current = current.measure(keep_going)?;
    found.current = generation;
    found.current_recall_ppm = Some(of_current.recall_ppm);
    found.current_p99_ns = Some(of_current.p99_ns());
    for _ in 0..RETRIES {
        if !is_slow(&found, options) {
            break;
        }
        current.time_again(&mut of_current.times, keep_going)?;
        subject.time_again(&mut of_index.times, keep_going)?;
        found.p99_ns = of_index.p99_ns();
        found.current_p99_ns = Some(of_current.p99_ns());
    }
    let shared = |(ours, theirs): (&Scored, &Scored)| {
        let videos: Vec<VideoId> = theirs.iter().map(|(video, _)| *video).collect();
        hits(index.metadata().metric, ours.iter().copied(), &videos, |at| theirs[at].1)
    };
    let shared: usize = of_index.videos.iter().zip(&of_current.videos).map(shared).sum();
    let all: usize = of_current.videos.iter().map(Vec::len).sum();
    found.overlap_ppm = Some(ppm(shared, all));
    Some(found)
}

/// Returns what the measurements say against a generation.
pub(crate) fn judge(found: &GateFindings, is_same_model: bool, options: &GateOptions) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    let mut refuse = |reason, problem| refusals.push(Refusal { reason, problem });
    if found.unreachable > 0 {
        let problem =
            format!("expected every node to be reachable, found {} that are not", found.unreachable);
        refuse(RefusalReason::Reachability, problem);
    }
    if found.queries == 0 {
        return refusals;
    }
    let share = |ppm: u32| f64::from(ppm) / MILLION;
    let (k, recall) = (found.k, share(found.recall_ppm));
    let before = found.current_recall_ppm.map(share);
    // Of queries that no graph answers well, the current generation finds no more.
    let is_no_worse = before.is_some_and(|before| recall >= before - RECALL_NOISE);
    if recall < options.min_recall && !is_no_worse {
        let least = options.min_recall;
        let problem = format!("expected a recall@{k} of at least {least}, found {recall:.4}");
        refuse(RefusalReason::Recall, problem);
    }
    if let Some(before) = before
        && recall < before - options.max_recall_loss
    {
        let most = options.max_recall_loss;
        let problem = format!("expected a recall@{k} of {before:.4} less at most {most}, found {recall:.4}");
        refuse(RefusalReason::Recall, problem);
    }
    if let Some(overlap) = found.overlap_ppm.map(share)
        && is_same_model
        && overlap < options.min_overlap
    {
        let least = options.min_overlap;
        let problem = format!("expected at least {least} of the answers of before, found {overlap:.4}");
        refuse(RefusalReason::Overlap, problem);
    }
    if let Some(before) = found.current_p99_ns
        && is_slow(found, options)
    {
        let (ratio, before, found) = (options.max_p99_ratio, before / 1000, found.p99_ns / 1000);
        let problem = format!("expected a p99 of at most {ratio} times {before} us, found {found} us");
        refuse(RefusalReason::Latency, problem);
    }
    refusals
}

/// Whether the latency is a reason to refuse.
fn is_slow(found: &GateFindings, options: &GateOptions) -> bool {
    let ratio = options.max_p99_ratio;
    let is_slower = |before: u64| found.p99_ns as f64 > before as f64 * ratio;
    ratio > 0.0 && found.p99_ns > LEAST_P99_NS && found.current_p99_ns.is_some_and(is_slower)
}

fn unreachable(index: &Index) -> u32 {
    if !index.has_graph() {
        return 0;
    }
    index.graph().reachable().into_iter().filter(|reached| !reached).count() as u32
}

fn ppm(part: usize, whole: usize) -> u32 {
    if whole == 0 { MILLION as u32 } else { (part as f64 / whole as f64 * MILLION).round() as u32 }
}

/// A generation to measure.
struct Subject<'a> {
    index: &'a Index,
    /// `[n × dim]`.
    queries: &'a [f32],
    params: SearchParams,
}

/// Videos with their scores.
type Scored = Vec<(VideoId, f32)>;

/// The results of one generation.
struct Answers {
    /// Results of each query.
    videos: Vec<Scored>,
    recall_ppm: u32,
    /// Nanoseconds of the fastest run of each query.
    times: Vec<u64>,
}

impl Answers {
    fn p99_ns(&self) -> u64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        times[(times.len() * 99).div_ceil(100) - 1]
    }
}

impl Subject<'_> {
    fn ef_search(&self) -> u32 {
        match self.params.effort() {
            Effort::EfSearch(ef_search) => ef_search as u32,
            Effort::Exact => 0,
        }
    }

    /// Returns `None` once `keep_going` returns false.
    fn measure(&self, keep_going: &(dyn Fn() -> bool + Sync)) -> Option<Answers> {
        let (index, k) = (self.index, self.params.k());
        let searcher = Searcher::default();
        let (mut videos, mut times, mut right, mut wanted) = (Vec::new(), Vec::new(), 0, 0);
        for some in self.queries.chunks(index.dim() * AT_ONCE * rayon::current_num_threads()) {
            if !keep_going() {
                return None;
            }
            let queries = EmbeddingsView::F32(Rows::contiguous(some, index.dim()));
            let truth = ground_truth_of(index, queries, k, |_| {});
            for (row, query) in some.chunks_exact(index.dim()).enumerate() {
                let (hits, fastest) = self.run(&searcher, query);
                right += hits_of(index, query, &hits, truth.row(row));
                videos
                    .push(hits.iter().map(|hit| (index.video_ids()[hit.node.index()], hit.score)).collect());
                times.push(fastest);
            }
            wanted += truth.rows * truth.k;
        }
        Some(Answers { videos, recall_ppm: ppm(right, wanted), times })
    }

    /// Runs every query again and keeps the lower of its times. Returns `None` once `keep_going` returns false.
    fn time_again(&self, times: &mut [u64], keep_going: &(dyn Fn() -> bool + Sync)) -> Option<()> {
        let searcher = Searcher::default();
        for (query, time) in self.queries.chunks_exact(self.index.dim()).zip(times) {
            if !keep_going() {
                return None;
            }
            *time = self.run(&searcher, query).1.min(*time);
        }
        Some(())
    }

    /// Returns the results of a query and the nanoseconds of the fastest of its runs.
    fn run(&self, searcher: &Searcher, query: &[f32]) -> (Vec<Hit>, u64) {
        let mut fastest = u64::MAX;
        let mut hits = Vec::new();
        for _ in 0..ROUNDS {
            let began = Instant::now();
            hits = searcher.search(self.index, query, &self.params, &mut Interrupt::never()).hits;
            fastest = fastest.min(began.elapsed().as_nanos() as u64);
        }
        (hits, fastest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_threshold_speaks_against_a_generation() {
        let options = GateOptions { min_overlap: 0.5, ..GateOptions::default() };
        let fine = GateFindings {
            queries: 100,
            k: 100,
            recall_ppm: 950_000,
            current_recall_ppm: Some(960_000),
            overlap_ppm: Some(700_000),
            p99_ns: 900_000,
            current_p99_ns: Some(400_000),
            ..GateFindings::default()
        };
        assert_eq!(judge(&fine, true, &options), []);
        let problem = |found: GateFindings| match judge(&found, true, &options).as_slice() {
            [one] => (one.reason, one.problem.clone()),
            other => panic!("{other:?}"),
        };
        let found = problem(GateFindings { unreachable: 3, ..fine.clone() });
        assert_eq!(found.0, RefusalReason::Reachability);
        assert_eq!(found.1, "expected every node to be reachable, found 3 that are not");
        let found = problem(GateFindings { recall_ppm: 790_000, current_recall_ppm: None, ..fine.clone() });
        assert_eq!(found.0, RefusalReason::Recall);
        assert_eq!(found.1, "expected a recall@100 of at least 0.8, found 0.7900");
        // Worse than the current generation by no more than the allowed loss, and below the least recall.
        let weak = GateFindings { recall_ppm: 650_000, current_recall_ppm: Some(690_000), ..fine.clone() };
        assert_eq!(problem(weak.clone()).1, "expected a recall@100 of at least 0.8, found 0.6500");
        assert_eq!(judge(&GateFindings { current_recall_ppm: Some(665_000), ..weak }, true, &options), []);
        let found = problem(GateFindings { recall_ppm: 900_000, ..fine.clone() });
        assert_eq!(found.1, "expected a recall@100 of 0.9600 less at most 0.05, found 0.9000");
        let other_videos = GateFindings { overlap_ppm: Some(400_000), ..fine.clone() };
        assert_eq!(
            problem(other_videos.clone()),
            (
                RefusalReason::Overlap,
                "expected at least 0.5 of the answers of before, found 0.4000".to_owned()
            )
        );
        assert_eq!(judge(&other_videos, false, &options), []);
        let slow = GateFindings { p99_ns: 1_300_000, ..fine.clone() };
        let found = problem(slow.clone());
        assert_eq!(found.0, RefusalReason::Latency);
        assert_eq!(found.1, "expected a p99 of at most 3 times 400 us, found 1300 us");
        let any = GateOptions { max_p99_ratio: 0.0, ..options.clone() };
        assert_eq!(judge(&slow, true, &any), []);
        // Too short to tell from noise.
        let short = GateFindings { p99_ns: 90_000, current_p99_ns: Some(9_000), ..fine };
        assert_eq!(judge(&short, true, &options), []);
    }
}
