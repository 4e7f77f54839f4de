//! How long the stages of one search took.
//!
//! What flows in: when a run of a stage began. What flows out: per stage, when it first began and the time of all of its
//! runs. A search that is not timed reads no clock: it tests one flag per run.

use std::time::{Duration, Instant};

/// The stages of a search that are timed apart from the rest of it; empty if the search is not timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// Rescoring of candidates. Searches by full embeddings alone have nothing to rescore on the plain path.
    pub rescoring: Option<Stage>,
    /// The choice of the hits of a page, under rules.
    pub choosing: Option<Stage>,
}

/// One stage of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// When its first run began.
    pub began: Instant,
    /// The time of all runs.
    pub took: Duration,
    /// How often it ran.
    pub runs: u32,
}

/// Adds a run of a stage that `began` then; nothing if the search is not timed.
pub(super) fn add_run(stage: &mut Option<Stage>, began: Option<Instant>) {
    let Some(began) = began else { return };
    let stage = stage.get_or_insert(Stage { began, took: Duration::ZERO, runs: 0 });
    stage.took += began.elapsed();
    stage.runs += 1;
}
