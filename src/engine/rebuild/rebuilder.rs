//! The rebuilds of one index: at most one at a time, on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::base::priority::lower_priority;
use crate::build::{BuildError, Progress};
use crate::engine::error::EngineError;
use crate::engine::options::RebuildOptions;
use crate::engine::rebuild::error::RebuildError;
use crate::engine::status::{RebuildState, RebuildStatus};
use crate::engine::supervise::{Supervisor, Task};
use crate::index::Index;
use crate::live::LogSize;
use crate::live::delta::state::LiveState;

/// A log with fewer bytes of entries is never large.
const SMALL_LOG_BYTES: u64 = 16 << 20;

/// Starts, watches and stops the rebuilds of one index.
#[derive(Debug)]
pub(crate) struct Rebuilder {
    options: RebuildOptions,
    supervisor: Arc<Supervisor>,
    progress: Arc<RebuildProgress>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The last rebuild that became due by itself.
    last_due: Mutex<Option<Due>>,
    /// The bytes that had been written to the log when a rebuild last became due by its size.
    last_written: AtomicU64,
}

/// The state of an index when a rebuild became due.
#[derive(Clone, Copy, Debug)]
struct Due {
    generation: u64,
    /// Delta videos and tombstones.
    changes: usize,
}

impl Rebuilder {
    pub(crate) fn new(options: RebuildOptions, supervisor: Arc<Supervisor>) -> Self {
        let (progress, thread, last_due) = (Arc::default(), Mutex::default(), Mutex::default());
        Self { options, supervisor, progress, thread, last_due, last_written: AtomicU64::new(0) }
    }

    pub(crate) fn options(&self) -> &RebuildOptions {
        &self.options
    }

    /// Returns the status of the running rebuild, or of the last one.
    pub(crate) fn status(&self) -> RebuildStatus {
        self.progress.status()
    }

    /// Asks the running rebuild to end. Does not wait.
    pub(crate) fn cancel(&self) {
        self.progress.is_cancelled.store(true, Ordering::Relaxed);
    }

    /// Asks the running rebuild to end, and waits for it.
    pub(crate) fn stop(&self) {
        self.cancel();
        if let Some(thread) = self.thread.lock().take() {
            // The thread logged its result.
            let _ = thread.join();
        }
    }

    /// Runs `rebuild` on a new thread unless a rebuild is running. `name` is the index, `reason` is logged.
    ///
    /// # Errors
    /// [`EngineError::NoThread`].
    pub(crate) fn start(
        &self,
        name: &str,
        reason: &str,
        rebuild: impl FnOnce(&RebuildProgress) -> Result<(), RebuildError> + Send + 'static,
    ) -> Result<(), EngineError> {
        let mut thread = self.thread.lock();
        if self.progress.status.lock().state.is_underway() {
            return Ok(());
        }
        if let Some(ended) = thread.take() {
            let _ = ended.join();
        }
        self.progress.is_cancelled.store(false, Ordering::Relaxed);
        self.progress.start();
        tracing::info!(index = name, reason, "rebuilding");
        let (progress, index) = (Arc::clone(&self.progress), name.to_owned());
        let supervisor = Arc::clone(&self.supervisor);
        let run = move || {
            lower_priority();
            let (state, problem) = match supervisor.run(Task::Rebuild, || rebuild(&progress)) {
                Ok(Ok(())) => (RebuildState::Done, None),
                Ok(Err(RebuildError::Build(BuildError::Cancelled))) => (RebuildState::Cancelled, None),
                Ok(Err(error)) => (RebuildState::Failed, Some(error.to_string())),
                Err(panic) => (RebuildState::Failed, Some(panic.to_string())),
            };
            progress.end(state, problem.clone());
            match problem {
                Some(problem) => tracing::error!(index, problem, "a rebuild failed"),
                None if state == RebuildState::Cancelled => tracing::info!(index, "a rebuild was cancelled"),
                None => tracing::info!(index, "a rebuild is done"),
            }
        };
        match std::thread::Builder::new().name(format!("rebuild-{name}")).spawn(run) {
            Ok(spawned) => *thread = Some(spawned),
            Err(error) => {
                self.progress.end(RebuildState::Failed, Some(error.to_string()));
                return Err(EngineError::NoThread(error));
            }
        }
        Ok(())
    }

    /// Returns why a rebuild of `generation` is due, if enough has changed or the log has become large. After one became due, the same generation
    /// must change by as much again: the rebuild failed, and would fail again.
    pub(crate) fn due(&self, generation: u64, live: &LiveState, log: LogSize) -> Option<String> {
        self.due_by_changes(generation, live).or_else(|| self.due_by_log(live, log))
    }

    /// The log is as large as the generation, although superseded entries are removed from it. As much must be written
    /// before a rebuild is due again: kept generations and parked upserts may need the entries.
    fn due_by_log(&self, live: &LiveState, log: LogSize) -> Option<String> {
        let base = &live.segments.base().index;
        let limit = log_limit(base);
        let is_new = log.written_bytes >= self.last_written.load(Ordering::Relaxed) + limit;
        let has_changes = live.sequence > base.metadata().log_sequence;
        if self.options.delta_share <= 0.0 || log.entry_bytes < limit || !is_new || !has_changes {
            return None;
        }
        self.last_written.store(log.written_bytes, Ordering::Relaxed);
        Some(format!("log of {} bytes, generation of {} bytes", log.entry_bytes, base.bytes()))
    }

    fn due_by_changes(&self, generation: u64, live: &LiveState) -> Option<String> {
        let videos = live.segments.base().index.len();
        let least = |share: f64| {
            let least = (share * videos as f64).ceil().max(self.options.min_changes as f64);
            if share > 0.0 { least as usize } else { usize::MAX }
        };
        let (delta, deleted) = (least(self.options.delta_share), least(self.options.deleted_share));
        let reason = if live.delta_vectors() >= delta {
            format!("delta of {} videos over {videos}", live.delta_vectors())
        } else if live.hidden() >= deleted && live.tombstones() >= deleted {
            format!("{} of {videos} videos deleted, replaced or expired", live.tombstones())
        } else {
            return None;
        };
        let changes = live.delta_vectors() + live.tombstones();
        let mut last = self.last_due.lock();
        if let Some(last) = *last
            && last.generation == generation
            && changes < last.changes.saturating_add(delta.min(deleted))
        {
            return None;
        }
        *last = Some(Due { generation, changes });
        Some(reason)
    }
}

/// Returns the bytes of log entries from which the log is large for a generation.
pub(crate) fn log_limit(base: &Index) -> u64 {
    base.bytes().max(SMALL_LOG_BYTES)
}

/// The progress of the running rebuild, and the request to cancel it.
#[derive(Debug, Default)]
pub(crate) struct RebuildProgress {
    status: Mutex<RebuildStatus>,
    phase_began: Mutex<Option<Instant>>,
    steps: AtomicU64,
    total: AtomicU64,
    is_cancelled: AtomicBool,
}

impl RebuildProgress {
    /// Records how many upserts do not fit the next generation.
    pub(crate) fn set_bad_records(&self, count: u64) {
        self.status.lock().bad_records = count;
    }

    /// The build is done; the quality gate measures it.
    pub(crate) fn begin_gating(&self) {
        self.status.lock().state = RebuildState::Gating;
    }

    fn status(&self) -> RebuildStatus {
        let mut status = self.status.lock().clone();
        if status.state == RebuildState::Running {
            let (steps, total) = (self.steps.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
            status.progress = if total == 0 { 0.0 } else { (steps as f64 / total as f64).min(1.0) };
            let seconds = self.phase_began.lock().map_or(0.0, |began| began.elapsed().as_secs_f64());
            status.rows_per_second = if seconds > 0.0 { steps as f64 / seconds } else { 0.0 };
        }
        status
    }

    fn start(&self) {
        let mut status = self.status.lock();
        *status = RebuildStatus {
            state: RebuildState::Running,
            started_at: Some(Timestamp::now()),
            ended: status.ended,
            ..RebuildStatus::default()
        };
    }

    fn end(&self, state: RebuildState, problem: Option<String>) {
        let mut status = self.status.lock();
        (status.state, status.problem) = (state, problem);
        status.phase.clear();
        match state {
            RebuildState::Done => status.ended.done += 1,
            RebuildState::Failed => status.ended.failed += 1,
            RebuildState::Cancelled => status.ended.cancelled += 1,
            RebuildState::Idle | RebuildState::Running | RebuildState::Gating => {}
        }
    }
}

impl Progress for RebuildProgress {
    fn begin(&self, phase: &'static str, total: u64) {
        phase.clone_into(&mut self.status.lock().phase);
        *self.phase_began.lock() = Some(Instant::now());
        self.steps.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    fn advance(&self, steps: u64) {
        self.steps.fetch_add(steps, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}
