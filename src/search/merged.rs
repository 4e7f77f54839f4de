//! Choosing from rows that several servers found: the rules of one server, without an index.
//!
//! What flows in: rows of all servers, best first, with what the rules read of them. What flows out: the rows that one server
//! with all of them would choose.

use std::cmp::Ordering;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::among::Among;
use super::caps::CapCounters;
use super::choose::{Choice, choose};
use super::diverse::Page;
use super::draw::Drawn;
use super::hit::Hit;
use super::order::best_first;
use super::quota::{Groups, HitKeys, Quota};
use super::ranked::Ranked;
use super::room::Room;
use crate::base::id::{NodeId, VideoId};
use crate::base::interrupt::Interrupt;
use crate::rules::Diversity;

/// What the rules read of one video.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The video.
    pub video: VideoId,
    /// Larger is better.
    pub score: f32,
    /// The interest that it is attributed to; 0 without interests.
    pub interest: usize,
    /// The reserves whose places may go to it, one bit each.
    pub reserves: u32,
    /// Whether it may be chosen for its score: all better rows are known. Others may only be drawn.
    pub is_ranked: bool,
    /// The distinct keys of its values, by cap: equal where the values are.
    pub keys: Vec<Vec<u64>>,
    /// Its embedding, `[dim]`, if rows must differ from each other; without one, it resembles no row.
    pub embedding: Option<Arc<[f32]>>,
}

impl Row {
    /// Compares two rows. `Less` is better.
    pub fn best_first(&self, other: &Self) -> Ordering {
        best_first((self.score, self.video), (other.score, other.video))
    }
}

/// Which rows may be chosen together.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowRules {
    /// For each cap, the most rows with the same key.
    pub caps: Vec<usize>,
    /// `[reserves]`: the places of a page that are kept for each.
    pub of_reserves: Vec<ReservedRows>,
    /// `[interests]`: how many rows of a page at least must be of each interest.
    pub of_interests: Vec<usize>,
    /// How rows must differ from each other.
    pub diversity: Diversity,
}

/// The places of a page that are kept for the rows of one reserve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReservedRows {
    /// How many rows at least must be of the reserve.
    pub at_least: usize,
    /// Whether the rows that get the places are drawn.
    pub is_drawn: bool,
}

impl RowRules {
    /// Whether a page is not only the next of the best rows that fit the caps.
    pub fn has_pages(&self) -> bool {
        self.keeps_places() || self.diversity != Diversity::default()
    }

    /// Whether places of a page are kept.
    pub fn keeps_places(&self) -> bool {
        let of_reserves = self.of_reserves.iter().map(|reserve| reserve.at_least);
        of_reserves.chain(self.of_interests.iter().copied()).any(|at_least| at_least > 0)
    }

    /// `[reserves + interests]`: how many rows of a page at least must be of each group, apart from those that are drawn.
    pub fn kept(&self) -> impl Iterator<Item = usize> {
        let of_reserves = self.of_reserves.iter();
        let of_reserves = of_reserves.map(|reserve| if reserve.is_drawn { 0 } else { reserve.at_least });
        of_reserves.chain(self.of_interests.iter().copied())
    }
}

/// Rows as choosing reads them. A node is the position of a row.
struct Table<'a> {
    rows: &'a [Row],
    caps: &'a [usize],
    /// Components of an embedding.
    dim: usize,
}

impl<'a> Table<'a> {
    fn new(rows: &'a [Row], rules: &'a RowRules) -> Self {
        let dim = rows.iter().find_map(|row| Some(row.embedding.as_ref()?.len())).unwrap_or_default();
        Self { rows, caps: &rules.caps, dim }
    }
}

impl HitKeys for Table<'_> {
    fn max_per_key(&self) -> impl ExactSizeIterator<Item = usize> {
        self.caps.iter().copied()
    }

    fn append_keys(&self, cap: usize, node: NodeId, keys: &mut Vec<u64>) {
        keys.extend(self.rows[node.index()].keys.get(cap).into_iter().flatten());
    }

    fn reserves(&self, node: NodeId) -> Groups {
        self.rows[node.index()].reserves
    }

    fn copy_embedding(&self, node: NodeId, row: &mut Vec<f32>) {
        row.clear();
        match &self.rows[node.index()].embedding {
            Some(embedding) => row.extend_from_slice(embedding),
            None => row.resize(self.dim, 0.0),
        }
    }

    fn prefetch_embedding(&self, _: NodeId) {}
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
        let table = Table::new(rows, rules);
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
    /// Their positions: ascending, or in the order in which they were chosen by marginal relevance.
    pub taken: Vec<usize>,
    /// Down to which score all rows must be known, so that the page is chosen among the right ones; infinite if it is not chosen by
    /// marginal relevance.
    pub lowest: f32,
    /// `[reserves + interests]`: the same for the rows of each group.
    pub lowest_of: Vec<f32>,
    /// The groups whose kept places a row fills, for those that fill any: positions and groups, one bit each, the reserves first.
    pub held: Vec<(usize, u32)>,
    /// `[reserves + interests]`: the score of the row that filled the last place kept for each group: infinite if none is kept,
    /// negative infinite if one stayed free.
    pub filled: Vec<f32>,
    /// The lowest score of a row that was taken in its turn and filled no kept place; infinite if no row was.
    pub lowest_plain: f32,
    /// Whether a cap had no room for a row.
    pub is_capped: bool,
    /// Whether a row was too similar to one that was taken.
    pub is_similar: bool,
    /// The reserves for which fewer rows were drawn than places are kept.
    pub undrawn: Vec<usize>,
}

/// Chooses page after page, each with its kept places.
pub struct RowPages<'a> {
    table: Table<'a>,
    hits: Vec<Hit>,
    quota: Quota,
    room: Room,
    diversity: Diversity,
    is_taken: Vec<bool>,
    /// Reserves, the number of places, and the positions of rows in the order in which they are drawn.
    draws: Vec<(usize, usize, Vec<usize>)>,
}

impl<'a> RowPages<'a> {
    /// `rows`: best first. `draws`: for each reserve whose rows are drawn, the positions of its rows in the order in which they are.
    pub fn new(rows: &'a [Row], rules: &'a RowRules, draws: Vec<(usize, Vec<usize>)>) -> Self {
        let with_places =
            |(reserve, order): (usize, Vec<usize>)| (reserve, rules.of_reserves[reserve].at_least, order);
        let hit = |(at, row): (usize, &Row)| Hit { node: node(at), score: row.score, interest: row.interest };
        Self {
            table: Table::new(rows, rules),
            hits: rows.iter().enumerate().map(hit).collect(),
            quota: Quota {
                size: 0,
                score_threshold: None,
                kept: rules.kept().collect(),
                reserves: rules.of_reserves.len(),
            },
            room: Room::new(rules.diversity.max_similarity),
            diversity: rules.diversity,
            is_taken: vec![false; rows.len()],
            draws: draws.into_iter().map(with_places).collect(),
        }
    }

    /// Takes the row at this position for a page that was chosen before.
    pub fn take(&mut self, position: usize) {
        self.is_taken[position] = true;
        let _ = self.room.take(&self.table, node(position));
    }

    /// Chooses the next page of up to `size` rows.
    pub fn next_page(&mut self, size: usize) -> RowPage {
        self.quota.size = size;
        let (mut drawn, mut undrawn) = (Drawn::default(), Vec::new());
        for (reserve, at_least, order) in &self.draws {
            let mut left = *at_least;
            let hits: Vec<Hit> = order.iter().map(|at| self.hits[*at]).collect();
            let (is_taken, table, room) = (&self.is_taken, &self.table, &mut self.room);
            drawn.take(&hits, *reserve, &mut left, |hit, is_drawn| {
                !is_taken[hit.node.index()] && (is_drawn || room.take(table, hit.node).is_ok())
            });
            undrawn.extend((left > 0).then_some(*reserve));
        }
        let rest = drawn.rest(&self.quota, &self.table);
        let is_left = |hit: &Hit| {
            let at = hit.node.index();
            !self.is_taken[at] && self.table.rows[at].is_ranked && !drawn.contains(hit)
        };
        let left: Vec<Hit> = self.hits.iter().copied().filter(is_left).collect();
        let (mut lowest, mut lowest_of) = (f32::INFINITY, Vec::new());
        let mut choice = match self.diversity.lambda {
            Some(lambda) => {
                let choice;
                (choice, lowest, lowest_of) = self.choose_diverse(lambda, left, &rest, &drawn);
                choice
            }
            None => {
                let mut ranked = Ranked::of(&left, |_| true, &rest, &self.table);
                let (room, mut never) = (&mut self.room, Interrupt::never());
                choose(&left, &mut ranked, &rest, &self.table, room, &mut never)
            }
        };
        choice.held.append(&mut drawn.held);
        let all = choice.taken.iter().chain(&drawn.hits);
        let mut taken: Vec<usize> = all.map(|hit| hit.node.index()).collect();
        if self.diversity.lambda.is_none() {
            taken.sort_unstable();
        }
        taken.iter().for_each(|at| self.is_taken[*at] = true);
        RowPage {
            taken,
            lowest,
            lowest_of,
            is_similar: choice.is_similar,
            undrawn,
            held: choice.held.iter().map(|(node, groups)| (node.index(), *groups)).collect(),
            filled: choice.filled,
            lowest_plain: choice.lowest_plain,
            is_capped: choice.is_capped,
        }
    }
}

impl RowPages<'_> {
    /// The rows of one page among those that are `left`, best first, by marginal relevance; and down to which scores all rows, and those
    /// of each group, must be known.
    fn choose_diverse(
        &mut self,
        lambda: f32,
        mut left: Vec<Hit>,
        quota: &Quota,
        drawn: &Drawn,
    ) -> (Choice, f32, Vec<f32>) {
        let mut page = Page::new(quota);
        let (mut lowest, mut lowest_of) = (f32::INFINITY, vec![f32::INFINITY; quota.kept.len()]);
        loop {
            let count = left.len();
            left.retain(|hit| self.room.fits_caps(&self.table, hit.node));
            page.choice.is_capped |= left.len() < count;
            let among = Among::of(&left, &page.rest, &self.table);
            lowest = lowest.min(among.lowest);
            lowest_of.iter_mut().zip(&among.lowest_of).for_each(|(lowest, of)| *lowest = lowest.min(*of));
            let before = (0..self.is_taken.len()).filter(|at| self.is_taken[*at]).map(node);
            let before = before.chain(drawn.hits.iter().map(|hit| hit.node));
            let (room, mut never) = (&mut self.room, Interrupt::never());
            page.choose(&among, before, lambda, &self.table, room, &mut never);
            if page.rest.size == 0 || among.is_all {
                return (page.choice, lowest, lowest_of);
            }
            let refused: FxHashSet<u32> = among.refused(&self.table, &mut self.room).collect();
            let taken: FxHashSet<u32> = page.choice.taken.iter().map(|hit| hit.node.0).collect();
            left.retain(|hit| !refused.contains(&hit.node.0) && !taken.contains(&hit.node.0));
        }
    }
}

/// Rows are counted by u32 where they are chosen; no answer has as many.
fn node(position: usize) -> NodeId {
    NodeId(position as u32)
}
