//! The duration of each phase of a build.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::progress::Progress;
use crate::index::BuildPhase;

/// The phase before the first one that is reported.
const FIRST: &str = "reading the input";

/// Forwards to another [`Progress`] and records when each phase begins.
pub(super) struct PhaseClock<'a> {
    progress: &'a dyn Progress,
    begun: Mutex<Vec<(&'static str, Instant)>>,
}

impl<'a> PhaseClock<'a> {
    /// Starts with the phase of reading the input, which began at `started`.
    pub(super) fn new(progress: &'a dyn Progress, started: Instant) -> Self {
        Self { progress, begun: Mutex::new(vec![(FIRST, started)]) }
    }

    /// Returns the phases up to now, in the order in which they first began; the durations of phases of the same name are
    /// added.
    pub(super) fn finish(self) -> Vec<BuildPhase> {
        let begun = self.begun.into_inner();
        let ends = begun.iter().skip(1).map(|(_, begun)| *begun).chain([Instant::now()]);
        let mut phases: Vec<(&str, Duration)> = Vec::new();
        for ((name, begun), end) in begun.iter().zip(ends) {
            let elapsed = end.duration_since(*begun);
            match phases.iter_mut().find(|(known, _)| known == name) {
                Some((_, total)) => *total += elapsed,
                None => phases.push((name, elapsed)),
            }
        }
        let phase = |(name, elapsed): (&str, Duration)| BuildPhase {
            name: name.to_owned(),
            ms: elapsed.as_millis() as u64,
        };
        phases.into_iter().map(phase).collect()
    }
}

impl Progress for PhaseClock<'_> {
    fn begin(&self, phase: &'static str, total: u64) {
        self.begun.lock().push((phase, Instant::now()));
        self.progress.begin(phase, total);
    }

    fn advance(&self, steps: u64) {
        self.progress.advance(steps);
    }

    fn is_cancelled(&self) -> bool {
        self.progress.is_cancelled()
    }
}
