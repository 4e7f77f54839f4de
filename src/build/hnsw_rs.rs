//! A builder that uses the hnsw_rs crate and converts its graph to our layout: the reference for our own builder.
//!
//! The crate refuses negative distances, so every metric becomes squared L2: cosine rows are normalized already, and rows
//! under inner product get one more coordinate that makes all norms equal (Bachrach et al. 2014). The crate also stores
//! some edges on a layer that one of their ends is not on; they are moved to the highest layer that both are on.

use hnsw_rs::prelude::{Distance, Hnsw};

use super::draft::Draft;
use super::error::BuildError;
use super::params::BuildParams;
use super::progress::Progress;
use crate::base::element::Element;
use crate::base::id::NodeId;
use crate::base::metric::Metric;
use crate::base::parallel::{self, ROWS_PER_TASK};
use crate::graph::{NONE, UpperLayer, used};
use crate::kernel::Kernels;

/// Maximum number of layers of the crate.
const MAX_LAYERS: usize = 16;
/// Videos per call to the crate: a build can be cancelled between two calls.
const CHUNK: usize = 4096;

/// Squared L2 distance by our kernels.
struct SquaredL2(&'static Kernels);

impl Distance<f32> for SquaredL2 {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        self.0.l2_squared(a, b)
    }
}

/// Builds the graph over `vectors`, `[n × dim]`, on the current rayon pool. The first `regular` rows have no extreme
/// components.
pub(super) fn build<T: Element>(
    vectors: &[T],
    dim: usize,
    regular: usize,
    params: &BuildParams,
    progress: &dyn Progress,
) -> Result<Draft, BuildError> {
    let rows = to_l2_space(vectors, dim, regular, params.metric);
    let nodes = rows.len();
    let metric = SquaredL2(Kernels::get());
    let hnsw = Hnsw::new(params.m, nodes, MAX_LAYERS, params.ef_construction, metric);
    progress.begin("inserting videos (hnsw-rs)", nodes as u64);
    for start in (0..nodes).step_by(CHUNK) {
        if progress.is_cancelled() {
            return Err(BuildError::Cancelled);
        }
        let end = nodes.min(start + CHUNK);
        let chunk: Vec<(&[f32], usize)> = (start..end).map(|row| (rows[row].as_slice(), row)).collect();
        hnsw.parallel_insert_slice(&chunk);
        progress.advance((end - start) as u64);
    }
    Ok(to_draft(&hnsw, nodes, params.m))
}

/// Returns rows whose squared L2 distances rank the first `regular` rows as `metric` does. A row that is longer than these
/// would take the precision of all others.
fn to_l2_space<T: Element>(vectors: &[T], dim: usize, regular: usize, metric: Metric) -> Vec<Vec<f32>> {
    let kernels = Kernels::get();
    let norms: Vec<f32> = match metric {
        Metric::InnerProduct => {
            parallel::map_chunks(vectors, dim, ROWS_PER_TASK, |_, row| kernels.norm_squared(row))
        }
        Metric::Cosine | Metric::L2 => Vec::new(),
    };
    let largest = norms.iter().take(regular).fold(0f32, |largest, norm| largest.max(*norm));
    let widen = |row: usize, components: &[T]| {
        let mut wide: Vec<f32> = components.iter().map(|value| value.to_f32()).collect();
        wide.extend(norms.get(row).map(|norm| (largest - norm).max(0.0).sqrt()));
        wide
    };
    parallel::map_chunks(vectors, dim, ROWS_PER_TASK, widen)
}

/// Converts the graph of the crate.
fn to_draft(hnsw: &Hnsw<f32, SquaredL2>, nodes: usize, m: usize) -> Draft {
    let points = hnsw.get_point_indexation();
    let mut levels = vec![0u8; nodes];
    let mut entry_point = NodeId(0);
    for layer in 0..MAX_LAYERS {
        for (position, point) in points.get_layer_iterator(layer).enumerate() {
            levels[point.get_origin_id()] = layer as u8;
            if position == 0 {
                entry_point = NodeId(point.get_origin_id() as u32);
            }
        }
    }
    let top = levels[entry_point.index()] as usize;
    let mut lists: Vec<Vec<Vec<(f32, u32)>>> =
        levels.iter().map(|level| vec![Vec::new(); *level as usize + 1]).collect();
    for layer in 0..MAX_LAYERS {
        for point in points.get_layer_iterator(layer) {
            let from = point.get_origin_id();
            for (stored, neighbors) in point.get_neighborhood_id().into_iter().enumerate() {
                for neighbor in neighbors {
                    let shared = stored.min(levels[from] as usize).min(levels[neighbor.d_id] as usize);
                    lists[from][shared].push((neighbor.distance, neighbor.d_id as u32));
                }
            }
        }
    }
    let layer0 = lists.iter_mut().enumerate().map(|(node, lists)| {
        let mut slots = vec![NONE; 2 * m];
        fill(&mut slots, &mut lists[0], node as u32, |neighbor| neighbor);
        used(&slots).to_vec()
    });
    let layer0 = layer0.collect();
    let upper = (1..=top).map(|layer| {
        let members: Vec<u32> =
            (0..nodes as u32).filter(|node| levels[*node as usize] as usize >= layer).collect();
        let mut edges = vec![NONE; members.len() * m];
        for (slots, node) in edges.chunks_mut(m).zip(&members) {
            let slot_of = |neighbor: u32| members.binary_search(&neighbor).map_or(NONE, |slot| slot as u32);
            fill(slots, &mut lists[*node as usize][layer], *node, slot_of);
        }
        UpperLayer { nodes: members, edges }
    });
    let upper = upper.collect();
    Draft::new(m, layer0, upper, entry_point)
}

/// Writes the nearest distinct neighbors into `slots`.
fn fill(slots: &mut [u32], neighbors: &mut Vec<(f32, u32)>, node: u32, slot_of: impl Fn(u32) -> u32) {
    neighbors.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut seen = vec![node];
    let mut free = slots.iter_mut();
    for (_, neighbor) in neighbors.drain(..) {
        if seen.contains(&neighbor) {
            continue;
        }
        let Some(slot) = free.next() else { return };
        *slot = slot_of(neighbor);
        seen.push(neighbor);
    }
}
