//! The size of a sample catalog.

/// How much to make up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynthParams {
    /// Videos in the catalog.
    pub videos: usize,
    /// Components per embedding.
    pub dim: usize,
    /// Users in all; one in five of them, and no more than 10,000, are held out.
    pub users: usize,
    /// What everything is drawn from.
    pub seed: u64,
}

impl SynthParams {
    /// Users unless told otherwise.
    pub const DEFAULT_USERS: usize = 10_000;
    /// The seed unless told otherwise.
    pub const DEFAULT_SEED: u64 = 42;

    /// Users that a build must not learn from.
    pub fn held_out_users(&self) -> usize {
        (self.users / 5).clamp(1, 10_000)
    }

    /// Videos that are not in the catalog, to be used as queries.
    pub fn held_out_videos(&self) -> usize {
        (self.videos / 10).clamp(1, 5_000)
    }
}
