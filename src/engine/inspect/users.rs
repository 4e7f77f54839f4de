//! A sample of user embeddings, to try searches with.

use crate::engine::Engine;
use crate::engine::error::EngineError;

/// User embeddings, and where they are from.
#[derive(Clone, Debug, PartialEq)]
pub struct SampledUsers {
    /// Where they are from, or why there are none.
    pub source: &'static str,
    /// `[n][dim]`.
    pub users: Vec<Vec<f32>>,
}

impl Engine {
    /// Returns at most `count` user embeddings that fit an index, spread over those that there are: users that its build held out, or
    /// else those of recent searches.
    ///
    /// # Errors
    /// If there is no such index.
    pub fn sample_users(&self, index: &str, count: usize) -> Result<SampledUsers, EngineError> {
        self.with(index, |served| {
            let snapshot = served.snapshot()?;
            let dim = snapshot.index.dim();
            if let Some(held_out) = snapshot.index.held_out_queries() {
                let row = |row| {
                    let mut user = Vec::with_capacity(dim);
                    held_out.copy_row(row, &mut user);
                    user
                };
                let users = spread(held_out.len(), count).map(row).collect();
                return Ok(SampledUsers { source: "users that the build held out", users });
            }
            let sampled = served.sample().sampled_users(dim);
            let all = sampled.len() / dim;
            if all == 0 {
                let source = "none: the build held no users out, and no search was sampled";
                return Ok(SampledUsers { source, users: Vec::new() });
            }
            let row = |row: usize| sampled[row * dim..(row + 1) * dim].to_vec();
            Ok(SampledUsers {
                source: "users of recent searches",
                users: spread(all, count).map(row).collect(),
            })
        })
    }
}

/// At most `count` of the numbers below `all`, evenly spread.
pub(super) fn spread(all: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(all);
    (0..count).map(move |at| at * all / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_spread_over_all() {
        assert_eq!(spread(10, 4).collect::<Vec<_>>(), [0, 2, 5, 7]);
        assert_eq!(spread(3, 9).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(spread(0, 9).count() + spread(9, 0).count(), 0);
    }
}
