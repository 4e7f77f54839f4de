//! Edges for training queries.
//!
//! A graph built from rows alone is navigable between rows, but queries are distributed differently. Take the true answers
//! x1, x2, … of each training query, best first: every answer should be reachable from, and lead to, an answer that is
//! better for this query. If there is no such edge, the query needs an edge between the answer and its closest better
//! answer. The edges that the most queries need are added first, while there are free slots.

use std::sync::atomic::{AtomicU64, Ordering};

use super::answers::Answers;
use super::coded::{CodedRows, PackedRows, TILE, Tile};
use super::draft::Draft;
use super::groups::Groups;
use super::multiply::multiply;
use super::params::BuildParams;
use super::progress::Progress;
use crate::base::element::Element;
use crate::base::hits::hits;
use crate::base::interrupt::Interrupt;
use crate::base::metric::Metric;
use crate::base::parallel;
use crate::dataset::{EmbeddingsView, Neighbors};
use crate::graph::{
    Candidate, CodeScorer, Corrections, Graph, GraphView, LandmarkTable, Score as _, Scorer, Scratch, Width,
    rescored, traverse,
};
use crate::index::{HeldOutRecall, TrainingReport};
use crate::quantize::QueryCodes;

/// True answers per training query: searches rarely ask for more.
const ANSWERS: usize = 100;
/// At most one training query in this many is held out to measure recall, and at most [`MAX_HELD_OUT`].
const HOLD_OUT: usize = 10;
const MAX_HELD_OUT: usize = 2000;
/// Maximum number of training queries that the index keeps to teach the next build.
const MAX_KEPT: usize = 10_000;
/// The pairs of k and `ef_search` for which recall is measured.
const MEASURED: [(usize, usize); 3] = [(10, 50), (10, 100), (100, 200)];
/// A training query is lost if a search with this k and `ef_search` finds none of its best k answers.
const PROBE: (usize, usize) = (10, 50);
/// The largest number of training queries that are searched for.
const MAX_PROBED: usize = 2048;
/// How often they are searched for: an edge for one query may leave another one at a further cluster.
const PROBES: usize = 4;

/// The sample is augmented to one training query per `ROWS_PER_USER` rows; for small datasets, where it is cheap, to
/// min(`USERS_PER_ROW` × rows, `USERS_OF_FEW_ROWS`).
const ROWS_PER_USER: usize = 10;
const USERS_PER_ROW: usize = 2;
const USERS_OF_FEW_ROWS: usize = 100_000;
/// Nodes per task that adds edges.
const NODES_PER_TASK: usize = 1024;

/// Training queries, some of them held out, and the rows where their answers are searched.
pub(super) struct Teacher<'a, T> {
    answers: Answers<'a, T>,
    /// `[count × dim]`: the queries that teach, those of the sample first.
    taught: Vec<f32>,
    /// How many of them were generated from the sample.
    multiplied: usize,
    /// `[count × dim]`: the held-out queries.
    held_out: Vec<f32>,
}

impl<'a, T: Element> Teacher<'a, T> {
    /// Holds out every tenth query, and augments the others if the dataset needs more.
    pub(super) fn new(
        rows: &'a CodedRows<T>,
        groups: &Groups,
        users: EmbeddingsView<'_>,
        params: &BuildParams,
    ) -> Self {
        let every = HOLD_OUT.max(users.len().div_ceil(MAX_HELD_OUT));
        let (mut taught, mut held_out, mut user) = (Vec::new(), Vec::new(), Vec::new());
        let mut usable = 0;
        for row in 0..users.len() {
            users.copy_row(row, &mut user);
            // Zeros rank nothing: no edge helps such a user.
            if !params.metric.ranks_by_zeros() && user.iter().all(|value| *value == 0.0) {
                continue;
            }
            usable += 1;
            if usable % every == 0 { &mut held_out } else { &mut taught }.extend_from_slice(&user);
        }
        let enough = (rows.len() / ROWS_PER_USER).max(USERS_OF_FEW_ROWS.min(USERS_PER_ROW * rows.len()));
        let missing = enough.saturating_sub(taught.len() / rows.dim);
        let more = multiply(&taught, rows.dim, missing, params.seed);
        let multiplied = more.len() / rows.dim;
        taught.extend(more);
        Self { answers: Answers::new(rows, groups, params.metric, ANSWERS), taught, multiplied, held_out }
    }

    /// Whether the queries teach enough for a graph without the long edges of insertion: not a handful of them.
    pub(super) fn has_enough(&self) -> bool {
        self.multiplied > 0
            || self.taught.len() / self.answers.rows.dim >= self.answers.rows.len() / ROWS_PER_USER
    }

    /// Adds the edges that the training queries need, and returns how many, with the true answers of the queries.
    pub(super) fn teach(&self, draft: &mut Draft, progress: &dyn Progress) -> (u64, Neighbors) {
        let groups = self.answers.groups_needed(&self.taught);
        let users = self.taught.len() / self.answers.rows.dim;
        progress.begin("finding what users want", (users * groups) as u64);
        let answers = self.answers.find(&self.taught, groups, progress);
        if progress.is_cancelled() {
            return (0, answers);
        }
        progress.begin("adding edges for users", users as u64);
        (add_edges(draft, self.answers.rows, &answers, progress), answers)
    }

    /// Packs the graph. If a search for a training query finds none of its best `answers`, as between clusters that no edge
    /// connects, adds an edge from what it finds to the best answer. Returns the number of these edges.
    pub(super) fn link_lost(
        &self,
        draft: &mut Draft,
        answers: &Neighbors,
        landmarks: Option<&LandmarkTable>,
        by_codes: bool,
        progress: &dyn Progress,
    ) -> (Graph, u64) {
        let (k, ef_search) = PROBE;
        let users = self.taught.len() / self.answers.rows.dim - self.multiplied;
        let sample: Vec<usize> = (0..users).step_by(users.div_ceil(MAX_PROBED).max(1)).collect();
        let mut added = 0;
        for _ in 0..PROBES {
            let graph = draft.pack();
            let view = graph.view_with(landmarks);
            let lost = parallel::map_with(sample.len(), 1, Scratch::default, |scratch, at| {
                let answers = answers.row(sample[at]);
                let user = &self.taught[sample[at] * self.answers.rows.dim..][..self.answers.rows.dim];
                self.search(&view, user, (k, ef_search), by_codes, scratch);
                let is_found = |node: &u32| scratch.found.iter().any(|found| found.node() == *node);
                let is_lost = !answers.iter().take(k).any(is_found);
                is_lost.then(|| (scratch.found.iter().map(Candidate::node).collect::<Vec<u32>>(), answers[0]))
            });
            let before = added;
            for (found, best) in lost.into_iter().flatten() {
                let knows = |from: &u32| draft.layer0[*from as usize].contains(&best);
                if !found.iter().any(knows) {
                    added += u64::from(found.iter().any(|from| draft.link(*from, best)));
                }
            }
            if added == before || progress.is_cancelled() {
                return (graph, added);
            }
        }
        (draft.pack(), added)
    }

    /// Searches for a user as searches of the index do. Leaves the best `k` or more in `scratch.found`, best first.
    fn search(
        &self,
        graph: &GraphView<'_>,
        user: &[f32],
        (k, ef_search): (usize, usize),
        by_codes: bool,
        scratch: &mut Scratch,
    ) {
        let Answers { rows, metric, .. } = &self.answers;
        let scorer = Scorer::new(*metric, user, &rows.vectors);
        let width = Width { ef_search, at_least: k };
        if by_codes {
            let mut query = QueryCodes::default();
            rows.quantizer.encode_query(user, &mut query);
            let codes = rows.searched();
            let corrections = Corrections::of(&codes, query.affine()[0], || scorer);
            let coarse = CodeScorer::new(query.as_slice(), &rows.codes).corrected(corrections.as_ref());
            let mut cost = traverse(graph, user, &coarse, width, scratch, &mut Interrupt::never());
            scratch.collect(rescored(k));
            scratch.rescore(&scorer, &mut cost);
        } else {
            traverse(graph, user, &scorer, width, scratch, &mut Interrupt::never());
            scratch.collect(k);
        }
        scratch.found.sort_unstable();
    }

    /// Returns the queries that teach, `[count × dim]`.
    pub(super) fn taught(&self) -> &[f32] {
        &self.taught
    }

    /// Returns the held-out queries, `[count × dim]`.
    pub(super) fn held_out_queries(&self) -> Vec<f32> {
        self.held_out.clone()
    }

    /// Returns an evenly spaced sample of the queries that teach, without generated ones, `[count × dim]`.
    pub(super) fn kept_queries(&self) -> Vec<f32> {
        let dim = self.answers.rows.dim;
        let users = self.taught.len() / dim - self.multiplied;
        let count = users.min(MAX_KEPT);
        let user = |position: usize| {
            let start = position * users / count * dim;
            &self.taught[start..start + dim]
        };
        (0..count).flat_map(user).copied().collect()
    }

    /// Returns how many steps of progress [`Self::measure`] takes.
    pub(super) fn steps_to_measure(&self) -> u64 {
        (self.held_out.len() / self.answers.rows.dim * self.answers.groups()) as u64
    }

    /// Measures the recall of the finished graph on the held-out queries, searched by codes or in full
    /// precision.
    pub(super) fn measure(
        &self,
        graph: &Graph,
        landmarks: Option<&LandmarkTable>,
        by_codes: bool,
        edges_added: u64,
        progress: &dyn Progress,
    ) -> TrainingReport {
        let Answers { rows, metric, .. } = &self.answers;
        let exact = self.answers.find_exact(&self.held_out, progress);
        let view = graph.view_with(landmarks);
        let hits_of = |scratch: &mut Scratch, row: usize, k: usize, ef_search: usize| {
            let user = &self.held_out[row * rows.dim..(row + 1) * rows.dim];
            self.search(&view, user, (k, ef_search), by_codes, scratch);
            let scorer = Scorer::new(*metric, user, &rows.vectors);
            let found = scratch.found.iter().take(k).map(|found| (found.node(), found.score()));
            let exact = &exact.row(row)[..k];
            hits(*metric, found, exact, |at| scorer.score(exact[at]))
        };
        let measure = |(k, ef_search): (usize, usize)| {
            let hits = parallel::map_with(exact.rows, 1, Scratch::default, |scratch, row| {
                hits_of(scratch, row, k, ef_search)
            });
            let recall = hits.iter().sum::<usize>() as f64 / (exact.rows * k) as f64;
            HeldOutRecall { k: k as u32, ef_search: ef_search as u32, recall }
        };
        let measurable = MEASURED.into_iter().filter(|(k, _)| exact.rows > 0 && *k <= exact.k);
        TrainingReport {
            users: (self.taught.len() / rows.dim - self.multiplied) as u32,
            multiplied: self.multiplied as u32,
            edges_added,
            held_out: exact.rows as u32,
            recall: measurable.map(measure).collect(),
        }
    }
}

/// Adds the edges that the most queries with these `answers` need, as slots allow, and returns how many.
fn add_edges<T: Element>(
    draft: &mut Draft,
    rows: &CodedRows<T>,
    answers: &Neighbors,
    progress: &dyn Progress,
) -> u64 {
    // By task: the edges that its queries need, `(from, to)`, ascending.
    let wanted = parallel::map_ranges(answers.rows, 1, |users| {
        let mut finder = EdgeFinder::new(rows.len());
        let mut wanted = Vec::new();
        for user in users {
            if progress.is_cancelled() {
                break;
            }
            finder.find(draft, rows, answers.row(user), &mut wanted);
            progress.advance(1);
        }
        wanted.sort_unstable();
        wanted
    });
    let added = AtomicU64::new(0);
    let max_degree = draft.max_degree;
    parallel::for_chunks_mut(&mut draft.layer0, NODES_PER_TASK, 1, |task, lists| {
        let first = (task * NODES_PER_TASK) as u32;
        let mut rest: Vec<&[(u32, u32)]> = wanted
            .iter()
            .map(|wanted| &wanted[wanted.partition_point(|(from, _)| *from < first)..])
            .collect();
        let (mut targets, mut counted) = (Vec::<u32>::new(), Vec::<(u32, u32)>::new());
        for (from, list) in (first..).zip(lists) {
            targets.clear();
            for rest in &mut rest {
                let count = rest.iter().take_while(|(other, _)| *other == from).count();
                let (of_node, after) = rest.split_at(count);
                targets.extend(of_node.iter().map(|(_, to)| *to));
                *rest = after;
            }
            targets.sort_unstable();
            counted.clear();
            counted
                .extend(targets.chunk_by(|a, b| a == b).map(|same| (u32::MAX - same.len() as u32, same[0])));
            counted.sort_unstable();
            let room = max_degree.saturating_sub(list.len());
            let before = list.len();
            list.extend(counted.iter().take(room).map(|(_, to)| *to));
            added.fetch_add((list.len() - before) as u64, Ordering::Relaxed);
        }
    });
    added.into_inner()
}

/// Finds missing edges, one query after another. Owns the buffers for that.
struct EdgeFinder {
    /// By node: its rank among the answers of this query plus 1, or 0.
    ranks: Vec<u8>,
    packed: PackedRows,
    tile: Tile,
}

impl EdgeFinder {
    fn new(nodes: usize) -> Self {
        Self { ranks: vec![0; nodes], packed: PackedRows::default(), tile: Tile::default() }
    }

    /// Adds the edges, `(from, to)`, that a query with these answers needs to `wanted`.
    fn find<T: Element>(
        &mut self,
        draft: &Draft,
        rows: &CodedRows<T>,
        answers: &[u32],
        wanted: &mut Vec<(u32, u32)>,
    ) {
        let Self { ranks, packed, tile } = self;
        for (rank, node) in answers.iter().enumerate() {
            ranks[*node as usize] = rank as u8 + 1;
        }
        let (mut reached, mut leads) = ([false; ANSWERS], [false; ANSWERS]);
        for (rank, node) in answers.iter().enumerate() {
            for neighbor in &draft.layer0[*node as usize] {
                match ranks[*neighbor as usize] as usize {
                    0 => {}
                    other if rank + 1 < other => reached[other - 1] = true,
                    _ => leads[rank] = true,
                }
            }
        }
        answers.iter().for_each(|node| ranks[*node as usize] = 0);
        packed.pack(rows, answers, Metric::L2);
        let lacking: Vec<usize> =
            (1..answers.len()).filter(|rank| !(reached[*rank] && leads[*rank])).collect();
        for share in lacking.chunks(TILE) {
            let scores =
                tile.score_nodes(rows, share.iter().map(|rank| answers[*rank]), packed, answers.len());
            for (rank, scores) in share.iter().zip(scores) {
                let closest = (0..*rank).max_by(|a, b| scores[*a].total_cmp(&scores[*b])).unwrap_or_default();
                if !reached[*rank] {
                    wanted.push((answers[closest], answers[*rank]));
                }
                if !leads[*rank] {
                    wanted.push((answers[*rank], answers[closest]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::NodeId;
    use crate::build::progress::Silent;
    use crate::quantize::{Codes, fit_tightest};

    #[test]
    fn the_edges_that_most_queries_need_fill_the_free_slots() {
        let vectors: Vec<f32> = (0..3000).map(|node| node as f32).collect();
        let quantizer = fit_tightest(Codes::Sq8, &vectors, 1, Metric::L2).quantizer;
        let rows = CodedRows::new(vectors, 1, quantizer, 3000, true);
        let mut layer0 = vec![Vec::new(); 3000];
        layer0[0] = vec![7];
        let mut draft = Draft { m: 2, layer0, max_degree: 3, upper: Vec::new(), entry_point: NodeId(0) };
        // Of two answers, each has to lead to the other.
        let answers = [[0, 20], [0, 30], [0, 30], [0, 10], [0, 10], [0, 10], [0, 7], [2900, 2901]];
        let answers = Neighbors { rows: 8, k: 2, data: answers.concat() };
        let added = add_edges(&mut draft, &rows, &answers, &Silent);
        assert_eq!(draft.layer0[0], [7, 10, 30]);
        assert_eq!([10, 20, 30, 7].map(|node| draft.layer0[node].clone()), [[0], [0], [0], [0]]);
        assert_eq!((&draft.layer0[2900][..], &draft.layer0[2901][..]), (&[2901][..], &[2900][..]));
        assert_eq!(added, 8);
    }
}
