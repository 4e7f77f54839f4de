//! Choosing from rows that several servers found: the rules of one server, without an index.
//!
//! What flows in: rows of all servers, best first, with what the rules read of them. What flows out: the rows that one server
//! with all of them would choose.

use std::cmp::Ordering;

use super::choose::{CapCounters, choose};
use super::hit::Hit;
use super::order::best_first;
use super::quota::{HitKeys, Quota};
use super::ranked::Ranked;
use crate::base::id::{NodeId, VideoId};
use crate::base::interrupt::Interrupt;

/// What the rules read of one video.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The video.
    pub video: VideoId,
    /// Larger is better.
    pub score: f32,
    /// The interest that it is attributed to; 0 without interests.
    pub interest: usize,
    /// Whether a place that is kept for fresh videos may go to it.
    pub is_fresh: bool,
    /// The distinct keys of its values, by cap: equal where the values are.
    pub keys: Vec<Vec<u64>>,
}

impl Row {
    /// Compares two rows. `Less` is better.
    pub fn best_first(&self, other: &Self) -> Ordering {
        best_first((self.score, self.video), (other.score, other.video))
    }
}

/// Which rows may be chosen together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowRules {
    /// For each cap, the most rows with the same key.
    pub caps: Vec<usize>,
    /// How many rows of a page at least must be fresh.
    pub fresh: usize,
    /// `[interests]`: how many rows of a page at least must be of each interest.
    pub of_interests: Vec<usize>,
}

impl RowRules {
    /// Whether places of a page are kept.
    pub fn keeps_places(&self) -> bool {
        self.fresh > 0 || self.of_interests.iter().any(|at_least| *at_least > 0)
    }
}

/// Rows as choosing reads them. A node is the position of a row.
struct Table<'a> {
    rows: &'a [Row],
    caps: &'a [usize],
}

impl HitKeys for Table<'_> {
    fn max_per_key(&self) -> impl ExactSizeIterator<Item = usize> {
        self.caps.iter().copied()
    }

    fn append_keys(&self, cap: usize, node: NodeId, keys: &mut Vec<u64>) {
        keys.extend(self.rows[node.index()].keys.get(cap).into_iter().flatten());
    }

    fn is_fresh(&self, node: NodeId) -> bool {
        self.rows[node.index()].is_fresh
    }
}

/// The rows that caps let through, one after another.
pub struct Acceptance<'a> {
    table: Table<'a>,
    counters: CapCounters,
    /// Whether a cap had no room for a row.
    pub is_capped: bool,
}

impl<'a> Acceptance<'a> {
    /// Nothing is accepted yet.
    pub fn new(rows: &'a [Row], rules: &'a RowRules) -> Self {
        let table = Table { rows, caps: &rules.caps };
        Self { table, counters: CapCounters::default(), is_capped: false }
    }

    /// Accepts the row at this position if every cap has room for it.
    pub fn accept(&mut self, position: usize) -> bool {
        let is_accepted = self.counters.take(&self.table, node(position));
        self.is_capped |= !is_accepted;
        is_accepted
    }

    /// The caps and keys that have no room for another row.
    pub fn full_keys(&self) -> Vec<(usize, u64)> {
        self.counters.full(&self.table)
    }
}

/// The rows of one page.
#[derive(Clone, Debug, PartialEq)]
pub struct RowPage {
    /// Their positions, ascending.
    pub taken: Vec<usize>,
    /// The score of the row that filled the last place kept for fresh rows: infinite if none is kept, negative infinite if one
    /// stayed free.
    pub filled_fresh: f32,
    /// `[interests]`: the same for the places kept for each interest.
    pub filled: Vec<f32>,
    /// The lowest score of a row that was taken in its turn and filled no kept place; infinite if no row was.
    pub lowest_plain: f32,
    /// Whether a cap had no room for a row.
    pub is_capped: bool,
}

/// Chooses page after page, each with its kept places.
pub struct RowPages<'a> {
    table: Table<'a>,
    hits: Vec<Hit>,
    quota: Quota,
    counters: CapCounters,
    is_taken: Vec<bool>,
}

impl<'a> RowPages<'a> {
    /// `rows`: best first.
    pub fn new(rows: &'a [Row], rules: &'a RowRules) -> Self {
        let hit = |(at, row): (usize, &Row)| Hit { node: node(at), score: row.score, interest: row.interest };
        Self {
            table: Table { rows, caps: &rules.caps },
            hits: rows.iter().enumerate().map(hit).collect(),
            quota: Quota {
                size: 0,
                score_threshold: None,
                fresh: rules.fresh,
                of_interests: rules.of_interests.clone(),
            },
            counters: CapCounters::default(),
            is_taken: vec![false; rows.len()],
        }
    }

    /// Takes the row at this position for a page that was chosen before.
    pub fn take(&mut self, position: usize) {
        self.is_taken[position] = true;
        let _ = self.counters.take(&self.table, node(position));
    }

    /// Chooses the next page of up to `size` rows.
    pub fn next_page(&mut self, size: usize) -> RowPage {
        self.quota.size = size;
        let is_left = |hit: &Hit| !self.is_taken[hit.node.index()];
        let mut ranked = Ranked::of(&self.hits, is_left, &self.quota, &self.table);
        let (counters, mut never) = (&mut self.counters, Interrupt::never());
        let choice = choose(&self.hits, &mut ranked, &self.quota, &self.table, counters, &mut never);
        let taken: Vec<usize> = choice.taken.iter().map(|hit| hit.node.index()).collect();
        taken.iter().for_each(|at| self.is_taken[*at] = true);
        RowPage {
            taken,
            filled_fresh: choice.filled_fresh,
            filled: choice.filled,
            lowest_plain: choice.lowest_plain,
            is_capped: choice.is_capped,
        }
    }
}

/// Rows are counted by u32 where they are chosen; no answer has as many.
fn node(position: usize) -> NodeId {
    NodeId(position as u32)
}
