//! Keeps a log small: removes superseded entries in the background, once there are enough of them.
//!
//! What flows in: a log, and a call after each append. What flows out: a log that is at most about twice as large as the
//! entries that a replay needs. Appends wait for one transaction at most, or while free pages are given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use parking_lot::{Condvar, Mutex};

use crate::base::interrupt::Interrupt;
use crate::base::panics::{Panicked, caught};
use crate::live::delta::superseded::superseded;
use crate::live::log::error::LogError;
use crate::live::log::mutation_log::MutationLog;

/// A log with fewer bytes of entries is left alone.
const COMPACT_FROM_BYTES: u64 = 4 << 20;
/// The log is scanned once its entries are this many times larger than after the last scan. Each written byte is read about
/// once.
const COMPACT_GROWTH: u64 = 2;

/// A thread that removes superseded entries of a log.
#[derive(Debug)]
pub struct LogCompactor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    log: Arc<dyn MutationLog>,
    /// The log is scanned once its entries have this many bytes.
    due_at: AtomicU64,
    is_stopped: AtomicBool,
    /// Whether there is work.
    is_woken: Mutex<bool>,
    woken: Condvar,
}

impl LogCompactor {
    /// Starts the thread. It goes on after a panic, which it reports to `on_panic`.
    ///
    /// # Panics
    /// If the thread cannot be started.
    pub fn new(log: Arc<dyn MutationLog>, on_panic: impl Fn(&Panicked) + Send + 'static) -> Self {
        let shared = Arc::new(Shared {
            log,
            due_at: AtomicU64::new(COMPACT_FROM_BYTES),
            is_stopped: AtomicBool::new(false),
            is_woken: Mutex::new(false),
            woken: Condvar::new(),
        });
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("log-compaction".to_owned())
            .spawn(move || of_thread.run(on_panic))
            .expect("the thread that compacts the mutation log starts");
        Self { shared, thread: Some(thread) }
    }

    /// Scans the log in the background if it has grown enough. Call it after appends.
    pub fn wake(&self) {
        self.shared.lower();
        if self.shared.is_due() {
            self.shared.notify();
        }
    }
}

impl Drop for LogCompactor {
    /// Joins the thread.
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
        self.shared.notify();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn notify(&self) {
        *self.is_woken.lock() = true;
        self.woken.notify_one();
    }

    fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    fn run(&self, on_panic: impl Fn(&Panicked)) {
        while !self.is_stopped() {
            let mut is_woken = self.is_woken.lock();
            while !std::mem::take(&mut *is_woken) {
                self.woken.wait(&mut is_woken);
            }
            drop(is_woken);
            // It may have grown as much again meanwhile.
            while !self.is_stopped() && self.is_due() {
                let before = self.log.size();
                match caught(|| self.compact()) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tracing::warn!(%error, "superseded entries of the log cannot be removed")
                    }
                    Err(panic) => on_panic(&panic),
                }
                let after = self.log.size();
                // Without what was appended meanwhile.
                let appended = after.written_bytes - before.written_bytes;
                let left = after.entry_bytes.saturating_sub(appended);
                self.due_at.store(due_after(left), Ordering::Relaxed);
            }
        }
    }

    /// A trim removed entries: what is left now counts as after a scan.
    fn lower(&self) {
        self.due_at.fetch_min(due_after(self.log.size().entry_bytes), Ordering::Relaxed);
    }

    fn is_due(&self) -> bool {
        self.log.size().entry_bytes >= self.due_at.load(Ordering::Relaxed)
    }

    fn compact(&self) -> Result<(), LogError> {
        let mut is_stopped = || self.is_stopped();
        let found = superseded(&*self.log, &mut Interrupt::when(&mut is_stopped))?;
        let Some(mut found) = found.filter(|found| !found.is_empty()) else { return Ok(()) };
        found.sort_unstable();
        self.log.remove(&found)?;
        tracing::debug!(entries = found.len(), "removed superseded entries of the log");
        Ok(())
    }
}

/// Returns the bytes of entries from which a log is due that has `left` bytes of them.
fn due_after(left: u64) -> u64 {
    COMPACT_FROM_BYTES.max(COMPACT_GROWTH * left)
}
