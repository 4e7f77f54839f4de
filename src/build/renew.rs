//! Layer 0 from that of an index with most of the same rows: what is gone is bridged, what is new is linked in.
//!
//! What flows in: rows, their groups, and which node of the other index each row was. What flows out: neighbor lists. A
//! row keeps its neighbors; where one is gone, that one's neighbors compete for its place. New rows choose among the
//! best of their groups, and compete for places among those that they choose.

use rayon::prelude::*;

use super::BuildError;
use super::coded::{CodedRows, PackedRows, TILE, Tile};
use super::groups::{Groups, OVERLAP};
use super::layer0::{BackEdges, Choice, SHARE, choose, per_group, stop_if_cancelled};
use super::params::BuildParams;
use super::progress::Progress;
use crate::base::element::Element;
use crate::dataset::EmbeddingsView;
use crate::graph::{Lists, NONE, Selection};
use crate::index::{BuildFacts, Index};
use crate::node_set::NodeSet;

/// No more than this share of the rows may be new, and that only once: new rows get no long edges, and a graph that was
/// renewed again and again lost 8 points of recall in 20 rounds of 5 %.
const MOST_NEW: f64 = 0.1;

/// An index that some rows of a catalog are from.
#[derive(Clone, Debug)]
pub struct Ancestor<'a> {
    index: &'a Index,
    /// For each row of the catalog the node that it was, [`NONE`] for those that are new.
    nodes: Vec<u32>,
}

impl<'a> Ancestor<'a> {
    /// The first rows of a catalog of `rows` are the nodes of `index` that are in `kept`, ascending. `None` if
    /// its graph is of no use for them.
    ///
    /// # Panics
    /// If there are more of them than rows.
    pub fn of_first(index: &'a Index, kept: &NodeSet, rows: usize) -> Option<Self> {
        let facts = index.metadata();
        let is_useful = index.has_graph() && !facts.renewed && facts.build.builder != BuildFacts::NO_BUILDER;
        let mut nodes: Vec<u32> = kept.iter().collect();
        assert!(nodes.len() <= rows, "more nodes than rows");
        if !is_useful || (rows - nodes.len()) as f64 > MOST_NEW * rows as f64 {
            return None;
        }
        nodes.resize(rows, NONE);
        Some(Self { index, nodes })
    }

    /// Users that its graph learned from, `[count × dim]`, if it kept some.
    pub(super) fn training_queries(&self) -> Option<EmbeddingsView<'a>> {
        self.index.training_queries()
    }
}

/// The neighbors of each node, where node `n` is row `order[n]` of the catalog.
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
    let chosen = choose(rows, params, progress, |node| near[node as usize].clone());
    drop(near);
    stop_if_cancelled(progress)?;
    progress.begin("linking back", rows.len() as u64);
    let back = BackEdges::of(&chosen);
    let nodes = (0..rows.len() as u32).into_par_iter().with_min_len(SHARE);
    let linked = nodes.map_init(Choice::default, |choice, node| {
        if (node as usize).is_multiple_of(SHARE) {
            progress.advance(SHARE as u64);
        }
        let newcomers = back.to(node);
        if is_new(node) {
            let near = [&chosen[node as usize], newcomers].concat();
            return choice.of(rows, params, node, near);
        }
        let (kept, gone) = old.neighbors(was[node as usize]);
        if gone.is_empty() && newcomers.is_empty() || progress.is_cancelled() {
            return kept;
        }
        let beyond = gone.iter().flat_map(|gone| old.neighbors(*gone).0).filter(|other| *other != node);
        let near: Vec<u32> = kept.iter().copied().chain(beyond).chain(newcomers.iter().copied()).collect();
        let mut list = choice.of(rows, params, node, near);
        // What users asked for is rarely among the closest; no list becomes longer than it was for it.
        let room = (kept.len() + gone.len()).saturating_sub(list.len());
        let others: Vec<u32> = kept.into_iter().filter(|other| !list.contains(other)).take(room).collect();
        list.extend(others);
        list
    });
    let linked = linked.collect();
    stop_if_cancelled(progress)?;
    Ok(linked)
}

/// The graph of the other index, in terms of the new nodes.
struct Old<'a> {
    lists: Lists<'a>,
    /// For each of its nodes the new one, [`NONE`] for those that are gone.
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

    /// The neighbors of one of its nodes: those that are left, as they are now, and those that are gone, as they were.
    fn neighbors(&self, old: u32) -> (Vec<u32>, Vec<u32>) {
        let (mut kept, mut gone) = (Vec::new(), Vec::new());
        for neighbor in self.lists.of(old) {
            // A damaged file may say anything.
            match self.became.get(*neighbor as usize) {
                Some(&NONE) => gone.push(*neighbor),
                Some(node) if !kept.contains(node) => kept.push(*node),
                Some(_) | None => {}
            }
        }
        (kept, gone)
    }
}

/// For each new node the best others of each of its groups; nothing for those that are not.
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
                // The node itself is one of them.
                let best = selection.best(scores, per_group(params) + 1).iter();
                let others = best.map(|found| members[found.node() as usize]).filter(|other| other != node);
                found.push((*node, others.collect()));
            }
        }
        progress.advance(news.len() as u64);
        found
    };
    let found: Vec<Vec<(u32, Vec<u32>)>> = members.par_iter().map_init(Default::default, of_group).collect();
    let mut near = vec![Vec::new(); rows.len()];
    for (node, others) in found.into_iter().flatten() {
        near[node as usize].extend(others);
    }
    near
}
