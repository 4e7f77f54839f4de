//! The thread that repeats searches, and rests so that it takes no more processor time than it may.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use super::pair::Pair;
use crate::base::priority::{lower_priority, thread_time};
use crate::service::proto::SearchRequest;

/// The most searches that wait.
const MOST_WAITING: usize = 64;
/// The most memory of the searches that wait, in encoded bytes.
const MOST_WAITING_BYTES: usize = 16 << 20;
/// The longest rest before the thread looks whether it is to end.
const LONGEST_REST: Duration = Duration::from_millis(50);

/// A search to repeat.
pub(super) struct Job {
    pub(super) pair: Arc<Pair>,
    pub(super) request: SearchRequest,
    /// Bytes of the encoded request.
    pub(super) bytes: usize,
}

/// The way to the thread, which ends when this is dropped.
pub(super) struct Worker {
    jobs: SyncSender<Job>,
    waiting_bytes: Arc<AtomicUsize>,
    is_ending: Arc<AtomicBool>,
}

impl Worker {
    /// Starts the thread, which does `work` for at most this share of the time of one core.
    ///
    /// # Errors
    /// If no thread can be started.
    pub(super) fn start(cpu_share: f64, work: impl Fn(&Job) + Send + 'static) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel(MOST_WAITING);
        let (waiting_bytes, is_ending) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = Thread {
            waiting,
            waiting_bytes: Arc::clone(&waiting_bytes),
            is_ending: Arc::clone(&is_ending),
            cpu_share,
        };
        std::thread::Builder::new().name("shadow".to_owned()).spawn(move || thread.run(work))?;
        Ok(Self { jobs, waiting_bytes, is_ending })
    }

    /// Adds a search. Returns false if too many wait.
    pub(super) fn push(&self, job: Job) -> bool {
        let bytes = job.bytes;
        if self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes <= MOST_WAITING_BYTES
            && self.jobs.try_send(job).is_ok()
        {
            return true;
        }
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        false
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.is_ending.store(true, Ordering::Relaxed);
    }
}

struct Thread {
    waiting: Receiver<Job>,
    waiting_bytes: Arc<AtomicUsize>,
    is_ending: Arc<AtomicBool>,
    cpu_share: f64,
}

impl Thread {
    fn run(self, work: impl Fn(&Job)) {
        lower_priority();
        while let Ok(job) = self.waiting.recv() {
            self.waiting_bytes.fetch_sub(job.bytes, Ordering::Relaxed);
            if self.is_ending.load(Ordering::Relaxed) {
                return;
            }
            let before = thread_time();
            work(&job);
            drop(job);
            self.rest(thread_time().saturating_sub(before));
        }
    }

    /// Rests after work of this much processor time.
    fn rest(&self, worked: Duration) {
        let until = Instant::now() + worked.mul_f64(1.0 / self.cpu_share - 1.0);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_ending.load(Ordering::Relaxed) {
                return;
            }
            std::thread::sleep(left.min(LONGEST_REST));
        }
    }
}
