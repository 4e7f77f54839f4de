//! Every node reachable from the entry point over layer 0.
//!
//! Pruning can leave a node without an edge that leads to it. Each such node gets one from a node near
//! it that is reachable: into a free slot where there is one, else in place of an edge that the search
//! tree from the entry point does not need, so that nothing else is lost.

use crate::element::Element;
use crate::graph::{BeamStats, Graph, NONE, Scorer, Scratch, beam_search, widen};
use crate::index::RepairReport;
use crate::metric::Metric;

/// How many reachable neighbours are looked at for a place to link from.
const EF_REPAIR: usize = 64;

/// Links what cannot be reached over layer 0 and reports what that took.
pub(super) fn repair<T: Element>(
    graph: &mut Graph,
    vectors: &[T],
    dim: usize,
    metric: Metric,
) -> RepairReport {
    let nodes = vectors.len() / dim;
    let mut tree = SearchTree { parent: vec![NONE; nodes] };
    tree.grow(graph, graph.entry_point.0, graph.entry_point.0);
    let unreachable: Vec<u32> = (0..nodes as u32).filter(|node| !tree.holds(*node)).collect();
    let mut report = RepairReport { unreachable: unreachable.len() as u32, ..RepairReport::default() };
    let mut scratch = Scratch::default();
    for node in unreachable {
        // Linking an earlier one may have brought this one within reach.
        if tree.holds(node) {
            continue;
        }
        let start = node as usize * dim;
        let query = widen(&vectors[start..start + dim]);
        let scorer = Scorer::new(metric, &query, vectors);
        let mut stats = BeamStats::default();
        scratch.reset(nodes, EF_REPAIR);
        scratch.seed(&scorer, graph.entry_point.0, &mut stats);
        beam_search(&graph.view().lists(), &scorer, &mut scratch, &mut stats, || true);
        let near: Vec<u32> = scratch.candidates.as_slice().iter().map(|found| found.node()).collect();
        let everywhere = 0..nodes as u32;
        let (from, slot) = near
            .iter()
            .copied()
            .chain(everywhere.filter(|from| tree.holds(*from)))
            .find_map(|from| Some((from, spare_slot(graph, &tree, from)?)))
            .expect(
                "a tree over n nodes has n - 1 edges, so some node has a slot that the tree does not use",
            );
        let replaced = std::mem::replace(&mut graph.layer0[slot], node);
        if replaced == NONE {
            report.edges_added += 1
        } else {
            report.edges_replaced += 1
        }
        tree.grow(graph, from, node);
    }
    report
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

/// A slot of `from` that is free, or the last whose edge the tree does not use.
fn spare_slot(graph: &Graph, tree: &SearchTree, from: u32) -> Option<usize> {
    let start = from as usize * graph.m0;
    let list = &graph.layer0[start..start + graph.m0];
    let free = list.iter().position(|edge| *edge == NONE);
    let spare = free.or_else(|| list.iter().rposition(|edge| tree.parent[*edge as usize] != from));
    spare.map(|slot| start + slot)
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
        assert_eq!(repair(&mut graph, &vectors, 2, Metric::L2), RepairReport::default());
        assert_eq!(graph, before);
    }

    #[test]
    fn links_every_unreachable_node_where_slots_are_free() {
        let (mut graph, vectors) = line(6, 3, &[(0, 1), (1, 0), (3, 4)]);
        let report = repair(&mut graph, &vectors, 2, Metric::L2);
        assert_eq!(report, RepairReport { unreachable: 4, edges_added: 3, edges_replaced: 0 });
        assert!(all_reachable(&graph));
    }

    #[test]
    fn replaces_only_edges_that_nothing_depends_on() {
        // Every reachable node is full: 0 and 1 point at each other, 1 also at 2, which points back twice.
        let (mut graph, vectors) = line(4, 2, &[(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]);
        let report = repair(&mut graph, &vectors, 2, Metric::L2);
        assert_eq!(report, RepairReport { unreachable: 1, edges_added: 0, edges_replaced: 1 });
        assert!(all_reachable(&graph));
    }
}
