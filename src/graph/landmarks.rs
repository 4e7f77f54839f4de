//! Landmarks: where traversals start.
//!
//! A landmark is a vector near which many queries or rows are, with the nodes that score best for it. The nodes of the landmarks
//! nearest to a query are near its own best nodes, and where these are in several regions, near most of them. So a traversal
//! from there needs fewer steps than one that descends from the top of the graph.

use super::cost::Cost;
use super::scorer::{CodeScorer, Scan as _};
use super::scratch::Scratch;
use crate::base::id::NodeId;
use crate::quantize::Quantizer;

/// Nodes per landmark.
pub const NODES_PER_LANDMARK: usize = 4;
/// A traversal starts from the nodes of this many landmarks.
const NEAREST: usize = 16;

/// Landmarks, borrowed from a builder or from a mapped index.
#[derive(Clone, Copy, Debug)]
pub struct Landmarks<'a> {
    /// Encoded `codes`.
    pub quantizer: &'a Quantizer,
    /// `[landmarks × stride]`.
    pub codes: &'a [u8],
    /// `[landmarks]`: [`Quantizer::half_norm`] of each under L2; empty under other metrics.
    pub half_norms: &'a [f32],
    /// `[landmarks × NODES_PER_LANDMARK]`: the best nodes of each, best first.
    pub nodes: &'a [u32],
}

/// Landmarks, owned. The build places them and the index writer freezes them.
#[derive(Clone, Debug, PartialEq)]
pub struct LandmarkTable {
    /// As [`Landmarks::quantizer`].
    pub quantizer: Quantizer,
    /// As [`Landmarks::codes`].
    pub codes: Vec<u8>,
    /// As [`Landmarks::half_norms`].
    pub half_norms: Vec<f32>,
    /// As [`Landmarks::nodes`].
    pub nodes: Vec<u32>,
}

impl LandmarkTable {
    /// The landmarks, borrowed.
    pub fn view(&self) -> Landmarks<'_> {
        let Self { quantizer, codes, half_norms, nodes } = self;
        Landmarks { quantizer, codes, half_norms, nodes }
    }

    /// The number of landmarks.
    pub fn len(&self) -> usize {
        self.nodes.len() / NODES_PER_LANDMARK
    }

    /// Whether there is no landmark.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }
}

impl Landmarks<'_> {
    /// Appends the nodes of the landmarks nearest to a query, `[dim]`, to `starts`. Some may occur twice. Under cosine the query
    /// must have norm 1.
    ///
    /// # Panics
    /// If the query has another dimension.
    pub fn find(&self, query: &[f32], scratch: &mut Scratch, starts: &mut Vec<NodeId>) -> Cost {
        let Scratch { landmark_query, batch_scores, selection, .. } = scratch;
        self.quantizer.encode_query(query, landmark_query);
        let count = self.nodes.len() / NODES_PER_LANDMARK;
        batch_scores.resize(count, 0.0);
        CodeScorer::new(landmark_query.as_slice(), self.codes).score_scan(0, batch_scores);
        let per_half_norm = 2.0 / landmark_query.affine()[0].scale;
        for (score, half_norm) in batch_scores.iter_mut().zip(self.half_norms) {
            *score -= per_half_norm * half_norm;
        }
        for nearest in selection.best(batch_scores, NEAREST) {
            let first = nearest.node() as usize * NODES_PER_LANDMARK;
            starts.extend(self.nodes[first..first + NODES_PER_LANDMARK].iter().map(|node| NodeId(*node)));
        }
        Cost { expanded: 0, distances: count as u64 }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::base::metric::Metric;
    use crate::quantize::{Bounds, Codes};

    const DIM: usize = 24;

    #[test]
    fn starts_are_the_nodes_of_the_nearest_landmarks() {
        for (metric, count) in
            Metric::ALL.into_iter().flat_map(|metric| [3, 200].map(|count| (metric, count)))
        {
            let mut random = ChaCha8Rng::seed_from_u64(count as u64);
            let mut vector = |offset| -> Vec<f32> {
                (0..DIM).map(|_| offset + random.random_range(-1.0f32..1.0)).collect()
            };
            // Under L2 far from the origin, where inner products say nothing about distances.
            let offset = if metric == Metric::L2 { 20.0 } else { 0.0 };
            let landmarks: Vec<f32> = (0..count).flat_map(|_| vector(offset)).collect();
            let query = vector(offset);
            let quantizer = Codes::Sq8.train(&Bounds::of(&landmarks, DIM), metric).unwrap();
            let codes = quantizer.encode_all(&landmarks);
            let half_norms = quantizer.half_norms(&codes);
            let nodes = (0..(count * NODES_PER_LANDMARK) as u32).map(|node| 7 * node).collect();
            let table = LandmarkTable { quantizer, codes, half_norms, nodes };
            assert_eq!(table.len(), count);

            let mut starts = Vec::new();
            let cost = table.view().find(&query, &mut Scratch::default(), &mut starts);
            assert_eq!((cost.expanded, cost.distances), (0, count as u64));
            assert_eq!(starts.len(), NEAREST.min(count) * NODES_PER_LANDMARK);
            let score = |landmark: usize| -> f32 {
                let row = &landmarks[landmark * DIM..(landmark + 1) * DIM];
                let of = query.iter().zip(row);
                match metric {
                    Metric::InnerProduct | Metric::Cosine => of.map(|(a, b)| a * b).sum(),
                    Metric::L2 => -of.map(|(a, b)| (a - b) * (a - b)).sum::<f32>(),
                }
            };
            let found: Vec<usize> = starts
                .chunks(NODES_PER_LANDMARK)
                .map(|nodes| nodes[0].index() / 7 / NODES_PER_LANDMARK)
                .collect();
            let least = found.iter().map(|landmark| score(*landmark)).fold(f32::INFINITY, f32::min);
            for (landmark, nodes) in found.iter().zip(starts.chunks(NODES_PER_LANDMARK)) {
                let first = 7 * (landmark * NODES_PER_LANDMARK) as u32;
                assert_eq!(nodes, [0, 7, 14, 21].map(|more| NodeId(first + more)), "{metric} {count}");
            }
            // As near as rounding to codes allows.
            let better =
                (0..count).filter(|landmark| score(*landmark) > least + 0.1 && !found.contains(landmark));
            assert_eq!(better.count(), 0, "{metric} {count}");
        }
    }
}
