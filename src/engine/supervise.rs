//! Work in the background of requests: a panic ends one run of a task, and is counted. The task goes on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::base::panics::{Panicked, caught};
use crate::engine::error::EngineError;
use crate::index::{RefusalReason, StoreError};

/// A task that runs in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// The look at the folder of one index: publications, swaps, compaction.
    Refresh,
    /// A rebuild.
    Rebuild,
    /// The thread that appends to a log.
    Log,
    /// The thread that removes superseded entries of a log.
    Compaction,
    /// The comparison of sampled answers with exact ones, and the measurement of the default effort with sampled users.
    Recall,
    /// The loop that polls the engine, reports health and updates metrics.
    Watch,
}

impl Task {
    /// All tasks, in the order of their declaration.
    pub const ALL: [Task; 6] =
        [Task::Refresh, Task::Rebuild, Task::Log, Task::Compaction, Task::Recall, Task::Watch];

    /// Returns the name in metrics and logs.
    pub fn name(self) -> &'static str {
        match self {
            Task::Refresh => "refresh",
            Task::Rebuild => "rebuild",
            Task::Log => "log",
            Task::Compaction => "compaction",
            Task::Recall => "recall",
            Task::Watch => "watch",
        }
    }
}

/// Runs the background tasks of one engine, and counts their panics.
#[derive(Debug, Default)]
pub struct Supervisor {
    panics: [AtomicU64; Task::ALL.len()],
}

impl Supervisor {
    /// Runs `work`, which belongs to `task`. The caller runs it again when it is due.
    ///
    /// # Errors
    /// If it panics.
    pub fn run<T>(&self, task: Task, work: impl FnOnce() -> T) -> Result<T, Panicked> {
        caught(work).inspect_err(|panic| self.report(task, panic))
    }

    /// Runs `work` on the file or folder at `path`, which belongs to `task`. A panic counts as a defect of the file.
    ///
    /// # Errors
    /// Those of `work`, and [`StoreError::NotServable`] if it panics.
    pub(crate) fn run_on<T>(
        &self,
        task: Task,
        path: &Path,
        work: impl FnOnce() -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        self.run(task, work).unwrap_or_else(|panic| {
            let (path, problem) = (path.to_owned(), panic.to_string());
            let reasons = vec![RefusalReason::Other];
            Err(StoreError::NotServable { path, problem, reasons }.into())
        })
    }

    /// Counts and logs a panic of `task`.
    pub fn report(&self, task: Task, panic: &Panicked) {
        self.panics[task as usize].fetch_add(1, Ordering::Relaxed);
        tracing::error!(task = task.name(), %panic, "a background task panicked");
    }

    /// Returns how many runs of `task` ended by a panic.
    pub fn restarts(&self, task: Task) -> u64 {
        self.panics[task as usize].load(Ordering::Relaxed)
    }
}

/// What the background work of all indexes of an engine shares.
#[derive(Clone, Debug)]
pub(crate) struct Background {
    /// Threads of low priority.
    pub(crate) pool: Arc<rayon::ThreadPool>,
    pub(crate) supervisor: Arc<Supervisor>,
    /// Locked while an index decides about its copy in memory, and makes it or gives it back: the next one finds the
    /// memory that is left.
    pub(crate) copying: Arc<Mutex<()>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_returned_and_counted_under_its_task() {
        let supervisor = Supervisor::default();
        assert_eq!(supervisor.run(Task::Refresh, || 1), Ok(1));
        for task in Task::ALL {
            let panic = supervisor.run(task, || panic!("{} on purpose", task.name())).unwrap_err();
            assert_eq!(panic.to_string(), format!("it panicked: {} on purpose", task.name()));
            assert_eq!(
                Task::ALL.map(|other| supervisor.restarts(other)).iter().sum::<u64>(),
                task as u64 + 1
            );
        }
        assert!(Task::ALL.iter().all(|task| supervisor.restarts(*task) == 1));
    }
}
