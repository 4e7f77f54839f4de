//! Makes every node reachable from the entry point over layer 0.
//!
//! Pruning can leave a node without an incoming edge; under inner product that happens to many nodes of small norm. Each
//! gets an edge from a reachable node near it: in a free slot if there is one, else in place of an edge that is not in the
//! search tree from the entry point, so that no other node becomes unreachable.
//!
//! "Near" means L2 for every metric. By inner product the nearest nodes are always those of large norm, whose full lists
//! have the edges that searches depend on; by L2 they are similar nodes, with free slots.

use super::coded::{CodedRows, PackedRows, TILE, Tile};
use super::draft::Draft;
use super::groups::Groups;
use crate::base::element::Element;
use crate::base::metric::Metric;
use crate::base::parallel;
use crate::graph::{NONE, Selection};
use crate::index::RepairReport;

/// How many near nodes are tried as the source of an edge.
const SOURCES: usize = 32;

/// Links all nodes that are not reachable over layer 0, and reports the changes.
pub(super) fn repair<T: Element>(draft: &mut Draft, rows: &CodedRows<T>, groups: &Groups) -> RepairReport {
    let nodes = rows.len();
    let mut tree = SearchTree { parent: vec![NONE; nodes] };
    tree.grow(draft, draft.entry_point.0, draft.entry_point.0);
    let mut unreachable: Vec<u32> = (0..nodes as u32).filter(|node| !tree.contains(*node)).collect();
    let mut report = RepairReport { unreachable: unreachable.len() as u32, ..RepairReport::default() };
    let members = groups.members(1);
    while !unreachable.is_empty() {
        let mut of_group: Vec<Vec<u32>> = vec![Vec::new(); members.len()];
        for node in &unreachable {
            of_group[groups.of_row[*node as usize][0] as usize].push(*node);
        }
        let near = parallel::map_with(of_group.len(), 1, Default::default, |tools, group| {
            near(rows, &tree, &of_group[group], &members[group], tools)
        });
        for (node, near) in near.into_iter().flatten() {
            // Linking an earlier node may have made this one reachable.
            if !tree.contains(node) {
                let from = link(draft, &tree, node, &near, &mut report);
                tree.grow(draft, from, node);
            }
        }
        unreachable.retain(|node| !tree.contains(*node));
    }
    report
}

/// Returns for each of `lost` the reachable nodes among `members` that are nearest to it, nearest first.
fn near<T: Element>(
    rows: &CodedRows<T>,
    tree: &SearchTree,
    lost: &[u32],
    members: &[u32],
    (packed, tile, selection): &mut (PackedRows, Tile, Selection),
) -> Vec<(u32, Vec<u32>)> {
    let reachable: Vec<u32> = members.iter().copied().filter(|node| tree.contains(*node)).collect();
    if lost.is_empty() || reachable.is_empty() {
        // Link the first from anywhere; in the next round the others are linked from it.
        return lost.first().map(|first| (*first, Vec::new())).into_iter().collect();
    }
    packed.pack(rows, &reachable, Metric::L2);
    let mut near = Vec::with_capacity(lost.len());
    for lost in lost.chunks(TILE) {
        let scores = tile.score_nodes(rows, lost.iter().copied(), packed, reachable.len());
        near.extend(lost.iter().zip(scores).map(|(node, scores)| {
            let best = selection.best(scores, SOURCES).iter();
            (*node, best.map(|found| reachable[found.node() as usize]).collect())
        }));
    }
    near
}

/// Adds an edge to `node` and returns its source.
fn link(draft: &mut Draft, tree: &SearchTree, node: u32, near: &[u32], report: &mut RepairReport) -> u32 {
    let has_room = |from: u32| draft.layer0[from as usize].len() < draft.max_degree;
    let spare = |from: u32| {
        let slot = draft.layer0[from as usize].iter().rposition(|to| tree.parent[*to as usize] != from);
        slot.map(|slot| (from, slot))
    };
    let everywhere = || (0..tree.parent.len() as u32).filter(|from| tree.contains(*from));
    if let Some(from) = near.iter().copied().find(|from| has_room(*from)) {
        draft.layer0[from as usize].push(node);
        report.edges_added += 1;
        return from;
    }
    if let Some((from, slot)) = near.iter().find_map(|from| spare(*from)) {
        draft.layer0[from as usize][slot] = node;
        report.edges_replaced += 1;
        return from;
    }
    if let Some(from) = everywhere().find(|from| has_room(*from)) {
        draft.layer0[from as usize].push(node);
        report.edges_added += 1;
        return from;
    }
    let found = everywhere().find_map(spare);
    let (from, slot) = found.expect("a tree over n nodes has n - 1 edges, so some slot is not in it");
    draft.layer0[from as usize][slot] = node;
    report.edges_replaced += 1;
    from
}

/// The tree of edges by which each reachable node was first reached.
struct SearchTree {
    /// By node: its parent, or [`NONE`] if the node is not reachable.
    parent: Vec<u32>,
}

impl SearchTree {
    fn contains(&self, node: u32) -> bool {
        self.parent[node as usize] != NONE
    }

    /// Adds `root`, reached from `from`, and all nodes that are reachable from it.
    fn grow(&mut self, draft: &Draft, from: u32, root: u32) {
        self.parent[root as usize] = from;
        let mut stack = vec![root];
        while let Some(node) = stack.pop() {
            for neighbor in &draft.layer0[node as usize] {
                if !self.contains(*neighbor) {
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
    use crate::base::id::NodeId;
    use crate::build::progress::Silent;
    use crate::quantize::{Codes, fit_tightest};

    /// Rows on a line, in groups, with the given edges.
    fn line(nodes: u32, max_degree: usize, edges: &[(u32, u32)]) -> (Draft, CodedRows<f32>, Groups) {
        let mut layer0 = vec![Vec::new(); nodes as usize];
        edges.iter().for_each(|(from, to)| layer0[*from as usize].push(*to));
        let draft = Draft { m: 2, layer0, max_degree, upper: Vec::new(), entry_point: NodeId(0) };
        let vectors: Vec<f32> = (0..nodes).flat_map(|node| [node as f32, 1.0]).collect();
        let groups = Groups::new(&vectors, 2, Metric::L2, &Silent);
        let quantizer = fit_tightest(Codes::Sq8, &vectors, 2, Metric::L2).quantizer;
        (draft, CodedRows::new(vectors, 2, quantizer, nodes as usize, true), groups)
    }

    fn all_reachable(draft: Draft) -> bool {
        draft.pack().view().reachable().into_iter().all(|reached| reached)
    }

    #[test]
    fn leaves_a_connected_graph_alone() {
        let (mut draft, rows, groups) = line(3, 2, &[(0, 1), (1, 2)]);
        let before = draft.clone();
        assert_eq!(repair(&mut draft, &rows, &groups), RepairReport::default());
        assert_eq!(draft, before);
    }

    #[test]
    fn links_every_unreachable_node_where_there_is_room() {
        for nodes in [6, 60, 600] {
            let (mut draft, rows, groups) = line(nodes, 3, &[(0, 1), (1, 0), (3, 4)]);
            let report = repair(&mut draft, &rows, &groups);
            assert_eq!(report.unreachable, nodes - 2);
            let linked = report.edges_added + report.edges_replaced;
            assert!((nodes - 3..=nodes - 2).contains(&linked), "{report:?}");
            assert!(report.edges_added > report.edges_replaced, "{report:?}");
            assert!(draft.layer0.iter().all(|list| list.len() <= 3));
            assert!(all_reachable(draft));
        }
    }

    #[test]
    fn replaces_only_edges_that_nothing_depends_on() {
        // Every reachable node is full: 0 and 1 point at each other, 1 also at 2, which points back twice.
        let (mut draft, rows, groups) = line(4, 2, &[(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]);
        let report = repair(&mut draft, &rows, &groups);
        assert_eq!(report, RepairReport { unreachable: 1, edges_added: 0, edges_replaced: 1 });
        assert!(all_reachable(draft));
    }
}
