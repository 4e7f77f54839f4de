//! Rows in groups that lie close together, and the true answers of many queries from the groups near each.
//!
//! What flows in: rows and queries. What flows out: for each query its best rows, nearly all of them
//! right. A group fits into a second-level cache and is scanned for every query that wants it before
//! the next one is fetched, so that this is several times faster than scanning everything.

use rayon::prelude::*;

use super::progress::Progress;
use crate::dataset::{EmbeddingsView, Neighbors};
use crate::element::Element;
use crate::graph::{Candidate, CandidateList, Scorer, widen};
use crate::metric::Metric;

/// More groups than this cost more to choose among than they save.
const MAX_GROUPS: usize = 1024;
/// Rows per group that k-means looks at.
const SAMPLE_PER_GROUP: usize = 64;
const ITERATIONS: usize = 4;
/// Queries on which the number of groups to scan is chosen, and the recall it has to reach.
const TUNING_QUERIES: usize = 64;
const TUNING_RECALL: f64 = 0.95;

/// Queries, what they are asked of, and how.
#[derive(Clone, Copy)]
pub(super) struct Questions<'a, T> {
    /// `[n × dim]`: the rows that were grouped.
    pub(super) vectors: &'a [T],
    /// `[queries × dim]`.
    pub(super) queries: EmbeddingsView<'a>,
    pub(super) metric: Metric,
    /// Answers per query.
    pub(super) k: usize,
}

/// Rows grouped by k-means (Lloyd) under L2.
pub(super) struct Partition {
    /// `[groups × dim]`.
    centroids: Vec<f32>,
    members: Vec<Vec<u32>>,
}

impl Partition {
    /// Groups `vectors`, `[n × dim]`: the same way every time.
    pub(super) fn new<T: Element>(vectors: &[T], dim: usize) -> Self {
        let rows = vectors.len() / dim;
        let groups = (rows as f64).sqrt().ceil().clamp(1.0, MAX_GROUPS as f64) as usize;
        let step = (rows / (groups * SAMPLE_PER_GROUP)).max(1);
        let sample: Vec<u32> = (0..rows as u32).step_by(step).collect();
        let row = |row: u32| &vectors[row as usize * dim..(row as usize + 1) * dim];
        let seeds = (0..groups).map(|group| sample[group * sample.len() / groups]);
        let mut centroids: Vec<f32> =
            seeds.flat_map(|seed| row(seed).iter().map(|value| value.to_f32())).collect();
        for _ in 0..ITERATIONS {
            let nearest: Vec<usize> =
                sample.par_iter().map(|sampled| nearest(&centroids, row(*sampled))).collect();
            let (mut sums, mut counts) = (vec![0f64; centroids.len()], vec![0usize; groups]);
            for (sampled, group) in sample.iter().zip(nearest) {
                counts[group] += 1;
                let sum = &mut sums[group * dim..(group + 1) * dim];
                sum.iter_mut().zip(row(*sampled)).for_each(|(sum, value)| *sum += f64::from(value.to_f32()));
            }
            for (at, centroid) in centroids.iter_mut().enumerate() {
                // A group that lost all its rows stays where it was.
                if counts[at / dim] > 0 {
                    *centroid = (sums[at] / counts[at / dim] as f64) as f32;
                }
            }
        }
        let mut members = vec![Vec::new(); groups];
        let group_of: Vec<usize> = vectors.par_chunks(dim).map(|row| nearest(&centroids, row)).collect();
        for (row, group) in group_of.into_iter().enumerate() {
            members[group].push(row as u32);
        }
        Self { centroids, members }
    }

    /// How many groups there are.
    pub(super) fn groups(&self) -> usize {
        self.members.len()
    }

    /// How many groups to scan per query to find nearly all of its answers, measured on a few queries.
    pub(super) fn groups_needed<T: Element>(&self, questions: &Questions<'_, T>) -> usize {
        let queries = questions.queries;
        let step = queries.len().div_ceil(TUNING_QUERIES);
        let sample: Vec<usize> = (0..queries.len()).step_by(step).collect();
        let answers = |groups| self.answer(questions, &sample, groups, &super::Silent);
        let exact = answers(self.members.len());
        let recall = |groups| {
            let found = answers(groups);
            let hits = |row| found.row(row).iter().filter(|node| exact.row(row).contains(node)).count();
            (0..found.rows).map(hits).sum::<usize>() as f64 / exact.data.len() as f64
        };
        let mut groups = self.members.len().div_ceil(32);
        while groups < self.members.len() && recall(groups) < TUNING_RECALL {
            groups *= 2;
        }
        groups.min(self.members.len())
    }

    /// The best rows of each of `which` queries, from the `groups` whose centroids score best; all
    /// groups give the exact answer. Fewer where there are fewer rows.
    pub(super) fn answer<T: Element>(
        &self,
        questions: &Questions<'_, T>,
        which: &[usize],
        groups: usize,
        progress: &dyn Progress,
    ) -> Neighbors {
        let Questions { vectors, queries, metric, k } = *questions;
        let dim = queries.dim();
        let k = k.min(vectors.len() / dim);
        let share = which.len().div_ceil(rayon::current_num_threads()).max(1);
        let answer_share = |share: &[usize]| {
            let mut wide = vec![Vec::new(); share.len()];
            share.iter().zip(&mut wide).for_each(|(query, wide)| queries.copy_row(*query, wide));
            let mut wanting: Vec<Vec<u32>> = vec![Vec::new(); self.members.len()];
            for (query, wide) in wide.iter().enumerate() {
                for group in self.best_groups(wide, metric, groups, k) {
                    wanting[group].push(query as u32);
                }
            }
            let mut best: Vec<CandidateList> =
                (0..share.len()).map(|_| CandidateList::with_capacity(k)).collect();
            let (mut block, mut scores): (Vec<T>, Vec<f32>) = (Vec::new(), Vec::new());
            for (members, wanting) in self.members.iter().zip(&wanting) {
                if progress.is_cancelled() {
                    break;
                }
                block.clear();
                members.iter().for_each(|row| {
                    block.extend_from_slice(&vectors[*row as usize * dim..(*row as usize + 1) * dim]);
                });
                scores.resize(members.len(), 0.0);
                for query in wanting {
                    let best = &mut best[*query as usize];
                    Scorer::new(metric, &wide[*query as usize], &block).score_scan(0, &mut scores);
                    for (row, score) in members.iter().zip(&scores) {
                        if *score > best.threshold() {
                            best.insert(Candidate::new(*row, *score));
                        }
                    }
                }
                progress.advance(wanting.len() as u64);
            }
            let nodes = best.iter().flat_map(|best| best.as_slice().iter().map(|found| found.node()));
            nodes.collect::<Vec<u32>>()
        };
        let data = which.par_chunks(share).map(answer_share).collect::<Vec<_>>().concat();
        Neighbors { rows: which.len(), k, data }
    }

    /// The `wanted` groups whose centroids score best, and as many more as hold `k` rows together.
    fn best_groups(&self, query: &[f32], metric: Metric, wanted: usize, k: usize) -> Vec<usize> {
        let mut scores = vec![0f32; self.members.len()];
        Scorer::new(metric, query, &self.centroids).score_scan(0, &mut scores);
        let mut order: Vec<usize> = (0..self.members.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        let mut rows = 0;
        let enough = order.iter().position(|group| {
            rows += self.members[*group].len();
            rows >= k
        });
        order.truncate(wanted.max(enough.map_or(self.members.len(), |last| last + 1)));
        order
    }
}

/// The group whose centroid is nearest.
fn nearest<T: Element>(centroids: &[f32], row: &[T]) -> usize {
    let row = widen(row);
    let mut scores = vec![0f32; centroids.len() / row.len()];
    Scorer::new(Metric::L2, &row, centroids).score_scan(0, &mut scores);
    scores.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).map_or(0, |(group, _)| group)
}
