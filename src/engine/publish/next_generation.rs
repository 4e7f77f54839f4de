//! Rebuilds a served index: builds the next generation, measures it, and publishes it.
//!
//! ```text
//! threshold or request ─► gather all segments without tombstones ─► build on a share of the cores ─► gate
//!                                                                                                     │
//!     log trimmed, old generations removed ◄─ swap: later log entries are replayed ◄─ publish ◄───────┘
//! ```

use std::sync::Arc;
use std::time::Instant;

use crate::base::clock::settled_now;
use crate::build::{BuildError, Progress as _};
use crate::engine::error::EngineError;
use crate::engine::publish::continuity::Next;
use crate::engine::publish::quality_gate::{Reference, Run};
use crate::engine::publish::served::ServedIndex;
use crate::engine::rebuild::build::Source;
use crate::engine::rebuild::error::{PublishError, RebuildError};
use crate::engine::rebuild::rebuilder::RebuildProgress;
use crate::engine::supervise::Task;
use crate::index::StoreError;
use crate::live::RowsError;

/// Starts a rebuild unless one is running. `reason` is logged.
///
/// # Errors
/// If no generation can be built, or there can be no thread for it.
pub(crate) fn start(served: &Arc<ServedIndex>, reason: &str) -> Result<(), EngineError> {
    served.check_rebuildable()?;
    let rebuilt = Arc::clone(served);
    served.rebuilder().start(served.name(), reason, move |progress| rebuild(&rebuilt, progress))
}

/// Starts a rebuild if enough has changed. An index without a log, or with one that other processes write to, too, is left to
/// the process that builds its generations.
pub(crate) fn start_if_due(served: &Arc<ServedIndex>) {
    if served.log().is_shared() {
        return;
    }
    let Some(log) = served.log().written().filter(|_| served.check_rebuildable().is_ok()) else { return };
    let generation = served.shared().current.load().manifest.generation;
    let due = served.shared().with_live(|live| served.rebuilder().due(generation, live, log.size()));
    let Some(reason) = due else { return };
    if let Err(error) = start(served, &reason) {
        tracing::error!(index = served.name(), %error, "cannot rebuild");
    }
}

/// Builds, measures and publishes the next generation, and swaps it in.
fn rebuild(served: &ServedIndex, progress: &RebuildProgress) -> Result<(), RebuildError> {
    let started = Instant::now();
    progress.begin("gathering videos", 1);
    let options = served.rebuilder().options();
    let shared = served.shared();
    let (usage, mut input) = shared
        .with_live(|live| (Arc::clone(&shared.current.load().usage), live.rebuild_input(settled_now())));
    progress.set_bad_records(input.parked);
    // So that a copy in memory can be given back while the rebuild runs.
    if served.gives_back() {
        input.reopen_base().map_err(StoreError::from).map_err(PublishError::from)?;
    }
    let (base, _) = input.kept.first().ok_or(RowsError::NoVideos)?;
    // Otherwise damaged bytes would be copied under new, valid checksums.
    base.check_checksums().map_err(StoreError::from).map_err(PublishError::from)?;
    let source = Source { name: served.name(), store: served.store(), sample: served.sample(), options };
    let mut built = source.build(input, progress, started)?;
    progress.begin_gating();
    let staged = built.staged.open().map_err(StoreError::from).map_err(PublishError::from)?;
    staged.populate();
    // A pool of its own: the one of the server is for refreshes.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(options.threads()).build();
    let pool = pool.map_err(BuildError::from)?;
    built.measured.verdict = {
        // Released before the swap, which waits until nothing uses the old generation.
        let current = served.shared().current.load_full();
        let reference = Reference { current: &current, sample: served.sample() };
        let next = Next::after(&current, &staged, built.measured.curves.as_ref());
        let keep_going = || !progress.is_cancelled();
        served.gate().measure(
            next,
            &reference,
            &Run { task: Task::Rebuild, pool: &pool, keep_going: &keep_going },
        )
    };
    drop(staged);
    if progress.is_cancelled() {
        return Err(BuildError::Cancelled.into());
    }
    Ok(served.publish(&usage, built)?)
}
