//! Nearly exact answers of many queries, from the groups of rows nearest to each.
//!
//! In: rows in groups, and queries. Out: the best rows of each query.

use super::coded::{CodedRows, PackedRows, TILE, Tile};
use super::groups::Groups;
use super::progress::{Progress, Silent};
use super::scan::{Best, Scan};
use crate::base::element::Element;
use crate::base::hits::hits;
use crate::base::metric::Metric;
use crate::base::parallel;
use crate::dataset::Neighbors;
use crate::graph::{Candidate, Score, Scorer, Selection, rescored};
use crate::quantize::Quantizer;

/// Sample of queries on which the number of groups to scan is tuned, the least number, and the recall to reach. The
/// number needed grows far slower than the number of groups.
const TUNING_QUERIES: usize = 64;
const LEAST_GROUPS: usize = 4;
const TUNING_RECALL: f64 = 0.95;
/// Maximum number of queries per task: bounds memory.
const BATCH: usize = 1 << 16;

/// The rows to search, and how.
pub(super) struct Answers<'a, T> {
    pub(super) rows: &'a CodedRows<T>,
    pub(super) metric: Metric,
    /// Answers per query.
    k: usize,
    /// For each group, the rows that are nearest to it.
    members: Vec<Vec<u32>>,
    centroids: PackedRows,
    quantizer: Quantizer,
}

impl<'a, T: Element> Answers<'a, T> {
    pub(super) fn new(rows: &'a CodedRows<T>, groups: &Groups, metric: Metric, k: usize) -> Self {
        let (centroids, quantizer) = PackedRows::of_vectors(&groups.centroids, rows.dim, metric);
        Self { rows, metric, k: k.min(rows.len()), members: groups.members(1), centroids, quantizer }
    }

    /// Returns the number of groups.
    pub(super) fn groups(&self) -> usize {
        self.members.len()
    }

    /// Returns how many groups to scan per query to reach [`TUNING_RECALL`], measured on a sample of `queries`,
    /// `[count × dim]`.
    pub(super) fn groups_needed(&self, queries: &[f32]) -> usize {
        let queries: Vec<&[f32]> = queries.chunks(self.rows.dim).collect();
        let step = queries.len().div_ceil(TUNING_QUERIES).max(1);
        let sample: Vec<f32> = queries.into_iter().step_by(step).flatten().copied().collect();
        let answers = |groups| self.find_best(&sample, self.k, groups, &Silent, |found| found);
        let exact = answers(self.groups());
        let nodes: Vec<u32> = exact.iter().map(Candidate::node).collect();
        let recall = |groups| {
            let hits = |(query, found): (usize, &[Candidate])| {
                let first = query * self.k;
                let found = found.iter().map(|found| (found.node(), found.score()));
                hits(self.metric, found, &nodes[first..first + self.k], |at| exact[first + at].score())
            };
            answers(groups).chunks(self.k).enumerate().map(hits).sum::<usize>() as f64 / exact.len() as f64
        };
        let mut groups = LEAST_GROUPS;
        while groups < self.groups() && recall(groups) < TUNING_RECALL {
            groups += groups.div_ceil(4);
        }
        groups.min(self.groups())
    }

    /// Returns the best rows by codes of each of `queries`, `[count × dim]`, from the `groups` whose centroids score best:
    /// `k` rows each, or all rows if there are fewer.
    pub(super) fn find(&self, queries: &[f32], groups: usize, progress: &dyn Progress) -> Neighbors {
        let data = self.find_best(queries, self.k, groups, progress, |found| found.node());
        Neighbors { rows: queries.len() / self.rows.dim, k: self.k, data }
    }

    /// The best rows of each of `queries` in full precision: all groups are scanned, and what may be among the
    /// best is scored again. A step of `progress` is a query in a group; after a cancellation, there is no answer.
    pub(super) fn find_exact(&self, queries: &[f32], progress: &dyn Progress) -> Neighbors {
        let (dim, vectors) = (self.rows.dim, &self.rows.vectors[..]);
        let promising = rescored(self.k).min(self.rows.len());
        let found = self.find_best(queries, promising, self.groups(), progress, |found| found.node());
        if progress.is_cancelled() {
            return Neighbors { rows: 0, k: self.k, data: Vec::new() };
        }
        let best_of = |row: usize| {
            let scorer = Scorer::new(self.metric, &queries[row * dim..(row + 1) * dim], vectors);
            let mut best = Best::new(self.k);
            let found = &found[row * promising..(row + 1) * promising];
            found.iter().for_each(|node| best.push(Candidate::new(*node, scorer.score(*node))));
            best.into_sorted().map(|found| found.node())
        };
        let count = queries.len() / dim;
        let exact = parallel::map_ranges(count, 1, |rows| rows.flat_map(best_of).collect::<Vec<u32>>());
        Neighbors { rows: count, k: self.k, data: exact.concat() }
    }

    /// Returns what `of` takes from the best `k` of each query, best first.
    fn find_best<R: Clone + Send>(
        &self,
        queries: &[f32],
        k: usize,
        groups: usize,
        progress: &dyn Progress,
        of: impl Fn(Candidate) -> R + Copy + Sync,
    ) -> Vec<R> {
        let count = queries.len() / self.rows.dim;
        let share = count.div_ceil(rayon::current_num_threads()).clamp(1, BATCH);
        let found = parallel::map_chunks(queries, share * self.rows.dim, 1, |_, share| {
            let best = self.find_share(share, k, groups, progress).into_iter();
            best.flat_map(Best::into_sorted).map(of).collect::<Vec<R>>()
        });
        found.concat()
    }

    fn find_share(&self, queries: &[f32], k: usize, groups: usize, progress: &dyn Progress) -> Vec<Best> {
        let queries: Vec<&[f32]> = queries.chunks(self.rows.dim).collect();
        let scanning = self.queries_by_group(&queries, k, groups);
        let mut scan = Scan::new(&self.rows.quantizer, &queries, k);
        let mut packed = PackedRows::default();
        for (members, scanning) in
            self.members.iter().zip(&scanning).filter(|(_, scanning)| !scanning.is_empty())
        {
            if progress.is_cancelled() {
                break;
            }
            packed.pack(self.rows, members, self.metric);
            scan.part(scanning, members, &packed);
            progress.advance(scanning.len() as u64);
        }
        scan.best
    }

    /// Returns for each group the queries that scan it: each query scans the `groups` whose centroids score best, or
    /// more if those do not have `k` rows together.
    fn queries_by_group(&self, queries: &[&[f32]], k: usize, groups: usize) -> Vec<Vec<u32>> {
        let mut scanning: Vec<Vec<u32>> = vec![Vec::new(); self.groups()];
        let (mut tile, mut selection) = <(Tile, Selection)>::default();
        for (first, queries) in queries.chunks(TILE).enumerate() {
            let queries = queries.iter().copied();
            let scores = tile.score_queries(&self.quantizer, queries, &self.centroids);
            for (offset, scores) in scores.enumerate() {
                let query = (first * TILE + offset) as u32;
                let mut wanted = groups.max(1);
                let nearest = loop {
                    let nearest = selection.best(scores, wanted);
                    let rows: usize =
                        nearest.iter().map(|group| self.members[group.node() as usize].len()).sum();
                    if rows >= k || wanted >= scores.len() {
                        break nearest;
                    }
                    wanted *= 2;
                };
                nearest.iter().for_each(|group| scanning[group.node() as usize].push(query));
            }
        }
        scanning
    }
}
