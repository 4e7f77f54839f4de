//! A thread that receives the entries of a shared log, and applies them.
//!
//! What flows in: what the log receives. What flows out: its entries to `apply`, in order, and to those who wait for a
//! sequence number that it was applied.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::error::LogError;
use super::shared_log::{Received, SharedLog};

/// How long one attempt to receive waits.
const WAIT: Duration = Duration::from_millis(200);
/// The pause after an error that may end.
const PAUSE: Duration = Duration::from_millis(200);

/// How far a tail came.
#[derive(Clone, Debug)]
pub struct TailState {
    /// The last sequence number that was applied.
    pub applied: u64,
    /// When the log last said what there is to receive, entries or none.
    pub current_at: Instant,
    /// Why nothing can be received now.
    pub interrupted: Option<String>,
    /// Why nothing will be applied any more.
    pub ended: Option<LogError>,
}

/// A thread that applies the entries of a shared log.
#[derive(Debug)]
pub struct Tail {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<TailState>,
    /// Notified when `state` changes.
    changed: Condvar,
    is_stopped: AtomicBool,
}

impl Tail {
    /// Starts the thread after the entry `applied`. `apply` receives what the log receives, and fails if it cannot be
    /// applied.
    ///
    /// # Panics
    /// If the thread cannot be started.
    pub fn start(
        log: Arc<dyn SharedLog>,
        applied: u64,
        apply: impl FnMut(&Received) -> Result<(), LogError> + Send + 'static,
    ) -> Self {
        let state =
            Mutex::new(TailState { applied, current_at: Instant::now(), interrupted: None, ended: None });
        let shared = Arc::new(Shared { state, changed: Condvar::new(), is_stopped: AtomicBool::new(false) });
        let of_thread = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("log-tail".to_owned())
            .spawn(move || of_thread.run(&*log, apply))
            .expect("the thread of a shared log starts");
        Self { shared, thread: Some(thread) }
    }

    /// Returns how far the tail came.
    pub fn state(&self) -> TailState {
        self.shared.state.lock().clone()
    }

    /// Waits until `sequence` is applied, for `wait` at most. Returns whether it is.
    pub fn wait_for(&self, sequence: u64, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        let mut state = self.shared.state.lock();
        while state.applied < sequence && state.ended.is_none() {
            if self.shared.changed.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        state.applied >= sequence
    }
}

impl Drop for Tail {
    /// Joins the thread.
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // A panic was already logged by the panic hook.
            let _ = thread.join();
        }
    }
}

/// Ends the tail when its thread ends, also by a panic.
struct Ending<'a>(&'a Shared);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.change(|state| _ = state.ended.get_or_insert(LogError::Stopped));
    }
}

impl Shared {
    fn run(&self, log: &dyn SharedLog, mut apply: impl FnMut(&Received) -> Result<(), LogError>) {
        let _ending = Ending(self);
        while !self.is_stopped.load(Ordering::Acquire) {
            let after = self.state.lock().applied;
            let received = log.receive(after, WAIT).and_then(|received| {
                received.iter().try_for_each(&mut apply)?;
                Ok(received)
            });
            match received {
                Ok(received) => self.change(|state| {
                    if !received.as_ref().is_some_and(|received| received.has_more) {
                        state.current_at = Instant::now();
                    }
                    state.applied = received.map_or(after, |received| received.last.max(after));
                    if state.interrupted.take().is_some() {
                        tracing::info!("entries of the shared log are received again");
                    }
                }),
                Err(error) if error.may_end() => {
                    let problem = error.to_string();
                    self.change(|state| {
                        if state.interrupted.replace(problem.clone()).as_ref() != Some(&problem) {
                            tracing::warn!(%error, "no entries of the shared log are received");
                        }
                    });
                    thread::sleep(PAUSE);
                }
                Err(error) => {
                    tracing::error!(%error, "no more entries of the shared log are applied");
                    return self.change(|state| state.ended = Some(error));
                }
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut TailState)) {
        change(&mut self.state.lock());
        self.changed.notify_all();
    }
}
