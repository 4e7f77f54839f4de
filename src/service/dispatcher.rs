//! Between admission and the compute pool: which of the admitted calls is computed next, and which is refused.
//!
//! What flows in: calls with their expected cost. What flows out: the same calls on threads of the pool, at most one per
//! thread at a time. A call whose deadline passes before its turn is refused at once, from the expected cost of what is
//! ahead of it and the measured speed of this machine. So the queue is as long as deadlines allow, and not longer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::caller::Client;
use super::metrics::Metrics;
use super::queue::{Place, Queue};
use super::speed::Speed;
use crate::engine::Engine;

/// A call waits for at most this share of the time to its deadline. The rest is for the call itself, for the way of its
/// answer, and for errors of the estimate.
const WAITED_SHARE: (u64, u64) = (2, 3);
/// The least and the longest delay before a retry, as refusals say it.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(10));

/// What becomes of a call.
pub(super) enum Turn {
    /// It is computed, on this thread.
    Compute,
    /// It is refused.
    Refused(Status),
}

/// Runs or refuses a call. Returns whether it was answered, and so did all of its work.
type Call = Box<dyn FnOnce(Turn) -> bool + Send>;

/// One call that waits.
struct Waiting {
    call: Call,
    arrived: Instant,
    /// The expected cost before it is multiplied by the speed.
    nominal: u64,
}

/// The calls that wait, and those that are computed.
struct State {
    queue: Queue<Waiting>,
    speed: Speed,
    /// Threads that compute, and the cost of what they compute.
    running: usize,
    running_cost: u64,
}

/// Gives calls to the compute pool.
pub(super) struct Dispatcher {
    state: Mutex<State>,
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    threads: usize,
    started: Instant,
}

/// A call that ended, or never was.
#[derive(Default)]
struct Ended {
    place: Option<(Client, u16)>,
    nominal: u64,
    cost: u64,
    took: Duration,
    is_answered: bool,
}

impl Dispatcher {
    pub(super) fn new(engine: Arc<Engine>, metrics: Arc<Metrics>) -> Self {
        let state = State { queue: Queue::default(), speed: Speed::default(), running: 0, running_cost: 0 };
        let (threads, started) = (engine.threads(), Instant::now());
        Self { state: Mutex::new(state), engine, metrics, threads, started }
    }

    /// A point in time as a [`Place`] has it.
    pub(super) fn nanos(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).as_nanos() as u64
    }

    /// Refuses a waiting call of the client that has the most of them, unless that is the client at `place`. Returns
    /// whether it did.
    pub(super) fn make_room(&self, place: &Place) -> bool {
        let mut state = self.state.lock();
        let dropped = state.queue.make_room(place);
        let delay = state.delay(self.threads);
        drop(state);
        let Some(dropped) = dropped else { return false };
        self.metrics.refused_search("displaced");
        let status = refusal("the server is busy, and took the place of this call for another client", delay);
        (dropped.call.call)(Turn::Refused(status));
        true
    }

    /// Queues a call of `nominal` expected cost. Calls it on a thread of the pool in its turn, or refuses it here.
    pub(super) fn submit(self: &Arc<Self>, place: &Place, nominal: u64, call: Call) {
        let arrived = Instant::now();
        let mut state = self.state.lock();
        let cost = state.speed.cost(nominal);
        if let Some((reason, status)) = self.refuse(&mut state, place, cost, arrived) {
            drop(state);
            self.metrics.refused_search(reason);
            call(Turn::Refused(status));
            return;
        }
        state.queue.push(place, cost, Waiting { call, arrived, nominal });
        let is_free = state.running < self.threads;
        state.running += usize::from(is_free);
        drop(state);
        self.metrics.admitted_cost(cost);
        if is_free {
            let dispatcher = Arc::clone(self);
            self.engine.spawn(move || dispatcher.compute());
        }
    }

    /// Why a call cannot wait for its turn.
    fn refuse(
        &self,
        state: &mut State,
        place: &Place,
        cost: u64,
        now: Instant,
    ) -> Option<(&'static str, Status)> {
        let calls = state.queue.calls_of(&place.client);
        let most = place.max_waiting;
        if calls >= most {
            let text = format!(
                "limits.max_queued_per_client: expected at most {most} searches, found {}",
                calls + 1
            );
            return Some(("client_queue", refusal(text, state.delay(self.threads))));
        }
        let threads = self.threads as u64;
        let left = place.deadline.saturating_sub(self.nanos(now));
        let may_wait = left / WAITED_SHARE.1 * WAITED_SHARE.0;
        // Mostly all of the queue is worth less.
        if (state.queue.cost() + state.running_cost) / threads <= may_wait {
            return None;
        }
        let wait = (state.queue.ahead(place, cost) + state.running_cost) / threads;
        if wait <= may_wait {
            return None;
        }
        let (wait, left) = (Duration::from_nanos(wait), Duration::from_nanos(left));
        let text =
            format!("the deadline would pass before its turn: it would wait {wait:.1?}, and has {left:.1?}");
        Some(("deadline", refusal(text, wait.saturating_sub(Duration::from_nanos(may_wait)))))
    }

    /// Computes one call after another until none waits.
    fn compute(&self) {
        let mut ended = Ended::default();
        while let Some((waiting, next)) = self.next(ended) {
            let started = Instant::now();
            self.metrics.queued(started.duration_since(waiting.arrived));
            let is_answered = (waiting.call)(Turn::Compute);
            ended = Ended { took: started.elapsed(), is_answered, ..next };
        }
    }

    /// Accounts for a call that ended and takes the next one; `None` if none waits, and the thread is free.
    fn next(&self, ended: Ended) -> Option<(Waiting, Ended)> {
        let mut state = self.state.lock();
        state.running_cost = state.running_cost.saturating_sub(ended.cost);
        if let Some((client, connection)) = &ended.place {
            let took = ended.took.as_nanos() as u64;
            state.queue.correct(client, *connection, ended.cost, took);
            // What was refused or cancelled has cost its client something, and tells nothing of the others.
            if ended.is_answered {
                state.speed.learn(ended.nominal, took);
            }
        }
        let Some(taken) = state.queue.pop() else {
            state.running -= 1;
            return None;
        };
        state.running_cost += taken.cost;
        let place = Some((taken.client, taken.connection));
        let next = Ended { place, nominal: taken.call.nominal, cost: taken.cost, ..Ended::default() };
        Some((taken.call, next))
    }
}

impl State {
    /// How long the pool needs for half of what waits.
    fn delay(&self, threads: usize) -> Duration {
        Duration::from_nanos(self.queue.cost() / 2 / threads as u64)
    }
}

/// A refusal that tells when to retry.
pub(super) fn refusal(text: impl Into<String>, delay: Duration) -> Status {
    let delay = delay.clamp(RETRY_DELAYS.0, RETRY_DELAYS.1);
    let details = ErrorDetails::with_retry_info(Some(delay));
    Status::with_error_details(Code::ResourceExhausted, text, details)
}
