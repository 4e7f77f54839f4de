//! Landmarks: where traversals start.
//!
//! A landmark is a vector near which many queries or rows are, with the nodes that score best for it. The nodes of the landmarks
//! nearest to a query are near its own best nodes, and where these are in several regions, near most of them. So a traversal
//! from there needs fewer steps than one that descends from the top of the graph.

use super::candidates::Candidate;
use super::cost::Cost;
use super::scorer::{CodeScorer, Scan as _};
use super::scratch::Scratch;
use super::selection::Selection;
use crate::base::id::NodeId;
use crate::base::parallel;
use crate::quantize::{Quantizer, QueryCodes};

/// Nodes per landmark.
pub const NODES_PER_LANDMARK: usize = 4;
/// Landmarks per block. The landmarks of a block are near each other, if those of an index are in blocks.
pub const LANDMARKS_PER_BLOCK: usize = 64;
/// A traversal starts from the nodes of this many landmarks.
const NEAREST: usize = 16;
/// With fewer landmarks, all are scored: that takes no longer than to look for the nearest blocks.
const BLOCKS_FROM: usize = 2048;
/// One block in this many is scored, the nearest ones.
const BLOCKS_PER_SCORED: usize = 4;

/// Landmarks, borrowed from a builder or from a mapped index.
#[derive(Clone, Copy, Debug)]
pub struct Landmarks<'a> {
    /// Encoded `codes`.
    pub quantizer: &'a Quantizer,
    /// `[landmarks × stride]`.
    pub codes: &'a [u8],
    /// What is derived from the codes.
    pub derived: &'a DerivedLandmarks,
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
    /// As [`Landmarks::derived`].
    pub derived: DerivedLandmarks,
    /// As [`Landmarks::nodes`].
    pub nodes: Vec<u32>,
}

impl LandmarkTable {
    /// The landmarks, borrowed.
    pub fn view(&self) -> Landmarks<'_> {
        let Self { quantizer, codes, derived, nodes } = self;
        Landmarks { quantizer, codes, derived, nodes }
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
        let Scratch { landmark_query, landmark_blocks, batch_scores, selection, .. } = scratch;
        self.quantizer.encode_query(query, landmark_query);
        let count = self.nodes.len() / NODES_PER_LANDMARK;
        let mut distances =
            self.derived.choose(landmark_query, count, landmark_blocks, batch_scores, selection);
        batch_scores.resize(landmark_blocks.len() * LANDMARKS_PER_BLOCK, 0.0);
        for (block, scores) in landmark_blocks.iter().zip(batch_scores.chunks_mut(LANDMARKS_PER_BLOCK)) {
            let first = *block as usize * LANDMARKS_PER_BLOCK;
            let (scores, none) = scores.split_at_mut(LANDMARKS_PER_BLOCK.min(count - first));
            score(landmark_query, self.codes, &self.derived.half_norms, first, scores);
            none.fill(f32::NEG_INFINITY);
            distances += scores.len();
        }
        for nearest in selection.best(batch_scores, NEAREST.min(count)) {
            let (block, within) = (
                nearest.node() as usize / LANDMARKS_PER_BLOCK,
                nearest.node() as usize % LANDMARKS_PER_BLOCK,
            );
            let landmark = landmark_blocks[block] as usize * LANDMARKS_PER_BLOCK + within;
            let first = landmark * NODES_PER_LANDMARK;
            starts.extend(self.nodes[first..first + NODES_PER_LANDMARK].iter().map(|node| NodeId(*node)));
        }
        Cost { expanded: 0, distances: distances as u64 }
    }
}

/// What is derived from the codes of landmarks when an index is opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DerivedLandmarks {
    /// `[landmarks]`: [`Quantizer::half_norm`] of each under L2; empty under other metrics.
    half_norms: Vec<f32>,
    /// `None` if all landmarks are scored.
    blocks: Option<LandmarkBlocks>,
}

impl DerivedLandmarks {
    /// Derives from `codes`, `[landmarks × stride]`. `are_in_blocks`: whether each [`LANDMARKS_PER_BLOCK`] of them are near each
    /// other.
    pub fn of(quantizer: &Quantizer, codes: &[u8], are_in_blocks: bool) -> Self {
        let has_blocks = are_in_blocks && codes.len() / quantizer.stride() >= BLOCKS_FROM;
        Self {
            half_norms: quantizer.half_norms(codes),
            blocks: has_blocks.then(|| LandmarkBlocks::of(quantizer, codes)),
        }
    }

    /// Puts the blocks whose landmarks are to be scored into `blocks`, ascending. Returns how many means were scored.
    fn choose(
        &self,
        query: &QueryCodes,
        landmarks: usize,
        blocks: &mut Vec<u32>,
        scores: &mut Vec<f32>,
        selection: &mut Selection,
    ) -> usize {
        blocks.clear();
        let count = landmarks.div_ceil(LANDMARKS_PER_BLOCK);
        let Some(LandmarkBlocks { means, half_norms }) = &self.blocks else {
            blocks.extend(0..count as u32);
            return 0;
        };
        scores.resize(count, 0.0);
        score(query, means, half_norms, 0, scores);
        let nearest = selection.best(scores, count.div_ceil(BLOCKS_PER_SCORED));
        blocks.extend(nearest.iter().map(Candidate::node));
        blocks.sort_unstable();
        count
    }
}

/// The mean of each block of landmarks.
#[derive(Clone, Debug, PartialEq)]
struct LandmarkBlocks {
    /// `[blocks × stride]`.
    means: Vec<u8>,
    /// As [`DerivedLandmarks::half_norms`], of the means.
    half_norms: Vec<f32>,
}

impl LandmarkBlocks {
    fn of(quantizer: &Quantizer, codes: &[u8]) -> Self {
        let stride = quantizer.stride();
        // A component is a linear function of its code, and the mean of components is that of the mean of codes.
        let mean = |block: &[u8], at: usize| {
            let sum: usize = block.iter().skip(at).step_by(stride).map(|code| usize::from(*code)).sum();
            let count = block.len() / stride;
            ((sum + count / 2) / count) as u8
        };
        let of_block = |_, block: &[u8]| (0..stride).map(|at| mean(block, at)).collect::<Vec<u8>>();
        let means = parallel::map_chunks(codes, LANDMARKS_PER_BLOCK * stride, 1, of_block).concat();
        Self { half_norms: quantizer.half_norms(&means), means }
    }
}

/// Scores the vectors from `first` on, in units of dot products of codes.
fn score(query: &QueryCodes, codes: &[u8], half_norms: &[f32], first: usize, scores: &mut [f32]) {
    CodeScorer::new(query.as_slice(), codes).score_scan(first, scores);
    let per_half_norm = 2.0 / query.affine()[0].scale;
    for (score, half_norm) in scores.iter_mut().zip(half_norms.iter().skip(first)) {
        *score -= per_half_norm * half_norm;
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
            Metric::ALL.into_iter().flat_map(|metric| [3, 64, 200].map(|count| (metric, count)))
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
            let derived = DerivedLandmarks::of(&quantizer, &codes, true);
            let nodes = (0..(count * NODES_PER_LANDMARK) as u32).map(|node| 7 * node).collect();
            let table = LandmarkTable { quantizer, codes, derived, nodes };
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
    /// Many landmarks in a few directions, sorted by direction: those of the query are found, and most others are not scored.
    #[test]
    fn only_the_nearest_blocks_are_scored_if_there_are_many() {
        for metric in Metric::ALL {
            let mut random = ChaCha8Rng::seed_from_u64(5);
            let directions: Vec<Vec<f32>> =
                (0..40).map(|_| (0..DIM).map(|_| random.random_range(-1.0f32..1.0)).collect()).collect();
            let mut landmarks = Vec::new();
            for direction in &directions {
                for _ in 0..LANDMARKS_PER_BLOCK {
                    landmarks.extend(direction.iter().map(|value| value + random.random_range(-0.1f32..0.1)));
                }
            }
            let count = landmarks.len() / DIM - 10;
            landmarks.truncate(count * DIM);
            let quantizer = Codes::Sq8.train(&Bounds::of(&landmarks, DIM), metric).unwrap();
            let codes = quantizer.encode_all(&landmarks);
            let nodes: Vec<u32> = (0..(count * NODES_PER_LANDMARK) as u32).collect();
            for (at, direction) in directions.iter().enumerate() {
                let starts = |are_in_blocks| {
                    let derived = DerivedLandmarks::of(&quantizer, &codes, are_in_blocks);
                    let landmarks =
                        Landmarks { quantizer: &quantizer, codes: &codes, derived: &derived, nodes: &nodes };
                    let mut starts = Vec::new();
                    let cost = landmarks.find(direction, &mut Scratch::default(), &mut starts);
                    (starts, cost.distances as usize)
                };
                let ((all, of_all), (found, of_found)) = (starts(false), starts(true));
                assert_eq!(found, all, "{metric} {at}");
                assert_eq!(of_all, count);
                assert!(of_found <= 40 + 10 * LANDMARKS_PER_BLOCK && of_found > 40 + 9 * LANDMARKS_PER_BLOCK);
            }
        }
    }
}
