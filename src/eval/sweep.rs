//! Measures recall against latency: every k at every effort, over the same queries.

use std::collections::BTreeMap;
use std::time::Instant;

use super::report::{Report, SweepRow};
use super::times::{PASSES, Times, share};
use crate::base::id::NodeId;
use crate::base::interrupt::Interrupt;
use crate::dataset::{EmbeddingsView, Neighbors};
use crate::graph::Cost;
use crate::index::{Codes, Index, Manifest, SectionKind};
use crate::recall::hits_of;
use crate::search::{Effort, Plan, SearchParams, SearchParamsError, Searcher};

/// What to measure.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Every k.
    pub k: Vec<usize>,
    /// Every `ef_search`; k if empty.
    pub ef_search: Vec<usize>,
    /// The plan; `None` lets the planner choose.
    pub plan: Option<Plan>,
    /// Threads that search at once.
    pub threads: usize,
    /// Maximum number of queries, taken from the start.
    pub limit: Option<usize>,
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
        let mut efforts = plan.ef_search.clone();
        if efforts.is_empty() {
            efforts.push(*k);
        }
        for ef_search in efforts {
            let params = SearchParams::new(*k, Effort::EfSearch(ef_search))?.with_plan(plan.plan);
            let passes = (0..PASSES).map(|_| pass(index, &searcher, &queries, truth, &params, plan.threads));
            let best = passes.min_by_key(|pass| pass.times.elapsed).expect("there is at least one pass");
            let row = best.into_row(*k, ef_search, count);
            done(&row);
            rows.push(row);
        }
    }
    Ok(report(index, manifest, plan.threads, count, rows))
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
    cost: Cost,
}

impl Pass {
    fn empty() -> Self {
        Self { times: Times::none(), hits: 0, cost: Cost::default() }
    }

    fn into_row(self, k: usize, ef_search: usize, queries: usize) -> SweepRow {
        let per_query = |total: u64| Some(total as f64 / queries as f64);
        SweepRow {
            k,
            ef_search: Some(ef_search),
            recall: self.hits as f64 / (queries * k) as f64,
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
    threads: usize,
) -> Pass {
    let by_thread = share(threads, queries.len(), Pass::empty, |pass, query| {
        let started = Instant::now();
        let found = searcher.search(index, &queries[query], params, &mut Interrupt::never());
        pass.times.record(started.elapsed());
        pass.hits += hits_of(index, &queries[query], &found.hits, &truth.row(query)[..params.k()]);
        pass.cost += found.cost;
    });
    let mut whole = Pass::empty();
    for pass in by_thread {
        whole.times.join(pass.times);
        whole.hits += pass.hits;
        whole.cost += pass.cost;
    }
    whole
}
