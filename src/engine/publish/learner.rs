//! The thread that measures the default effort of an index with its users: at most one at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use parking_lot::Mutex;

use crate::base::priority::lower_priority;
use crate::build::Progress;
use crate::engine::query::usage::Usage;

/// Starts and stops the measurements of one index.
#[derive(Debug, Default)]
pub(crate) struct Learner {
    cancel: Arc<Cancel>,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    /// What requests used of the generation that was measured last: one value per opened generation.
    learned: Option<Arc<Usage>>,
    thread: Option<JoinHandle<()>>,
}

/// Cancels a measurement. Its progress is not shown.
#[derive(Debug, Default)]
pub(crate) struct Cancel(AtomicBool);

impl Progress for Cancel {
    fn begin(&self, _: &'static str, _: u64) {}
    fn advance(&self, _: u64) {}
    fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Learner {
    /// Whether the generation with this usage may be measured: it was not before, and nothing else is.
    pub(crate) fn is_free(&self, usage: &Arc<Usage>) -> bool {
        let running = self.running.lock();
        let is_learned = running.learned.as_ref().is_some_and(|learned| Arc::ptr_eq(learned, usage));
        !is_learned && running.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Runs `learn` on a new thread of low priority, once for the generation with this usage. `name` is the index.
    pub(crate) fn start(&self, name: &str, usage: &Arc<Usage>, learn: impl FnOnce(&Cancel) + Send + 'static) {
        let mut running = self.running.lock();
        running.learned = Some(Arc::clone(usage));
        self.cancel.0.store(false, Ordering::Relaxed);
        let cancel = Arc::clone(&self.cancel);
        let run = move || {
            lower_priority();
            learn(&cancel);
        };
        match std::thread::Builder::new().name(format!("learn-{name}")).spawn(run) {
            Ok(thread) => running.thread = Some(thread),
            Err(error) => tracing::error!(index = name, %error, "cannot measure the default effort"),
        }
    }

    /// Asks the measurement to end. Does not wait.
    pub(crate) fn cancel(&self) {
        self.cancel.0.store(true, Ordering::Relaxed);
    }

    /// Asks the measurement to end, and waits for it.
    pub(crate) fn stop(&self) {
        self.cancel();
        let thread = self.running.lock().thread.take();
        if let Some(thread) = thread {
            // The supervisor reported a panic.
            let _ = thread.join();
        }
    }
}
