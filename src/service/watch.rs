//! Polls the engine, which finishes its start and looks for new publications.
//!
//! What flows in: the poll interval. What flows out: log lines, metrics and health.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;

use super::metrics;
use super::shared::Shared;
use crate::base::panics::Panicked;
use crate::engine::{Refresh, Supervisor, Task};
use crate::index::Residence;

/// The share of one core's time for measuring recall.
const RECALL_SHARE: f64 = 0.05;

/// Polls at once and then every `poll_interval`, until dropped. Notifies `polled` after each poll. A panic is reported,
/// and polling starts again.
pub(super) async fn run(shared: Arc<Shared>, poll_interval: Duration, polled: Arc<Notify>) {
    let start = || poll(Arc::clone(&shared), poll_interval, Arc::clone(&polled));
    keep_running(shared.engine.supervisor(), Task::Watch, poll_interval, start).await;
}

/// Runs what `start` returns until it completes. After a panic, which is reported, starts it again after `pause`.
async fn keep_running<F: Future<Output = ()> + Send + 'static>(
    supervisor: &Supervisor,
    task: Task,
    pause: Duration,
    mut start: impl FnMut() -> F,
) {
    loop {
        // A JoinSet, so that the task ends when this future is dropped.
        let mut running = JoinSet::new();
        running.spawn(start());
        let Some(Err(error)) = running.join_next().await else { return };
        report(supervisor, task, error);
        tokio::time::sleep(pause).await;
    }
}

/// Reports that a task panicked. Does nothing if it was cancelled.
fn report(supervisor: &Supervisor, task: Task, error: JoinError) {
    if let Ok(payload) = error.try_into_panic() {
        supervisor.report(task, &Panicked::of(&*payload));
    }
}

async fn poll(shared: Arc<Shared>, poll_interval: Duration, polled: Arc<Notify>) {
    let mut ticks = tokio::time::interval(poll_interval);
    // Warming a generation may take longer than the interval. Missed ticks are not made up for.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let engine = Arc::clone(&shared.engine);
        let news = match tokio::task::spawn_blocking(move || engine.refresh()).await {
            Ok(news) => news,
            Err(error) => {
                report(shared.engine.supervisor(), Task::Refresh, error);
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
        polled.notify_one();
        measure_recall(&shared, poll_interval).await;
        metrics::observe_indexes(&shared.engine, &shared.metrics).await;
    }
}

/// Compares sampled answers with exact ones while no search is in flight, for at most [`RECALL_SHARE`] of the time.
async fn measure_recall(shared: &Arc<Shared>, poll_interval: Duration) {
    let shared_by_task = Arc::clone(shared);
    let measured = tokio::task::spawn_blocking(move || {
        let shared = shared_by_task;
        let until = Instant::now() + poll_interval.mul_f64(RECALL_SHARE);
        while shared.admission.is_idle() && shared.engine.measure_recall() && Instant::now() < until {}
    });
    if let Err(error) = measured.await {
        report(shared.engine.supervisor(), Task::Recall, error);
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
        Refresh::Detached { index, generation, error } => {
            tracing::error!(index, generation, %error, "the files of the index are not those that were opened; its generation keeps serving, and nothing is written");
        }
        Refresh::Opened { index, generation, reason } => {
            tracing::warn!(index, generation, reason, "opened the files of the index anew");
        }
        Refresh::Unopened { index, error } => tracing::error!(index, %error, "cannot open the index"),
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_is_started_again() {
        let (supervisor, starts) = (Supervisor::default(), Arc::new(AtomicU64::new(0)));
        let start = || {
            let starts = Arc::clone(&starts);
            async move { assert!(starts.fetch_add(1, Ordering::Relaxed) >= 3, "on purpose") }
        };
        keep_running(&supervisor, Task::Watch, Duration::ZERO, start).await;
        assert_eq!((starts.load(Ordering::Relaxed), supervisor.restarts(Task::Watch)), (4, 3));
        assert_eq!(supervisor.restarts(Task::Refresh), 0);
    }
}
