//! Whether an index answers, and what was wrong with the newest publication.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

/// Whether the current generation may answer, and the last refusal.
#[derive(Debug, Default)]
pub(crate) struct Serving {
    /// The problem of the newest manifest that was tried, or of the damaged generation.
    problem: Mutex<Option<String>>,
    /// Why the files that are there instead of the opened ones cannot be opened.
    unopened: Mutex<Option<String>>,
    /// Whether the current generation must not answer, because it is damaged. Another one may.
    is_damaged: AtomicBool,
    /// Why no generation may answer any more: another server writes. The files are served once they are opened anew.
    closed: OnceLock<String>,
    /// Whether the generation that the start opened was checked and read into memory, or was replaced.
    is_warm: AtomicBool,
}

impl Serving {
    pub(crate) fn new(problem: Option<String>) -> Self {
        Self { problem: Mutex::new(problem), ..Self::default() }
    }

    pub(crate) fn problem(&self) -> Option<String> {
        self.closed.get().cloned().or_else(|| self.problem.lock().clone())
    }

    pub(crate) fn set_problem(&self, problem: Option<String>) {
        *self.problem.lock() = problem;
    }

    /// Sets the problem unless there is one.
    pub(crate) fn add_problem(&self, problem: impl FnOnce() -> String) {
        self.problem.lock().get_or_insert_with(problem);
    }

    pub(crate) fn is_withdrawn(&self) -> bool {
        self.is_damaged.load(Ordering::Acquire) || self.closed.get().is_some()
    }

    /// Withdraws the current generation, which is damaged.
    pub(crate) fn withdraw(&self, problem: String) {
        self.set_problem(Some(problem));
        self.is_damaged.store(true, Ordering::Release);
    }

    /// Withdraws this and every later generation, and returns whether that was done before.
    pub(crate) fn close(&self, problem: String) -> bool {
        self.closed.set(problem).is_err()
    }

    /// A checked generation was swapped in.
    pub(crate) fn swapped(&self) {
        self.is_damaged.store(false, Ordering::Release);
        self.set_warm();
    }

    /// Returns why the files of the index cannot be opened anew.
    pub(crate) fn unopened(&self) -> Option<String> {
        self.unopened.lock().clone()
    }

    pub(crate) fn set_unopened(&self, problem: Option<String>) {
        *self.unopened.lock() = problem;
    }

    pub(crate) fn is_warm(&self) -> bool {
        self.is_warm.load(Ordering::Acquire)
    }

    pub(crate) fn set_warm(&self) {
        self.is_warm.store(true, Ordering::Release);
    }
}
