//! Asks the engine to look for new publications.
//!
//! What flows in: time. What flows out: swaps and refusals, in the log and in the metrics.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::metrics::{self, Metrics};
use crate::engine::{Engine, Refresh};

/// Looks every `poll_interval`, until dropped.
pub(super) async fn run(engine: Arc<Engine>, metrics: Arc<Metrics>, poll_interval: Duration) {
    let mut ticks = tokio::time::interval(poll_interval);
    // Warming a generation may take longer than the interval; what was missed is not made up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let looking = Arc::clone(&engine);
        let news = match tokio::task::spawn_blocking(move || looking.refresh()).await {
            Ok(news) => news,
            Err(error) => {
                tracing::error!(%error, "looking for new publications failed");
                continue;
            }
        };
        for refresh in &news {
            match refresh {
                Refresh::Swapped { index, from, to } => {
                    tracing::info!(index, from, to, "swapped generations")
                }
                Refresh::Calibrated { index, generation, queries } => {
                    tracing::info!(index, generation, queries, "took a new calibration")
                }
                Refresh::Refused { index, manifest, error } => {
                    tracing::error!(index, manifest, %error, "refused a publication; the generation before keeps serving");
                }
            }
        }
        if !news.is_empty() {
            metrics::observe_indexes(&engine, &metrics).await;
        }
    }
}
