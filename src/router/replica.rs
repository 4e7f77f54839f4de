//! One replica of a shard: its load, how fast it answers, and whether it rests.
//!
//! What flows in: calls that begin and end. What flows out: which of two replicas is less loaded, and whether one may be asked.
//! A replica that fails five times in a row rests, longer each time, and is asked again after that or once its health says
//! that it serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::transport::Transport;

/// Failures in a row after which a replica rests.
const MAX_FAILURES: u32 = 5;
/// The first rest. It doubles with each further one, up to [`MAX_REST`].
const FIRST_REST: Duration = Duration::from_secs(1);
const MAX_REST: Duration = Duration::from_secs(30);
/// The weight of the last call in the mean duration, as one of this many.
const SMOOTHING: u64 = 8;

/// What the health of a replica says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// It has not been asked yet.
    Unknown,
    Serving,
    NotServing,
}

/// One replica.
pub(super) struct Replica {
    pub(super) address: String,
    pub(super) transport: Arc<dyn Transport>,
    in_flight: AtomicUsize,
    /// Mean duration of its calls, in microseconds.
    mean: AtomicU64,
    health: AtomicU8,
    rest: Mutex<Rest>,
}

#[derive(Default)]
struct Rest {
    /// Failures since the last success.
    failures: u32,
    /// Rests since the last success.
    rests: u32,
    until: Option<Instant>,
}

impl Replica {
    pub(super) fn new(address: String, transport: Arc<dyn Transport>) -> Self {
        Self {
            address,
            transport,
            in_flight: AtomicUsize::new(0),
            mean: AtomicU64::new(0),
            health: AtomicU8::new(Health::Unknown as u8),
            rest: Mutex::default(),
        }
    }

    /// How loaded it is: calls in flight, then how long they take.
    pub(super) fn load(&self) -> (usize, u64) {
        (self.in_flight.load(Ordering::Relaxed), self.mean.load(Ordering::Relaxed))
    }

    pub(super) fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Unknown,
            1 => Health::Serving,
            _ => Health::NotServing,
        }
    }

    /// Records what its health says. Serving ends a rest.
    pub(super) fn set_health(&self, health: Health) {
        self.health.store(health as u8, Ordering::Relaxed);
        if health == Health::Serving {
            self.rest.lock().until = None;
        }
    }

    /// Whether it rests.
    pub(super) fn rests(&self) -> bool {
        self.rest.lock().until.is_some_and(|until| Instant::now() < until)
    }

    /// Whether it may be asked: it does not rest, and its health does not say that it does not serve.
    pub(super) fn is_up(&self) -> bool {
        self.health() != Health::NotServing && !self.rests()
    }

    /// Begins a call.
    pub(super) fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight { replica: Arc::clone(self), began: Instant::now() }
    }

    /// Counts a success.
    fn succeeded(&self, took: Duration) {
        self.took(took);
        let mut rest = self.rest.lock();
        *rest = Rest::default();
    }

    /// Counts a failure. Returns whether it begins a rest.
    fn failed(&self) -> bool {
        let mut rest = self.rest.lock();
        rest.failures += 1;
        if rest.failures < MAX_FAILURES {
            return false;
        }
        let pause = FIRST_REST.saturating_mul(1 << rest.rests.min(10)).min(MAX_REST);
        rest.failures = 0;
        rest.rests = rest.rests.saturating_add(1);
        rest.until = Some(Instant::now() + pause);
        true
    }

    fn took(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX / SMOOTHING);
        let mean = |mean: u64| match mean {
            0 => micros,
            mean => (mean / SMOOTHING * (SMOOTHING - 1)).saturating_add(micros / SMOOTHING),
        };
        let _ = self.mean.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| Some(mean(held)));
    }
}

/// One call of a replica, in flight until dropped.
pub(super) struct InFlight {
    replica: Arc<Replica>,
    began: Instant,
}

impl InFlight {
    pub(super) fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// How long it has taken until now.
    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Records a success.
    pub(super) fn succeeded(&self) {
        self.replica.succeeded(self.elapsed());
    }

    /// Records a failure. Returns whether a rest begins.
    pub(super) fn failed(&self) -> bool {
        self.replica.took(self.elapsed());
        self.replica.failed()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.replica.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
