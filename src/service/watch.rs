//! Polls the engine, which finishes its start and looks for new publications.
//!
//! What flows in: the poll interval. What flows out: log lines, metrics and health.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Interval, MissedTickBehavior};

use super::metrics;
use super::shared::Shared;
use crate::base::available_memory::AvailableMemory;
use crate::base::panics::Panicked;
use crate::engine::{Engine, Refresh, Supervisor, Task};
use crate::index::Residence;

/// The share of one core's time for measuring recall.
const RECALL_SHARE: f64 = 0.05;

/// Polls each index and reports the state of all, at once and then every `poll_interval`, until dropped. Adds a permit to
/// `polled` for each index that was polled the first time. A panic is reported, and the loop that it ended starts again.
pub(super) async fn run(shared: Arc<Shared>, poll_interval: Duration, polled: Arc<Semaphore>) {
    // A JoinSet, so that the loops end when this future is dropped.
    let mut loops = JoinSet::new();
    for name in shared.engine.index_names() {
        let (shared, polled) = (Arc::clone(&shared), Arc::clone(&polled));
        loops.spawn(async move {
            let start = || poll(Arc::clone(&shared), name.clone(), poll_interval, Arc::clone(&polled));
            keep_running(shared.engine.supervisor(), Task::Watch, poll_interval, start).await;
        });
    }
    loops.spawn(async move {
        let start = || observe(Arc::clone(&shared), poll_interval);
        keep_running(shared.engine.supervisor(), Task::Watch, poll_interval, start).await;
    });
    while loops.join_next().await.is_some() {}
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

/// Looks at one index. A long measurement delays neither the others nor [`observe`].
async fn poll(shared: Arc<Shared>, name: String, poll_interval: Duration, polled: Arc<Semaphore>) {
    let mut ticks = ticks(poll_interval);
    let mut polled = Some(polled);
    loop {
        ticks.tick().await;
        let (engine, index) = (Arc::clone(&shared.engine), name.clone());
        let news = match tokio::task::spawn_blocking(move || engine.refresh_index(&index)).await {
            Ok(news) => news.unwrap_or_default(),
            Err(error) => {
                report(shared.engine.supervisor(), Task::Refresh, error);
                continue;
            }
        };
        for refresh in &news {
            log(refresh);
            if let Refresh::Refused { index, error, .. } = refresh {
                shared.engine_metrics.refused(index, error);
            }
        }
        shared.shell.health.observe(&*shared.engine).await;
        if let Some(polled) = polled.take() {
            polled.add_permits(1);
        }
        if !news.is_empty() {
            metrics::observe_indexes(&shared.engine, &shared.engine_metrics, vec![name.clone()]).await;
        }
    }
}

/// Reports health, measures recall and updates the metrics.
async fn observe(shared: Arc<Shared>, poll_interval: Duration) {
    let mut ticks = ticks(poll_interval);
    loop {
        ticks.tick().await;
        // At every tick, because an activation may have put an index back into service.
        let shell = Arc::clone(&shared.shell);
        if let Err(error) = tokio::task::spawn_blocking(move || shell.aliases.refresh()).await {
            report(shared.engine.supervisor(), Task::Watch, error);
        }
        shared.shell.metrics.aliases.observe(&shared.shell.aliases.current());
        shared.shell.health.observe(&*shared.engine).await;
        shared.shadows.observe();
        shared.shell.sample_history(|index| recall(&shared.engine, index));
        measure_recall(&shared, poll_interval).await;
        shared.shell.metrics.access.reloads(&shared.shell.reloads());
        metrics::observe_indexes(&shared.engine, &shared.engine_metrics, shared.engine.index_names()).await;
    }
}

/// The recall of the recent answers of an index, of all k, and what they were to reach.
fn recall(engine: &Engine, index: &str) -> Option<(f64, Option<f64>)> {
    let all = engine.recall(index).ok()?;
    let mean = |values: &mut dyn Iterator<Item = (f64, usize)>| {
        let (sum, count) =
            values.fold((0.0, 0), |(sum, count), (value, of)| (sum + value * of as f64, count + of));
        (count > 0).then(|| sum / count as f64)
    };
    let recall = mean(&mut all.iter().map(|of| (of.recall, of.answers)))?;
    let target =
        mean(&mut all.iter().filter_map(|of| of.target.map(|target| (target.target, target.answers))));
    Some((recall, target))
}

/// Ticks at once and then every `interval`. Work may take longer: missed ticks are not made up for.
fn ticks(interval: Duration) -> Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
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
            let seconds = elapsed.as_secs_f64();
            tracing::info!(index, generation, seconds, "warmed and checked the generation");
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
        Refresh::NotCopied { index, generation, shortage } => {
            let memory = shortage.memory;
            tracing::info!(
                index,
                generation,
                bytes = shortage.bytes,
                needed_bytes = shortage.needed_bytes(),
                available_bytes = memory.map(|memory| memory.available),
                total_bytes = memory.map(|memory| memory.total),
                "not enough memory for a copy of the generation; it is served from the mapped file"
            );
        }
        Refresh::GivenBack { index, generation, bytes, memory } => {
            let AvailableMemory { total, available } = *memory;
            tracing::warn!(
                index,
                generation,
                bytes,
                available_bytes = available,
                total_bytes = total,
                "memory became short: gave the copy of the generation back; it is served from the mapped file"
            );
        }
        Refresh::StaysResident { index, generation, error } => {
            tracing::error!(index, generation, %error, "memory became short, but the file of the generation cannot be mapped again; its copy keeps serving");
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
