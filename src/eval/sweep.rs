//! Measures recall against latency: every k at every effort, over the same queries.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::provenance::Provenance;
use super::report::{Report, SweepRow};
use super::times::{PASSES, Times, share};
use crate::base::id::NodeId;
use crate::base::interrupt::Interrupt;
use crate::dataset::{EmbeddingsView, Neighbors};
use crate::graph::Cost;
use crate::index::{Codes, Index, Manifest, SectionKind};
use crate::recall::{hits_of, hits_within};
use crate::search::{Effort, Found, Hit, Plan, SearchParams, SearchParamsError, Searcher};

/// After the last effort, each one is this much larger than the one before: `ef_search + ef_search / 2`.
const GROWTH: usize = 2;
/// Efforts in a row without a gain in recall, after which a sweep ends.
const WITHOUT_GAIN: usize = 2;

/// What to measure.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Every k.
    pub k: Vec<usize>,
    /// Every `ef_search`, ascending; k if empty.
    pub ef_search: Vec<usize>,
    /// Whether efforts are added, and dropped, so that the sweep ends where recall does: where it is 1, where two efforts
    /// of at least k gained nothing, where all videos are scored, or where `ef_search` is their number.
    pub to_the_end: bool,
    /// What counts as a hit.
    pub hits: Hits,
    /// The plan; `None` lets the planner choose.
    pub plan: Option<Plan>,
    /// Threads that search at once.
    pub threads: usize,
    /// Maximum number of queries, taken from the start.
    pub limit: Option<usize>,
}

/// What counts as a hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hits {
    /// An exact neighbor, or a video with the score of one that is lacking.
    Equal,
    /// The definition of ann-benchmarks: a video that is at most 0.001 farther than the last exact neighbor. The recall by
    /// [`Hits::Equal`] is measured as well.
    Near,
}

/// Why nothing can be measured.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The queries belong to another index.
    #[error("queries: expected {expected} dimensions as in the index, found {found}")]
    Dimension {
        /// Dimensions of the index.
        expected: usize,
        /// Dimensions of the queries.
        found: usize,
    },
    /// The ground truth belongs to other queries.
    #[error("ground truth: expected one row for each of {expected} queries, found {found}")]
    GroundTruthRows {
        /// Number of queries.
        expected: usize,
        /// Rows of the ground truth.
        found: usize,
    },
    /// The ground truth is too short for a k.
    #[error("ground truth: expected at least k = {k} neighbors per query, found {found}")]
    GroundTruthK {
        /// The requested k.
        k: usize,
        /// Neighbors per query.
        found: usize,
    },
    /// The ground truth belongs to another catalog.
    #[error("ground truth: expected rows below {rows}, found {found}")]
    GroundTruthRange {
        /// Videos in the index.
        rows: usize,
        /// The row out of range.
        found: u32,
    },
    /// An invalid k or effort.
    #[error(transparent)]
    Params(#[from] SearchParamsError),
    /// An input is empty.
    #[error("{0}: expected at least one")]
    Nothing(&'static str),
}

impl Sweep {
    /// Checks that index, queries and ground truth belong together, and that there is something to measure.
    ///
    /// # Errors
    /// [`SweepError`] for the first mismatch.
    pub fn check(
        &self,
        index: &Index,
        queries: EmbeddingsView<'_>,
        truth: &Neighbors,
    ) -> Result<(), SweepError> {
        let (expected, found) = (index.dim(), queries.dim());
        if found != expected {
            return Err(SweepError::Dimension { expected, found });
        }
        let (expected, found) = (queries.len(), truth.rows);
        if found != expected {
            return Err(SweepError::GroundTruthRows { expected, found });
        }
        if let Some(k) = self.k.iter().find(|k| **k > truth.k) {
            return Err(SweepError::GroundTruthK { k: *k, found: truth.k });
        }
        if let Some(found) = truth.data.iter().find(|row| **row as usize >= index.len()) {
            return Err(SweepError::GroundTruthRange { rows: index.len(), found: *found });
        }
        match (self.k.is_empty(), self.threads, self.limit) {
            (true, ..) => Err(SweepError::Nothing("k")),
            (_, 0, _) => Err(SweepError::Nothing("threads")),
            (.., Some(0)) => Err(SweepError::Nothing("limit")),
            _ => Ok(()),
        }
    }
}

/// Measures `index` on `queries` against their exact neighbors. Calls `done` with each row.
///
/// # Errors
/// If queries, ground truth and index do not belong together.
pub fn sweep(
    index: &Index,
    manifest: &Manifest,
    queries: EmbeddingsView<'_>,
    truth: &Neighbors,
    plan: &Sweep,
    mut done: impl FnMut(&SweepRow),
) -> Result<Report, SweepError> {
    plan.check(index, queries, truth)?;
    let count = plan.limit.map_or(queries.len(), |limit| limit.min(queries.len()));
    let queries: Vec<Vec<f32>> = (0..count)
        .map(|row| {
            let mut query = Vec::new();
            queries.copy_row(row, &mut query);
            query
        })
        .collect();
    let truth = &nodes_of(index, truth);
    let searcher = Searcher::default();
    let mut rows = Vec::new();
    for k in &plan.k {
        let mut efforts = Efforts::of(plan, *k, index.len());
        while let Some(ef_search) = efforts.next() {
            let params = SearchParams::new(*k, Effort::EfSearch(ef_search))?.with_plan(plan.plan);
            let passes = (0..PASSES).map(|_| pass(index, &searcher, &queries, truth, &params, plan));
            let best = passes.min_by_key(|pass| pass.times.elapsed).expect("there is at least one pass");
            efforts.measured(best.hits, count * k, best.scores_all);
            let row = best.into_row(*k, ef_search, count, plan.hits);
            done(&row);
            rows.push(row);
        }
    }
    Ok(report(index, manifest, plan.threads, count, rows))
}

/// The efforts of one k, and whether another one could find more.
struct Efforts {
    /// Those to come, the next one last.
    listed: Vec<usize>,
    to_the_end: bool,
    k: usize,
    /// Videos in the index.
    rows: usize,
    last: usize,
    /// The most hits of an effort.
    most: usize,
    without_gain: usize,
    is_over: bool,
}

impl Efforts {
    fn of(plan: &Sweep, k: usize, rows: usize) -> Self {
        let mut listed = plan.ef_search.clone();
        if listed.is_empty() {
            listed.push(k);
        }
        listed.reverse();
        let to_the_end = plan.to_the_end;
        Self { listed, to_the_end, k, rows, last: 0, most: 0, without_gain: 0, is_over: false }
    }

    fn next(&mut self) -> Option<usize> {
        if self.is_over {
            return None;
        }
        let next = match self.listed.pop() {
            Some(listed) => listed,
            None if self.to_the_end => self.last + (self.last / GROWTH).max(1),
            None => return None,
        };
        self.last = if self.to_the_end { next.min(self.rows) } else { next };
        Some(self.last)
    }

    /// Takes the hits of the last effort, of which there can be `wanted`.
    fn measured(&mut self, hits: usize, wanted: usize, scores_all: bool) {
        if hits > self.most {
            (self.most, self.without_gain) = (hits, 0);
        } else if self.last >= self.k {
            self.without_gain += 1;
        }
        let is_last =
            hits == wanted || scores_all || self.last >= self.rows || self.without_gain == WITHOUT_GAIN;
        self.is_over = self.to_the_end && is_last;
    }
}

/// Returns the nodes of the rows of the catalog that are in `truth`.
fn nodes_of(index: &Index, truth: &Neighbors) -> Neighbors {
    let mut nodes = vec![0; index.len()];
    for node in 0..index.len() as u32 {
        let row = index.input_row(NodeId(node));
        nodes.get_mut(row as usize).into_iter().for_each(|of_row| *of_row = node);
    }
    let data = truth.data.iter().map(|row| nodes[*row as usize]).collect();
    Neighbors { rows: truth.rows, k: truth.k, data }
}

/// A report of the measured rows and the static figures of the index.
pub(super) fn report(
    index: &Index,
    manifest: &Manifest,
    threads: usize,
    queries: usize,
    rows: Vec<SweepRow>,
) -> Report {
    Report {
        engine: "shortlist".to_owned(),
        build_s: manifest.build_ms as f64 / 1000.0,
        bytes: index.bytes(),
        threads: Some(threads),
        queries: Some(queries),
        rows,
        videos: Some(index.len()),
        hot_bytes_per_vector: Some(hot_bytes(index) as f64 / index.len() as f64),
        sections: section_bytes(index),
        phases: manifest.build_phases.clone(),
        provenance: Some(Provenance::of_index(index, manifest)),
    }
}

/// Bytes of the sections that a traversal reads: codes (embeddings in an index without codes) and edges.
fn hot_bytes(index: &Index) -> u64 {
    let scored = match index.metadata().codes {
        Codes::None => SectionKind::Vectors,
        _ => SectionKind::Codes,
    };
    let lists =
        [SectionKind::Layer0Starts, SectionKind::Layer0, SectionKind::UpperNodes, SectionKind::UpperEdges];
    let hot = [&[scored], &lists[..]].concat();
    let sections = index.sections().iter().filter(|section| hot.contains(&section.kind));
    sections.map(|section| section.bytes).sum()
}

fn section_bytes(index: &Index) -> BTreeMap<String, u64> {
    let mut bytes = BTreeMap::new();
    for section in index.sections() {
        *bytes.entry(section.kind.name().to_owned()).or_default() += section.bytes;
    }
    bytes
}

/// The figures of one pass over all queries.
struct Pass {
    times: Times,
    hits: usize,
    /// By [`Hits::Equal`].
    equal_hits: usize,
    cost: Cost,
    /// Searches per plan.
    plans: BTreeMap<&'static str, usize>,
    /// Whether every search scored all videos.
    scores_all: bool,
}

impl Pass {
    fn empty() -> Self {
        let (cost, plans) = (Cost::default(), BTreeMap::new());
        Self { times: Times::none(), hits: 0, equal_hits: 0, cost, plans, scores_all: true }
    }

    /// Adds a search and the time that it took.
    fn add(&mut self, elapsed: Duration, found: &Found, hits: impl Fn(&[Hit]) -> (usize, usize)) {
        self.times.record(elapsed);
        let (hits, equal_hits) = hits(&found.hits);
        self.hits += hits;
        self.equal_hits += equal_hits;
        self.cost += found.cost;
        *self.plans.entry(found.plan.name()).or_default() += 1;
        self.scores_all &= found.plan.scores_all();
    }

    fn join(&mut self, other: Self) {
        self.times.join(other.times);
        self.hits += other.hits;
        self.equal_hits += other.equal_hits;
        self.cost += other.cost;
        other.plans.into_iter().for_each(|(plan, count)| *self.plans.entry(plan).or_default() += count);
        self.scores_all &= other.scores_all;
    }

    fn into_row(self, k: usize, ef_search: usize, queries: usize, hits: Hits) -> SweepRow {
        let per_query = |total: u64| Some(total as f64 / queries as f64);
        let recall = |hits: usize| hits as f64 / (queries * k) as f64;
        let share = |(plan, count): (&&str, &usize)| ((*plan).to_owned(), *count as f64 / queries as f64);
        SweepRow {
            k,
            ef_search: Some(ef_search),
            recall: recall(self.hits),
            equal_recall: (hits == Hits::Near).then(|| recall(self.equal_hits)),
            plan: self.plans.iter().max_by_key(|(_, count)| **count).map(|(plan, _)| (*plan).to_owned()),
            plans: self.plans.iter().map(share).collect(),
            distances: per_query(self.cost.distances),
            hops: per_query(self.cost.expanded),
            ..self.times.row()
        }
    }
}

fn pass(
    index: &Index,
    searcher: &Searcher,
    queries: &[Vec<f32>],
    // Nodes of the index.
    truth: &Neighbors,
    params: &SearchParams,
    plan: &Sweep,
) -> Pass {
    let by_thread = share(plan.threads, queries.len(), Pass::empty, |pass, query| {
        let started = Instant::now();
        let found = searcher.search(index, &queries[query], params, &mut Interrupt::never());
        pass.add(started.elapsed(), &found, |hits| {
            let (query, exact) = (&queries[query], &truth.row(query)[..params.k()]);
            let equal = hits_of(index, query, hits, exact);
            match plan.hits {
                Hits::Equal => (equal, equal),
                Hits::Near => (hits_within(index, query, hits, exact), equal),
            }
        });
    });
    let mut whole = Pass::empty();
    by_thread.into_iter().for_each(|pass| whole.join(pass));
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The efforts of a sweep of k = 100 over 5,000 videos, of which `hits` finds some of 100.
    fn swept(ef_search: &[usize], to_the_end: bool, hits: impl Fn(usize) -> (usize, bool)) -> Vec<usize> {
        let (k, ef_search) = (vec![100], ef_search.to_vec());
        let plan = Sweep { k, ef_search, to_the_end, hits: Hits::Equal, plan: None, threads: 1, limit: None };
        let mut efforts = Efforts::of(&plan, 100, 5_000);
        let mut swept = Vec::new();
        while let Some(ef_search) = efforts.next() {
            swept.push(ef_search);
            let (hits, scores_all) = hits(ef_search);
            efforts.measured(hits, 100, scores_all);
        }
        swept
    }

    #[test]
    fn a_sweep_goes_on_until_nothing_more_can_be_found() {
        // Recall 1.
        assert_eq!(
            swept(&[10, 100], true, |ef_search| ((ef_search / 5).min(100), false)),
            [10, 100, 150, 225, 337, 505]
        );
        // All videos are scored from here on.
        assert_eq!(swept(&[10, 100, 400, 900], true, |ef_search| (9, ef_search >= 400)), [10, 100, 400]);
        // Two efforts of at least k gain nothing.
        assert_eq!(swept(&[10, 20, 30, 100], true, |_| (7, false)), [10, 20, 30, 100, 150]);
        // A candidate list of all videos.
        let slowly = |ef_search: usize| (ef_search / 100, false);
        assert_eq!(swept(&[900], true, slowly), [900, 1350, 2025, 3037, 4555, 5000]);
    }

    #[test]
    fn listed_efforts_are_all_measured() {
        assert_eq!(swept(&[10, 900, 9_000], false, |_| (100, true)), [10, 900, 9_000]);
        assert_eq!(swept(&[], false, |_| (0, false)), [100]);
    }
}
