//! The default effort of an index that was built without users is measured with the first users that ask.
//!
//! ```text
//! enough sampled users ─► recall of each effort, on a thread of low priority ─► snapshot with the new default effort
//! ```
//!
//! Once per generation and start. Nothing is written: a restart begins with the guess of the build.

use std::sync::Arc;

use crate::dataset::{EmbeddingsView, Rows};
use crate::engine::publish::learner::Cancel;
use crate::engine::publish::served::ServedIndex;
use crate::engine::query::snapshot::Snapshot;
use crate::engine::supervise::Task;
use crate::index::QuerySource;
use crate::recall::{DEFAULT_EFFORT_K, calibrate};
use crate::search::SearchParams;

/// Measure once there are at least this many sampled users, and with at most [`MOST_USERS`] of them.
const LEAST_USERS: usize = 500;
const MOST_USERS: usize = 1_000;

/// Starts to measure the current generation if that is due.
pub(crate) fn start_if_due(served: &Arc<ServedIndex>) {
    let snapshot = served.shared().current.load_full();
    let usage = Arc::clone(&snapshot.usage);
    let is_rebuilt = served.rebuilder().status().state.is_underway();
    if is_rebuilt || !is_unmeasured(&snapshot) || !served.learner().is_free(&usage) {
        return;
    }
    let dim = snapshot.index.dim();
    let users = some_users(&served.sample().sampled_users(dim), dim);
    if users.is_empty() {
        return;
    }
    let learning = Arc::clone(served);
    served.learner().start(served.name(), &usage, move |cancel| {
        let learned = || learn(&learning, snapshot, &users, cancel);
        // The supervisor reports a panic.
        let _ = learning.background.supervisor.run(Task::Recall, learned);
    });
}

/// Whether nobody measured the generation with users, and its default effort may miss something.
fn is_unmeasured(snapshot: &Snapshot) -> bool {
    let curves = snapshot.calibrated.curves();
    curves.is_none_or(|curves| curves.source == QuerySource::Guessed)
        && !SearchParams::finds_all_by_default(&snapshot.index)
}

/// Returns at most [`MOST_USERS`] of `users`, `[n × dim]`, evenly spaced; none if they are too few.
fn some_users(users: &[f32], dim: usize) -> Vec<f32> {
    let found = users.len() / dim;
    let count = if found < LEAST_USERS { 0 } else { found.min(MOST_USERS) };
    let user = |position: usize| &users[position * found / count * dim..][..dim];
    (0..count).flat_map(user).copied().collect()
}

fn learn(served: &ServedIndex, snapshot: Arc<Snapshot>, users: &[f32], cancel: &Cancel) {
    let (index, generation) = (served.name(), snapshot.manifest.generation);
    let queries = EmbeddingsView::F32(Rows::contiguous(users, snapshot.index.dim()));
    // A pool of its own: the one of the server is for refreshes.
    let threads = served.rebuilder().options().threads();
    let pool = match rayon::ThreadPoolBuilder::new().num_threads(threads).build() {
        Ok(pool) => pool,
        Err(error) => return tracing::error!(index, %error, "cannot measure the default effort"),
    };
    let measure = || calibrate(&snapshot.index, queries, QuerySource::Sampled, &DEFAULT_EFFORT_K, cancel);
    match pool.install(measure) {
        Ok(curves) => {
            let queries = curves.queries;
            let calibrated = Arc::new(snapshot.calibrated.learned(curves));
            if served.shared().set_calibration(&snapshot, calibrated).is_some() {
                tracing::info!(index, generation, queries, "measured the default effort with sampled users");
            }
        }
        Err(error) => tracing::info!(index, generation, %error, "the default effort was not measured"),
    }
}
