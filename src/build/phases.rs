//! How long each phase of a build takes.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::progress::Progress;
use crate::index::BuildPhase;

/// What a build does before it announces its first phase.
const FIRST: &str = "reading the input";

/// Passes everything on to another [`Progress`], and notes when each phase begins.
pub(super) struct PhaseClock<'a> {
    progress: &'a dyn Progress,
    begun: Mutex<Vec<(&'static str, Instant)>>,
}

impl<'a> PhaseClock<'a> {
    /// The input has been read since `started`.
    pub(super) fn new(progress: &'a dyn Progress, started: Instant) -> Self {
        Self { progress, begun: Mutex::new(vec![(FIRST, started)]) }
    }

    /// Every phase up to now, in the order in which they first began; those of one name count together.
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
