//! Edges that users need (after NGFix, arXiv 2510.22316).
//!
//! A graph built between videos is walkable between videos; a user stands somewhere else. For each
//! training user take the true answers x1, x2, … best first: every one of them should be reachable from,
//! and should lead to, one that is better for this user. Where no such edge is, the one to the closest
//! better answer is asked for. What most users ask for is added first, while there are free slots.

use std::collections::HashMap;

use rayon::prelude::*;

use super::RowCodes;
use super::partition::{Partition, Questions};
use super::progress::Progress;
use crate::dataset::{EmbeddingsView, Neighbors};
use crate::element::Element;
use crate::graph::{CodeScorer, Graph, NONE, Score, Scorer, Scratch, rescored, traverse, widen};
use crate::index::{HeldOutRecall, TrainingReport};
use crate::metric::Metric;
use crate::quantize::QueryCodes;

/// True answers per user: what is asked for at once is rarely more.
const ANSWERS: usize = 100;
/// One user in so many is kept apart to measure with, and no more than [`MAX_HELD_OUT`].
const HOLD_OUT: usize = 10;
const MAX_HELD_OUT: usize = 1000;
/// What is measured with them: k and `ef_search`.
const MEASURED: [(usize, usize); 3] = [(10, 50), (10, 100), (100, 200)];

/// A sample of users, and where their answers are looked for.
pub(super) struct Lesson<'a> {
    users: EmbeddingsView<'a>,
    partition: Partition,
    metric: Metric,
    /// Rows of `users` that teach, and rows that measure.
    taught: Vec<usize>,
    held_out: Vec<usize>,
}

impl<'a> Lesson<'a> {
    /// Groups `vectors`, `[n × dim]`, and keeps every tenth user apart.
    pub(super) fn new<T: Element>(vectors: &[T], users: EmbeddingsView<'a>, metric: Metric) -> Self {
        let apart = HOLD_OUT.max(users.len().div_ceil(MAX_HELD_OUT));
        let (held_out, taught) = (0..users.len()).partition(|user| user % apart == apart - 1);
        Self { users, partition: Partition::new(vectors, users.dim()), metric, taught, held_out }
    }

    /// Adds the edges that the users ask for, and says how many.
    pub(super) fn teach<T: Element>(&self, graph: &mut Graph, vectors: &[T], progress: &dyn Progress) -> u64 {
        let questions = self.questions(vectors);
        let groups = self.partition.groups_needed(&questions);
        progress.begin("finding what users want", (self.taught.len() * groups) as u64);
        let answers = self.partition.answer(&questions, &self.taught, groups, progress);
        if progress.is_cancelled() {
            return 0;
        }
        progress.begin("adding edges for users", 1);
        add_edges(graph, vectors, self.users.dim(), &answers)
    }

    fn questions<'v, T: Element>(&'v self, vectors: &'v [T]) -> Questions<'v, T> {
        Questions { vectors, queries: self.users, metric: self.metric, k: ANSWERS }
    }

    /// The users that taught nothing, `[count × dim]`.
    pub(super) fn held_out_queries(&self) -> Vec<f32> {
        let (mut queries, mut user) =
            (Vec::with_capacity(self.held_out.len() * self.users.dim()), Vec::new());
        for row in &self.held_out {
            self.users.copy_row(*row, &mut user);
            queries.extend_from_slice(&user);
        }
        queries
    }

    /// Measures the finished graph on the users that taught nothing.
    pub(super) fn examine<T: Element>(
        &self,
        graph: &Graph,
        vectors: &[T],
        codes: Option<&RowCodes>,
        edges_added: u64,
    ) -> TrainingReport {
        let all = self.partition.groups();
        let exact = self.partition.answer(&self.questions(vectors), &self.held_out, all, &super::Silent);
        let view = graph.view();
        let hits = |scratch: &mut Scratch, row: usize, k: usize, ef_search: usize| {
            let mut user = Vec::new();
            self.users.copy_row(self.held_out[row], &mut user);
            let scorer = Scorer::new(self.metric, &user, vectors);
            match codes {
                Some(RowCodes { quantizer, codes }) => {
                    let mut query = QueryCodes::default();
                    quantizer.encode_query(&user, &mut query);
                    let coarse = CodeScorer::new(query.as_slice(), codes);
                    let mut stats = traverse(&view, &coarse, ef_search, scratch, || true).unwrap_or_default();
                    scratch.rescore(&scorer, rescored(k), &mut stats);
                }
                None => drop(traverse(&view, &scorer, ef_search, scratch, || true)),
            }
            let found = scratch.candidates.as_slice().iter().take(k);
            found.filter(|found| exact.row(row)[..k].contains(&found.node())).count()
        };
        let measure = |(k, ef_search): (usize, usize)| {
            let rows = (0..self.held_out.len()).into_par_iter();
            let hits: usize =
                rows.map_init(Scratch::default, |scratch, row| hits(scratch, row, k, ef_search)).sum();
            let recall = hits as f64 / (self.held_out.len() * k) as f64;
            HeldOutRecall { k: k as u32, ef_search: ef_search as u32, recall }
        };
        let measurable = MEASURED.into_iter().filter(|(k, _)| !self.held_out.is_empty() && *k <= exact.k);
        TrainingReport {
            users: self.taught.len() as u32,
            edges_added,
            held_out: self.held_out.len() as u32,
            recall: measurable.map(measure).collect(),
        }
    }
}

/// Adds the edges that `answers` ask for, and says how many. `vectors`: `[n × dim]`.
fn add_edges<T: Element>(graph: &mut Graph, vectors: &[T], dim: usize, answers: &Neighbors) -> u64 {
    let wanted = (0..answers.rows)
        .into_par_iter()
        .map_init(HashMap::new, |ranks, user| requests(graph, vectors, dim, answers.row(user), ranks));
    let mut wanted: Vec<(u32, u32)> = wanted.flatten_iter().collect();
    wanted.par_sort_unstable();
    let mut counted: Vec<(u32, u32, u32)> = Vec::new();
    for (from, to) in wanted {
        match counted.last_mut() {
            Some((last_from, count, last_to)) if (*last_from, *last_to) == (from, to) => *count += 1,
            _ => counted.push((from, 1, to)),
        }
    }
    counted.par_sort_unstable_by_key(|(from, count, to)| (*from, u32::MAX - count, *to));
    let mut added = 0;
    for (from, _, to) in counted {
        let start = from as usize * graph.m0;
        if let Some(slot) = graph.layer0[start..start + graph.m0].iter_mut().find(|slot| **slot == NONE) {
            *slot = to;
            added += 1;
        }
    }
    added
}

/// The edges that one user asks for, `(from, to)`.
fn requests<T: Element>(
    graph: &Graph,
    vectors: &[T],
    dim: usize,
    answers: &[u32],
    ranks: &mut HashMap<u32, usize>,
) -> Vec<(u32, u32)> {
    ranks.clear();
    ranks.extend(answers.iter().enumerate().map(|(rank, node)| (*node, rank)));
    let view = graph.view();
    let (mut reached, mut leads) = (vec![false; answers.len()], vec![false; answers.len()]);
    for (rank, node) in answers.iter().enumerate() {
        for other in view.lists().of(*node).iter().filter_map(|neighbor| ranks.get(neighbor)) {
            if rank < *other {
                reached[*other] = true;
            } else {
                leads[rank] = true;
            }
        }
    }
    let mut wanted = Vec::new();
    let mut scores = vec![0f32; answers.len()];
    for rank in 1..answers.len() {
        if reached[rank] && leads[rank] {
            continue;
        }
        let node = answers[rank];
        let start = node as usize * dim;
        let row = widen(&vectors[start..start + dim]);
        let scores = &mut scores[..rank];
        Scorer::new(Metric::L2, &row, vectors).score_rows(&answers[..rank], scores);
        let closest =
            (0..rank).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).map_or(answers[0], |at| answers[at]);
        if !reached[rank] {
            wanted.push((closest, node));
        }
        if !leads[rank] {
            wanted.push((node, closest));
        }
    }
    wanted
}
