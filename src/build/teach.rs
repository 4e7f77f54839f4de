//! Edges that users need (after NGFix, arXiv 2510.22316).
//!
//! A graph built between videos is walkable between videos; a user stands somewhere else. For each
//! training user take the true answers x1, x2, … best first: every one of them should be reachable from,
//! and should lead to, one that is better for this user. Where no such edge is, the one to the closest
//! better answer is asked for. What most users ask for is added first, while there are free slots.

use rayon::prelude::*;

use super::answers::Answers;
use super::coded::{CodedRows, PackedRows, TILE, Tile};
use super::draft::Draft;
use super::groups::Groups;
use super::multiply::multiply;
use super::params::BuildParams;
use super::progress::Progress;
use crate::base::element::Element;
use crate::base::interrupt::Interrupt;
use crate::base::metric::Metric;
use crate::dataset::{EmbeddingsView, Neighbors};
use crate::graph::{CodeScorer, Graph, Scorer, Scratch, Width, rescored, traverse};
use crate::index::{HeldOutRecall, TrainingReport};
use crate::quantize::{Codes, QueryCodes};

/// True answers per user: what is asked for at once is rarely more.
const ANSWERS: usize = 100;
/// One user in so many is kept apart to measure with, and no more than [`MAX_HELD_OUT`].
const HOLD_OUT: usize = 10;
const MAX_HELD_OUT: usize = 2000;
/// Users that the index keeps to teach the next build, at most.
const MAX_KEPT: usize = 10_000;
/// What is measured with them: k and `ef_search`.
const MEASURED: [(usize, usize); 3] = [(10, 50), (10, 100), (100, 200)];

/// Fewer users than one for so many rows are multiplied until there is one; where there are few rows, which
/// costs little, until there are two for each or so many in all.
const ROWS_PER_USER: usize = 10;
const USERS_PER_ROW: usize = 2;
const USERS_OF_FEW_ROWS: usize = 100_000;

/// A sample of users, and where their answers are looked for.
pub(super) struct Lesson<'a, T> {
    answers: Answers<'a, T>,
    /// `[count × dim]`: users that teach, those of the sample first.
    taught: Vec<f32>,
    /// How many of those were made from the others.
    multiplied: usize,
    /// `[count × dim]`: users that measure.
    held_out: Vec<f32>,
}

impl<'a, T: Element> Lesson<'a, T> {
    /// Keeps every tenth user apart, and multiplies the others where the catalog needs more.
    pub(super) fn new(
        rows: &'a CodedRows<T>,
        groups: &Groups,
        users: EmbeddingsView<'_>,
        params: &BuildParams,
    ) -> Self {
        let apart = HOLD_OUT.max(users.len().div_ceil(MAX_HELD_OUT));
        let (mut taught, mut held_out, mut user) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..users.len() {
            users.copy_row(row, &mut user);
            if row % apart == apart - 1 { &mut held_out } else { &mut taught }.extend_from_slice(&user);
        }
        let enough = (rows.len() / ROWS_PER_USER).max(USERS_OF_FEW_ROWS.min(USERS_PER_ROW * rows.len()));
        let missing = enough.saturating_sub(taught.len() / rows.dim);
        let more = multiply(&taught, rows.dim, missing, params.seed);
        let multiplied = more.len() / rows.dim;
        taught.extend(more);
        Self { answers: Answers::new(rows, groups, params.metric, ANSWERS), taught, multiplied, held_out }
    }

    /// Adds the edges that the users ask for, and says how many.
    pub(super) fn teach(&self, draft: &mut Draft, progress: &dyn Progress) -> u64 {
        let groups = self.answers.groups_needed(&self.taught);
        let users = self.taught.len() / self.answers.rows.dim;
        progress.begin("finding what users want", (users * groups) as u64);
        let answers = self.answers.find(&self.taught, groups, progress);
        if progress.is_cancelled() {
            return 0;
        }
        progress.begin("adding edges for users", 1);
        add_edges(draft, self.answers.rows, &answers)
    }

    /// The users that taught nothing, `[count × dim]`.
    pub(super) fn held_out_queries(&self) -> Vec<f32> {
        self.held_out.clone()
    }

    /// Some of the users of the sample that taught, evenly spaced, `[count × dim]`.
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

    /// Measures the finished graph on the users that taught nothing.
    pub(super) fn examine(&self, graph: &Graph, traversed: Codes, edges_added: u64) -> TrainingReport {
        let Answers { rows, metric, .. } = &self.answers;
        let exact = self.answers.find_exact(&self.held_out);
        let view = graph.view();
        let hits = |scratch: &mut Scratch, row: usize, k: usize, ef_search: usize| {
            let user = &self.held_out[row * rows.dim..(row + 1) * rows.dim];
            let scorer = Scorer::new(*metric, user, &rows.vectors);
            let width = Width { ef_search, at_least: k };
            if traversed == Codes::None {
                traverse(&view, &scorer, width, scratch, &mut Interrupt::never());
                scratch.collect(k);
            } else {
                let mut query = QueryCodes::default();
                rows.quantizer.encode_query(user, &mut query);
                let coarse = CodeScorer::new(query.as_slice(), &rows.codes);
                let mut cost = traverse(&view, &coarse, width, scratch, &mut Interrupt::never());
                scratch.collect(rescored(k));
                scratch.rescore(&scorer, &mut cost);
            }
            scratch.found.sort_unstable();
            scratch.found.iter().take(k).filter(|found| exact.row(row)[..k].contains(&found.node())).count()
        };
        let measure = |(k, ef_search): (usize, usize)| {
            let rows = (0..exact.rows).into_par_iter();
            let hits: usize =
                rows.map_init(Scratch::default, |scratch, row| hits(scratch, row, k, ef_search)).sum();
            let recall = hits as f64 / (exact.rows * k) as f64;
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

/// Adds the edges that `answers` ask for, and says how many.
fn add_edges<T: Element>(draft: &mut Draft, rows: &CodedRows<T>, answers: &Neighbors) -> u64 {
    let wanted = (0..answers.rows)
        .into_par_iter()
        .map_init(|| Requests::new(rows.len()), |requests, user| requests.of(draft, rows, answers.row(user)));
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
    let max_degree = draft.max_degree;
    for (from, _, to) in counted {
        let list = &mut draft.layer0[from as usize];
        if list.len() < max_degree {
            list.push(to);
            added += 1;
        }
    }
    added
}

/// Finds the edges that one user after another asks for.
struct Requests {
    /// For each node, its rank among the answers of this user plus 1, or 0.
    ranks: Vec<u8>,
    packed: PackedRows,
    tile: Tile,
}

impl Requests {
    fn new(nodes: usize) -> Self {
        Self { ranks: vec![0; nodes], packed: PackedRows::default(), tile: Tile::default() }
    }

    /// The edges that one user asks for, `(from, to)`.
    fn of<T: Element>(&mut self, draft: &Draft, rows: &CodedRows<T>, answers: &[u32]) -> Vec<(u32, u32)> {
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
        let mut wanted = Vec::new();
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
        wanted
    }
}
