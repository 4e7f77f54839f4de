//! Guessed users: queries for an index whose users nobody knows.
//!
//! Users are not distributed like videos, and videos find each other with little effort, so that videos as queries
//! promise far too much. A guessed user is a video of which every component is moved by a share of the difference that
//! two other videos have in it.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::index::Index;
use crate::kernel::{is_bounded, norm};

/// The share of the difference. With it, guessed users need about as much effort for a recall as those of `synth`, and as real
/// viewers and visitors: from 0.03 less recall at the same effort to 0.02 more. With more they are harder to answer.
const STEP: f32 = 0.85;
/// Number of videos between which differences are taken.
const POOL: usize = 1_000;

/// Returns up to `count` guessed users of `index`, `[n × dim]`: fewer if its videos are too long to be moved. The same for
/// the same index.
pub(super) fn guessed_users(index: &Index, count: usize) -> Vec<f32> {
    let dim = index.dim();
    let mut random = ChaCha8Rng::seed_from_u64(index.metadata().build.seed);
    let mut draw = |rows: usize| {
        let (mut drawn, mut row) = (Vec::with_capacity(rows * dim), Vec::new());
        for _ in 0..rows {
            index.vectors().copy_row(random.random_range(0..index.len()), &mut row);
            drawn.extend_from_slice(&row);
        }
        drawn
    };
    let (mut users, pool) = (draw(count), draw(POOL));
    for user in users.chunks_exact_mut(dim) {
        for (component, value) in user.iter_mut().enumerate() {
            let mut of_any = || pool[random.random_range(0..POOL) * dim + component];
            *value += STEP * (of_any() - of_any());
        }
    }
    let is_usable = |user: &&[f32]| is_bounded(user) && norm(user) > 0.0;
    users.chunks_exact(dim).filter(is_usable).flatten().copied().collect()
}
