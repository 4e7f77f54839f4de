//! The size of a sample catalog.

/// The sizes and the seed of a sample catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynthParams {
    /// Videos in the catalog.
    pub videos: usize,
    /// Components per embedding.
    pub dim: usize,
    /// Number of users. One in five of them, at least 1 and at most 10,000, is held out.
    pub users: usize,
    /// The seed of all random numbers.
    pub seed: u64,
    /// About how many of the videos are re-uploads of others: half of them copies, the others encoded again.
    pub duplicates: usize,
}

impl SynthParams {
    /// The default number of users.
    pub const DEFAULT_USERS: usize = 10_000;
    /// The default seed.
    pub const DEFAULT_SEED: u64 = 42;

    /// Returns the number of users that a build must not use as training queries.
    pub fn held_out_users(&self) -> usize {
        (self.users / 5).clamp(1, 10_000)
    }

    /// Returns the number of videos outside the catalog, which serve as queries.
    pub fn held_out_videos(&self) -> usize {
        (self.videos / 10).clamp(1, 5_000)
    }
}
