//! Asks the engine to finish its start and to look for new publications.
//!
//! What flows in: time. What flows out: what came of it, in the log, in the metrics and in the health.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use super::{Shared, metrics};
use crate::engine::Refresh;
use crate::index::Residence;

/// The share of a core that measuring recall may take.
const RECALL_SHARE: f64 = 0.05;

/// Looks at once and then every `poll_interval`, until dropped; `looked` is told of the first time.
pub(super) async fn run(shared: Arc<Shared>, poll_interval: Duration, looked: oneshot::Sender<()>) {
    let mut looked = Some(looked);
    let mut ticks = tokio::time::interval(poll_interval);
    // Warming a generation may take longer than the interval; what was missed is not made up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let engine = Arc::clone(&shared.engine);
        let news = match tokio::task::spawn_blocking(move || engine.refresh()).await {
            Ok(news) => news,
            Err(error) => {
                tracing::error!(%error, "looking for new publications failed");
                continue;
            }
        };
        news.iter().for_each(log);
        // Each time: an activation may have mended what was out of service.
        shared.health.observe(&shared.engine).await;
        // Nobody may be waiting any more.
        let _ = looked.take().map(|looked| looked.send(()));
        measure_recall(&shared, poll_interval).await;
        metrics::observe_indexes(&shared.engine, &shared.metrics).await;
    }
}

/// Compares answers of the sample with exact ones while nobody else wants to search, for a small share of the time.
async fn measure_recall(shared: &Arc<Shared>, poll_interval: Duration) {
    let of_thread = Arc::clone(shared);
    let measured = tokio::task::spawn_blocking(move || {
        let until = Instant::now() + poll_interval.mul_f64(RECALL_SHARE);
        while of_thread.admission.is_idle() && of_thread.engine.measure_recall() && Instant::now() < until {}
    });
    if let Err(error) = measured.await {
        tracing::error!(%error, "measuring recall failed");
    }
}

fn log(refresh: &Refresh) {
    match refresh {
        Refresh::Checked { index, generation, elapsed } => {
            tracing::info!(index, generation, ?elapsed, "warmed and checked");
        }
        Refresh::Replaced { index, from, to, error } => {
            tracing::error!(index, from, to, %error, "what was served is damaged; an older generation takes over");
        }
        Refresh::Withdrawn { index, generation, error } => {
            tracing::error!(index, generation, %error, "what was served must not answer any more; the index is out of service");
        }
        Refresh::Swapped { index, from, to } => tracing::info!(index, from, to, "swapped generations"),
        Refresh::Calibrated { index, generation, queries } => {
            tracing::info!(index, generation, queries, "took a new calibration");
        }
        Refresh::Refused { index, manifest, error } => {
            tracing::error!(index, manifest, %error, "refused a publication; the generation before keeps serving");
        }
        Refresh::Resident { index, generation, residence } => {
            let Residence { bytes, huge_pages } = residence;
            tracing::info!(index, generation, bytes, huge_pages, "resident");
        }
        Refresh::StaysMapped { index, generation, error } => {
            tracing::error!(index, generation, %error, "cannot be made resident; it keeps serving from the mapped file");
        }
    }
}
