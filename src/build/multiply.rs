//! Augmentation of a small sample of training queries: each new query is a query of the sample, moved by the difference
//! between two of its neighbors.
//!
//! A large catalog needs more training queries than may be available: 5,000 leave most answers of other queries without
//! an edge.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::coded::{PackedRows, TILE, Tile};
use crate::base::metric::Metric;
use crate::base::parallel;
use crate::graph::Selection;
use crate::kernel::is_bounded;

/// Number of neighbors between which steps are taken.
const NEIGHBORS: usize = 10;
/// Length of a step, as a share of the difference between two neighbors.
const STEP: f32 = 0.7;
/// Maximum number of queries that are considered as neighbors.
const MAX_ANCHORS: usize = 4096;
/// Maximum number of new queries per query of the sample: more would be nearly duplicates.
const MAX_FACTOR: usize = 64;

/// Generates up to `wanted` queries, `[count × dim]`, from `users`, `[n × dim]`: none from too small a sample, at most
/// [`MAX_FACTOR`] per user, and none that is longer than a user may be.
pub(super) fn multiply(users: &[f32], dim: usize, wanted: usize, seed: u64) -> Vec<f32> {
    let count = users.len() / dim;
    let wanted = wanted.min(count * MAX_FACTOR);
    if count <= NEIGHBORS || wanted == 0 {
        return Vec::new();
    }
    let anchors = count.min(MAX_ANCHORS);
    let of_anchor = |anchor: usize| anchor * count / anchors;
    let row = |user: usize| &users[user * dim..(user + 1) * dim];
    let rows: Vec<f32> = (0..anchors).flat_map(|anchor| row(of_anchor(anchor))).copied().collect();
    let (packed, quantizer) = PackedRows::of_vectors(&rows, dim, Metric::L2);
    let per_user = wanted.div_ceil(count);
    let multiplied_users = wanted.div_ceil(per_user);
    let multiply = |(tile, selection): &mut (Tile, Selection), at: usize| {
        let some = at * TILE..((at + 1) * TILE).min(multiplied_users);
        let mut made = Vec::with_capacity(TILE * per_user * dim);
        let scores = tile.score_queries(&quantizer, some.clone().map(row), &packed);
        for (user, scores) in some.zip(scores) {
            let near = selection.best(scores, NEIGHBORS + 1).iter();
            let near: Vec<usize> =
                near.map(|found| of_anchor(found.node() as usize)).filter(|other| *other != user).collect();
            if near.len() < 2 {
                continue;
            }
            let mut random = ChaCha8Rng::seed_from_u64(seed ^ user as u64);
            for _ in 0..per_user {
                let from = random.random_range(0..near.len());
                let to = (from + random.random_range(1..near.len())) % near.len();
                let step = row(near[to]).iter().zip(row(near[from])).map(|(to, from)| STEP * (to - from));
                let start = made.len();
                made.extend(row(user).iter().zip(step).map(|(value, step)| value + step));
                if !is_bounded(&made[start..]) {
                    made.truncate(start);
                }
            }
        }
        made
    };
    let mut multiplied =
        parallel::map_with(multiplied_users.div_ceil(TILE), 1, Default::default, multiply).concat();
    multiplied.truncate(wanted * dim);
    multiplied
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_queries_are_close_to_the_sample() {
        // Users on a line through a plane: steps between neighbors stay on it.
        let users: Vec<f32> = (0..100).flat_map(|user| [user as f32, 2.0 * user as f32]).collect();
        let made = multiply(&users, 2, 1000, 7);
        assert_eq!(made.len(), 1000 * 2);
        assert_eq!(made, multiply(&users, 2, 1000, 7));
        for user in made.chunks(2) {
            assert!((user[1] - 2.0 * user[0]).abs() < 1e-3, "{user:?}");
            assert!((-20.0..120.0).contains(&user[0]), "{user:?}");
        }
        let distinct: std::collections::BTreeSet<u32> = made.iter().map(|value| value.to_bits()).collect();
        assert!(distinct.len() > 500);
    }

    #[test]
    fn small_samples_are_multiplied_within_limits() {
        assert!(multiply(&[1.0; 20], 2, 100, 7).is_empty());
        assert!(multiply(&[1.0; 40], 2, 0, 7).is_empty());
        assert_eq!(multiply(&[1.0; 40], 2, 1_000_000, 7).len(), 20 * MAX_FACTOR * 2);
    }
}
