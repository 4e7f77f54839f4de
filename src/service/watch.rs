//! Polls the engine, which finishes its start and looks for new publications.
//!
//! What flows in: the poll interval. What flows out: log lines, metrics and health.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::MissedTickBehavior;

use super::metrics;
use super::shared::Shared;
use crate::engine::Refresh;
use crate::index::Residence;

/// The share of one core's time for measuring recall.
const RECALL_SHARE: f64 = 0.05;

/// Polls at once and then every `poll_interval`, until dropped. Signals `polled` after the first poll.
pub(super) async fn run(shared: Arc<Shared>, poll_interval: Duration, polled: oneshot::Sender<()>) {
    let mut polled = Some(polled);
    let mut ticks = tokio::time::interval(poll_interval);
    // Warming a generation may take longer than the interval. Missed ticks are not made up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let engine = Arc::clone(&shared.engine);
        let news = match tokio::task::spawn_blocking(move || engine.refresh()).await {
            Ok(news) => news,
            Err(error) => {
                tracing::error!(%error, "cannot look for new publications");
                continue;
            }
        };
        for refresh in &news {
            log(refresh);
            if let Refresh::Refused { index, error, .. } = refresh {
                shared.metrics.refused(index, error);
            }
        }
        // At every poll, because an activation may have put an index back into service.
        shared.health.observe(&shared.engine).await;
        // Fails if the server no longer waits for the first poll.
        let _ = polled.take().map(|polled| polled.send(()));
        measure_recall(&shared, poll_interval).await;
        metrics::observe_indexes(&shared.engine, &shared.metrics).await;
    }
}

/// Compares sampled answers with exact ones while no search is in flight, for at most [`RECALL_SHARE`] of the time.
async fn measure_recall(shared: &Arc<Shared>, poll_interval: Duration) {
    let shared = Arc::clone(shared);
    let measured = tokio::task::spawn_blocking(move || {
        let until = Instant::now() + poll_interval.mul_f64(RECALL_SHARE);
        while shared.admission.is_idle() && shared.engine.measure_recall() && Instant::now() < until {}
    });
    if let Err(error) = measured.await {
        tracing::error!(%error, "cannot measure recall");
    }
}

fn log(refresh: &Refresh) {
    match refresh {
        Refresh::Checked { index, generation, elapsed } => {
            tracing::info!(index, generation, ?elapsed, "warmed and checked the generation");
        }
        Refresh::Replaced { index, from, to, error } => {
            tracing::error!(index, from, to, %error, "the serving generation is damaged; an older generation takes over");
        }
        Refresh::Withdrawn { index, generation, error } => {
            tracing::error!(index, generation, %error, "the serving generation must not answer any more; the index is out of service");
        }
        Refresh::Swapped { index, from, to } => tracing::info!(index, from, to, "swapped generations"),
        Refresh::Calibrated { index, generation, queries } => {
            tracing::info!(index, generation, queries, "loaded a new calibration");
        }
        Refresh::Refused { index, manifest, error } => {
            tracing::error!(index, manifest, %error, "refused a publication; the previous generation keeps serving");
        }
        Refresh::Resident { index, generation, residence } => {
            let Residence { bytes, huge_pages } = residence;
            tracing::info!(index, generation, bytes, huge_pages, "copied the generation into memory");
        }
        Refresh::StaysMapped { index, generation, error } => {
            tracing::error!(index, generation, %error, "cannot copy the generation into memory; it keeps serving from the mapped file");
        }
    }
}
