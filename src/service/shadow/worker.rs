//! The thread that repeats searches, and rests so that it takes no more processor time than it may.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::pair::Pair;
use crate::base::priority::{run_when_idle, thread_time};
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
    pub(super) fn start(
        cpu_share: f64,
        work: impl Fn(&Job, &Arc<Pace>) + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, waiting) = sync_channel(MOST_WAITING);
        let (waiting_bytes, is_ending) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let thread = Thread {
            waiting,
            waiting_bytes: Arc::clone(&waiting_bytes),
            pace: Arc::new(Pace { cpu_share, is_ending: Arc::clone(&is_ending), rested: Mutex::default() }),
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
    pace: Arc<Pace>,
}

impl Thread {
    fn run(self, work: impl Fn(&Job, &Arc<Pace>)) {
        run_when_idle();
        while let Ok(job) = self.waiting.recv() {
            self.waiting_bytes.fetch_sub(job.bytes, Ordering::Relaxed);
            if self.pace.is_ending.load(Ordering::Relaxed) {
                return;
            }
            work(&job, &self.pace);
            drop(job);
            self.pace.rest_after(Duration::ZERO);
        }
    }
}

/// How much of the time of a core the thread takes.
pub(super) struct Pace {
    cpu_share: f64,
    is_ending: Arc<AtomicBool>,
    /// The processor time of the thread at the end of its last rest.
    rested: Mutex<Duration>,
}

impl Pace {
    /// Rests if the thread has worked for at least this long since its last rest. Call it on the thread.
    pub(super) fn rest_after(&self, least: Duration) {
        let worked = thread_time().saturating_sub(*self.rested.lock());
        if worked < least {
            return;
        }
        let until = Instant::now() + worked.mul_f64(1.0 / self.cpu_share - 1.0);
        while !self.is_ending.load(Ordering::Relaxed) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(LONGEST_REST));
        }
        *self.rested.lock() = thread_time();
    }
}
