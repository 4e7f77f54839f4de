//! Layer 0 from that of an index with most of the same rows: deleted nodes are bridged, new rows are linked.
//!
//! In: rows, their groups, and which node of the old index each row was. Out: neighbor lists. A row keeps its neighbors;
//! the neighbors of a deleted neighbor compete for its slot. New rows choose among the best of their groups, and compete
//! for slots of the rows that they choose.

use super::coded::{CodedRows, PackedRows, TILE, Tile};
use super::error::BuildError;
use super::groups::{Groups, OVERLAP};
use super::layer0::{BackEdges, Choice, SHARE, choose, per_group, stop_if_cancelled};
use super::params::BuildParams;
use super::progress::Progress;
use crate::base::element::Element;
use crate::base::parallel;
use crate::dataset::EmbeddingsView;
use crate::graph::{Lists, NONE, Selection};
use crate::index::{BuildFacts, Index};
use crate::node_set::NodeSet;

/// Maximum share of new rows. A graph is renewed only once, since new rows get no long edges: a graph that was renewed
/// repeatedly lost 8 points of recall in 20 rounds of 5 %.
const MOST_NEW: f64 = 0.1;

/// An index that has most rows of the dataset.
#[derive(Clone, Debug)]
pub struct Ancestor<'a> {
    index: &'a Index,
    /// By row of the dataset: the node that it was, or [`NONE`] if the row is new.
    nodes: Vec<u32>,
}

impl<'a> Ancestor<'a> {
    /// Describes a dataset of `rows` rows, the first of which are the nodes of `index` in `kept`, ascending. Returns `None`
    /// if it has no graph, or one that cannot be renewed: it was renewed before, or too many rows are new.
    ///
    /// # Panics
    /// If `kept` has more than `rows` nodes.
    pub fn of_first(index: &'a Index, kept: &NodeSet, rows: usize) -> Option<Self> {
        let facts = index.metadata();
        let is_useful = index.has_graph() && !facts.renewed && facts.build.builder != BuildFacts::NO_BUILDER;
        let mut nodes: Vec<u32> = kept.iter().collect();
        assert!(nodes.len() <= rows, "the index has more nodes than the dataset has rows");
        if !is_useful || (rows - nodes.len()) as f64 > MOST_NEW * rows as f64 {
            return None;
        }
        nodes.resize(rows, NONE);
        Some(Self { index, nodes })
    }

    /// Describes the dataset of some of the rows.
    pub(super) fn of_rows(&self, rows: &[u32]) -> Self {
        Self { index: self.index, nodes: rows.iter().map(|row| self.nodes[*row as usize]).collect() }
    }

    /// Returns the training queries in the index, `[count × dim]`, if it has any.
    pub(super) fn training_queries(&self) -> Option<EmbeddingsView<'a>> {
        self.index.training_queries()
    }
}

/// Returns the neighbors of each node, where node `n` is row `order[n]` of the dataset.
pub(super) fn layer0<T: Element>(
    rows: &CodedRows<T>,
    groups: &Groups,
    ancestor: &Ancestor<'_>,
    order: &[u32],
    params: &BuildParams,
    progress: &dyn Progress,
) -> Result<Vec<Vec<u32>>, BuildError> {
    let was: Vec<u32> = order.iter().map(|row| ancestor.nodes[*row as usize]).collect();
    let old = Old::new(ancestor.index, &was);
    let is_new = |node: u32| was[node as usize] == NONE;
    progress.begin("comparing new videos within groups", rows.len() as u64);
    let near = near_of_new(rows, groups, params, &is_new, progress);
    stop_if_cancelled(progress)?;
    progress.begin("choosing neighbors", rows.len() as u64);
    let chosen = choose(rows, 0..rows.len(), params, progress, |node| near[node as usize].clone());
    drop(near);
    stop_if_cancelled(progress)?;
    progress.begin("linking back", rows.len() as u64);
    let back = BackEdges::of(&chosen);
    let link = |choice: &mut Choice, node: usize| {
        let node = node as u32;
        if (node as usize).is_multiple_of(SHARE) {
            progress.advance(SHARE as u64);
        }
        let newcomers = back.to(node);
        if is_new(node) {
            let near = [&chosen[node as usize], newcomers].concat();
            return choice.of(rows, params, node, near);
        }
        let (kept, deleted) = old.neighbors(was[node as usize]);
        if deleted.is_empty() && newcomers.is_empty() || progress.is_cancelled() {
            return kept;
        }
        let bridged =
            deleted.iter().flat_map(|deleted| old.neighbors(*deleted).0).filter(|other| *other != node);
        let near: Vec<u32> = kept.iter().copied().chain(bridged).chain(newcomers.iter().copied()).collect();
        let mut list = choice.of(rows, params, node, near);
        // Edges for training queries are rarely among the closest: keep former neighbors up to the former length.
        let room = (kept.len() + deleted.len()).saturating_sub(list.len());
        let others: Vec<u32> = kept.into_iter().filter(|other| !list.contains(other)).take(room).collect();
        list.extend(others);
        list
    };
    let linked = parallel::map_with(rows.len(), SHARE, Choice::default, link);
    stop_if_cancelled(progress)?;
    Ok(linked)
}

/// The old graph, in terms of new nodes.
struct Old<'a> {
    lists: Lists<'a>,
    /// By old node: the new node, or [`NONE`] if it was deleted.
    became: Vec<u32>,
}

impl<'a> Old<'a> {
    fn new(index: &'a Index, was: &[u32]) -> Self {
        let mut became = vec![NONE; index.len()];
        for (node, old) in (0..).zip(was).filter(|(_, old)| **old != NONE) {
            became[*old as usize] = node;
        }
        Self { lists: index.graph().layer0, became }
    }

    /// Returns the neighbors of an old node: the remaining ones as new nodes, and the deleted ones as old nodes.
    fn neighbors(&self, old: u32) -> (Vec<u32>, Vec<u32>) {
        let (mut kept, mut deleted) = (Vec::new(), Vec::new());
        for neighbor in self.lists.of(old) {
            // In a damaged file a neighbor may be out of range.
            match self.became.get(*neighbor as usize) {
                Some(&NONE) => deleted.push(*neighbor),
                Some(node) if !kept.contains(node) => kept.push(*node),
                Some(_) | None => {}
            }
        }
        (kept, deleted)
    }
}

/// Returns for each new node the best others of each of its groups, and nothing for the other nodes.
fn near_of_new<T: Element>(
    rows: &CodedRows<T>,
    groups: &Groups,
    params: &BuildParams,
    is_new: &(impl Fn(u32) -> bool + Sync),
    progress: &dyn Progress,
) -> Vec<Vec<u32>> {
    let members = groups.members(OVERLAP);
    let of_group = |(packed, tile, selection): &mut (PackedRows, Tile, Selection), members: &Vec<u32>| {
        let news: Vec<u32> = members.iter().copied().filter(|node| is_new(*node)).collect();
        let mut found: Vec<(u32, Vec<u32>)> = Vec::with_capacity(news.len());
        if news.is_empty() || progress.is_cancelled() {
            return found;
        }
        packed.pack(rows, members, params.metric);
        for share in news.chunks(TILE) {
            let scores = tile.score_nodes(rows, share.iter().copied(), packed, members.len());
            for (node, scores) in share.iter().zip(scores) {
                // The node itself is among them, hence one more.
                let best = selection.best(scores, per_group(params) + 1).iter();
                let others = best.map(|found| members[found.node() as usize]).filter(|other| other != node);
                found.push((*node, others.collect()));
            }
        }
        progress.advance(news.len() as u64);
        found
    };
    let found = parallel::map_with(members.len(), 1, Default::default, |tools, group| {
        of_group(tools, &members[group])
    });
    let mut near = vec![Vec::new(); rows.len()];
    for (node, others) in found.into_iter().flatten() {
        near[node as usize].extend(others);
    }
    near
}
