//! Progress reports and cancellation of a build.

/// Receives the progress of a build and can cancel it. Called from several threads.
pub trait Progress: Sync {
    /// A phase of `total` steps begins.
    fn begin(&self, phase: &'static str, total: u64);
    /// `steps` more steps of the phase are done.
    fn advance(&self, steps: u64);
    /// Returns whether to stop the build.
    fn is_cancelled(&self) -> bool;
}

/// Ignores progress and never cancels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &'static str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn is_cancelled(&self) -> bool {
        false
    }
}
