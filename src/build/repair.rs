//! Every node reachable from the entry point over layer 0.
//!
//! Pruning can leave a node without an edge that leads to it; under inner product that happens to many
//! nodes of small norm. Each gets one from a reachable node near it: into a free slot where there is
//! one, else in place of an edge that the search tree from the entry point does not need, so that
//! nothing else is lost.
//!
//! "Near" is L2 for every metric. Near by inner product are always the nodes of large norm, whose full
//! lists hold the edges that searches depend on; near in space are nodes like this one, with room.

use rayon::prelude::*;

use crate::element::Element;
use crate::graph::{BeamStats, Graph, NONE, Score, Scorer, Scratch, beam_search, widen};
use crate::index::RepairReport;
use crate::metric::Metric;

/// How many reachable neighbours are looked at for a place to link from.
const EF_REPAIR: usize = 32;
/// Nodes whose neighbours are searched at once, before the first of them is linked.
const BATCH: usize = 4096;

/// Links what cannot be reached over layer 0 and reports what that took. `vectors`: `[n × dim]`.
pub(super) fn repair<T: Element>(graph: &mut Graph, vectors: &[T], dim: usize) -> RepairReport {
    let nodes = vectors.len() / dim;
    let mut tree = SearchTree { parent: vec![NONE; nodes] };
    tree.grow(graph, graph.entry_point.0, graph.entry_point.0);
    let mut unreachable: Vec<u32> = (0..nodes as u32).filter(|node| !tree.holds(*node)).collect();
    let mut report = RepairReport { unreachable: unreachable.len() as u32, ..RepairReport::default() };
    while !unreachable.is_empty() {
        let batch = &unreachable[..unreachable.len().min(BATCH)];
        let near: Vec<Vec<u32>> = batch
            .par_iter()
            .map_init(Scratch::default, |scratch, node| near(graph, vectors, dim, *node, scratch))
            .collect();
        for (node, near) in batch.iter().zip(near) {
            // Linking an earlier one may have brought this one within reach.
            if !tree.holds(*node) {
                let from = link(graph, &tree, *node, &near, &mut report);
                tree.grow(graph, from, *node);
            }
        }
        unreachable.retain(|node| !tree.holds(*node));
    }
    report
}

/// Reachable nodes close to `node` in space, closest first.
fn near<T: Element>(graph: &Graph, vectors: &[T], dim: usize, node: u32, scratch: &mut Scratch) -> Vec<u32> {
    let start = node as usize * dim;
    let query = widen(&vectors[start..start + dim]);
    let scorer = Scorer::new(Metric::L2, &query, vectors);
    let mut stats = BeamStats::default();
    scratch.reset(scorer.rows(), EF_REPAIR);
    scratch.seed(&scorer, graph.entry_point.0, &mut stats);
    beam_search(&graph.view().lists(), &scorer, scratch, &mut stats, || true);
    scratch.candidates.as_slice().iter().map(|found| found.node()).collect()
}

/// Adds an edge to `node` and gives the node that it starts from.
fn link(graph: &mut Graph, tree: &SearchTree, node: u32, near: &[u32], report: &mut RepairReport) -> u32 {
    let slots = |from: u32| from as usize * graph.m0..(from as usize + 1) * graph.m0;
    let free = |from: u32| slots(from).find(|slot| graph.layer0[*slot] == NONE);
    let spare = |from: u32| slots(from).rfind(|slot| tree.parent[graph.layer0[*slot] as usize] != from);
    let with = |from: u32, slot: Option<usize>| slot.map(|slot| (from, slot));
    let everywhere = || (0..tree.parent.len() as u32).filter(|from| tree.holds(*from));
    let place = near
        .iter()
        .find_map(|from| with(*from, free(*from)))
        .or_else(|| near.iter().find_map(|from| with(*from, spare(*from))))
        .or_else(|| everywhere().find_map(|from| with(from, free(from).or_else(|| spare(from)))));
    let (from, slot) = place.expect("a tree over n nodes has n - 1 edges, so some slot is not used by it");
    match std::mem::replace(&mut graph.layer0[slot], node) {
        NONE => report.edges_added += 1,
        _ => report.edges_replaced += 1,
    }
    from
}

/// The edges by which each reachable node was reached first.
struct SearchTree {
    /// [`NONE`] where a node is not reachable.
    parent: Vec<u32>,
}

impl SearchTree {
    fn holds(&self, node: u32) -> bool {
        self.parent[node as usize] != NONE
    }

    /// Adds `root`, reached from `from`, and all that can be reached from it.
    fn grow(&mut self, graph: &Graph, from: u32, root: u32) {
        self.parent[root as usize] = from;
        let view = graph.view();
        let mut stack = vec![root];
        while let Some(node) = stack.pop() {
            for neighbor in view.lists().of(node) {
                if !self.holds(*neighbor) {
                    self.parent[*neighbor as usize] = node;
                    stack.push(*neighbor);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    /// Rows on a line; edges as given.
    fn line(nodes: usize, m0: usize, edges: &[(u32, u32)]) -> (Graph, Vec<f32>) {
        let mut graph =
            Graph { m: m0, m0, layer0: vec![NONE; nodes * m0], upper: Vec::new(), entry_point: NodeId(0) };
        for (from, to) in edges {
            let start = *from as usize * m0;
            let slot = graph.layer0[start..start + m0].iter().position(|edge| *edge == NONE).unwrap();
            graph.layer0[start + slot] = *to;
        }
        (graph, (0..nodes).flat_map(|node| [node as f32, 1.0]).collect())
    }

    fn all_reachable(graph: &Graph) -> bool {
        graph.view().reachable().into_iter().all(|reached| reached)
    }

    #[test]
    fn leaves_a_connected_graph_alone() {
        let (mut graph, vectors) = line(3, 2, &[(0, 1), (1, 2)]);
        let before = graph.clone();
        assert_eq!(repair(&mut graph, &vectors, 2), RepairReport::default());
        assert_eq!(graph, before);
    }

    #[test]
    fn links_every_unreachable_node_where_slots_are_free() {
        let (mut graph, vectors) = line(6, 3, &[(0, 1), (1, 0), (3, 4)]);
        let report = repair(&mut graph, &vectors, 2);
        assert_eq!(report, RepairReport { unreachable: 4, edges_added: 3, edges_replaced: 0 });
        assert!(all_reachable(&graph));
    }

    #[test]
    fn replaces_only_edges_that_nothing_depends_on() {
        // Every reachable node is full: 0 and 1 point at each other, 1 also at 2, which points back twice.
        let (mut graph, vectors) = line(4, 2, &[(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]);
        let report = repair(&mut graph, &vectors, 2);
        assert_eq!(report, RepairReport { unreachable: 1, edges_added: 0, edges_replaced: 1 });
        assert!(all_reachable(&graph));
    }
}
