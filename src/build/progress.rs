//! How far a build is, and whether it should go on.

/// Told of every phase of a build, and asked whether to go on. Called from several threads.
pub trait Progress: Sync {
    /// A phase of `total` steps begins.
    fn begin(&self, phase: &'static str, total: u64);
    /// So many more steps of the phase are done.
    fn advance(&self, steps: u64);
    /// Whether somebody wants the build to stop.
    fn is_cancelled(&self) -> bool;
}

/// Tells nobody and never stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &'static str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn is_cancelled(&self) -> bool {
        false
    }
}
