//! Between admission and the compute pool: which of the admitted calls is computed next, and which is refused.
//!
//! What flows in: calls with their expected cost. What flows out: the same calls on threads of the pool, at most one per
//! thread at a time. A call whose deadline passes before its turn is refused at once, from the expected cost of what is
//! ahead of it and the measured speed of this machine for requests of each client. So the queue is as long as deadlines
//! allow, and not longer. While short calls arrive, one thread takes no long ones: a short call never waits for the end of a
//! long one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::queue::{Place, Queue};
use super::speed::Speeds;
use crate::service::caller::Client;
use crate::service::metrics::{Class, LoadMetrics};

/// A call waits for at most this share of the time to its deadline. The rest is for the call itself, for the way of its
/// answer, and for errors of the estimate.
const WAITED_SHARE: (u64, u64) = (2, 3);
/// A call of a higher expected cost, in nanoseconds, is long.
const SHORT: u64 = 4_000_000;
/// One thread takes no long calls until no short one has arrived for this many nanoseconds.
const KEPT_FREE: u64 = 1_000_000_000;
/// The least and the longest delay before a retry, as refusals say it.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(10));

/// What becomes of a call.
pub(crate) enum Turn {
    /// It is computed, on this thread.
    Compute(Queued),
    /// It is refused.
    Refused(Status),
}

/// How a call waited for its turn.
pub(crate) struct Queued {
    pub(crate) waited: Duration,
    /// Its expected cost on this machine, in nanoseconds.
    pub(crate) cost: u64,
    /// By its expected cost.
    pub(crate) class: Class,
}

/// Runs or refuses a call. Returns whether it was answered, and so did all of its work.
type Call = Box<dyn FnOnce(Turn) -> bool + Send>;

/// Starts work on a thread of the compute pool.
pub(crate) type Spawn = Box<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>;

/// One call that waits.
struct Waiting {
    call: Call,
    arrived: Instant,
    /// The expected cost before it is multiplied by the ratio of the client.
    nominal: u64,
}

/// The calls that wait, and those that are computed.
#[derive(Default)]
struct State {
    queue: Queue<Waiting>,
    speeds: Speeds,
    /// Threads that compute, and the cost of what they compute.
    running: usize,
    running_cost: u64,
    /// Threads that compute long calls.
    running_long: usize,
    /// When the last short call arrived.
    last_short: Option<u64>,
}

/// Gives calls to the compute pool.
pub(crate) struct Dispatcher {
    state: Mutex<State>,
    /// Starts work on a thread of the pool.
    spawn: Spawn,
    metrics: LoadMetrics,
    threads: usize,
    started: Instant,
}

/// A call that ended. The default stands for none, before the first.
#[derive(Default)]
struct Ended {
    place: Option<(Client, u16)>,
    nominal: u64,
    cost: u64,
    took: Duration,
    is_answered: bool,
}

impl Dispatcher {
    /// Gives calls to a pool of this many threads by `spawn`.
    pub(crate) fn new(threads: usize, spawn: Spawn, metrics: LoadMetrics) -> Self {
        let started = Instant::now();
        Self { state: Mutex::default(), spawn, metrics, threads, started }
    }

    /// A point in time as a [`Place`] has it.
    pub(crate) fn nanos(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.started).as_nanos() as u64
    }

    /// Refuses a waiting call of the client that has the most of them, unless that is the client at `place`. Returns
    /// whether it did.
    pub(crate) fn make_room(&self, place: &Place) -> bool {
        let mut state = self.state.lock();
        let dropped = state.queue.make_room(place);
        let delay = state.delay(self.threads);
        drop(state);
        let Some(dropped) = dropped else { return false };
        self.metrics.refused_search(&dropped.client, "displaced");
        let status = refusal("the server is busy, and took the place of this call for another client", delay);
        (dropped.call.call)(Turn::Refused(status));
        true
    }

    /// Queues a call of `nominal` expected cost. Calls it on a thread of the pool in its turn, or refuses it here.
    pub(crate) fn submit(self: &Arc<Self>, place: &Place, nominal: u64, call: Call) {
        let arrived = Instant::now();
        let mut state = self.state.lock();
        let cost = state.speeds.cost(&place.client, nominal);
        if cost <= SHORT {
            state.last_short = Some(self.nanos(arrived));
        }
        if let Some((reason, status)) = self.refuse(&mut state, place, cost, arrived) {
            drop(state);
            self.metrics.refused_search(&place.client, reason);
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
            (self.spawn)(Box::new(move || dispatcher.compute()));
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
        let now = self.nanos(now);
        let is_long = cost > SHORT;
        let threads = if is_long { state.threads_for_long(self.threads, now) } else { self.threads } as u64;
        let left = place.deadline.saturating_sub(now);
        let may_wait = left / WAITED_SHARE.1 * WAITED_SHARE.0;
        // Often the whole queue costs less, and the part ahead need not be added up.
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

    /// Computes one call after another until none may run.
    fn compute(&self) {
        let mut ended = Ended::default();
        while let Some((waiting, next)) = self.next(ended) {
            let started = Instant::now();
            let waited = started.duration_since(waiting.arrived);
            self.metrics.queued(waited);
            let class = class_of(next.cost);
            let is_answered = (waiting.call)(Turn::Compute(Queued { waited, cost: next.cost, class }));
            let took = started.elapsed();
            if let Some((client, _)) = &next.place {
                self.metrics.clients.computed(client, class, waited, took);
            }
            ended = Ended { took, is_answered, ..next };
        }
    }

    /// Accounts for a call that ended and takes the next one; `None` if none may run now, and the thread is free.
    fn next(&self, ended: Ended) -> Option<(Waiting, Ended)> {
        let mut state = self.state.lock();
        state.running_cost = state.running_cost.saturating_sub(ended.cost);
        state.running_long -= usize::from(ended.cost > SHORT);
        if let Some((client, connection)) = &ended.place {
            let took = ended.took.as_nanos() as u64;
            state.queue.correct(client, *connection, ended.cost, took);
            // A call that was refused or cancelled did only a part of its work: it tells something if that part already took
            // longer than expected.
            if ended.is_answered || took > ended.cost {
                state.speeds.learn(client, ended.nominal, took);
            }
        }
        let may_be_long =
            state.running_long < state.threads_for_long(self.threads, self.nanos(Instant::now()));
        let Some(taken) = state.queue.pop(if may_be_long { u64::MAX } else { SHORT }) else {
            state.running -= 1;
            return None;
        };
        state.running_cost += taken.cost;
        state.running_long += usize::from(taken.cost > SHORT);
        let place = Some((taken.client, taken.connection));
        let next = Ended { place, nominal: taken.call.nominal, cost: taken.cost, ..Ended::default() };
        Some((taken.call, next))
    }
}

impl State {
    /// How many of the threads take long calls now.
    fn threads_for_long(&self, threads: usize, now: u64) -> usize {
        let is_kept_free = self.last_short.is_some_and(|last| now.saturating_sub(last) < KEPT_FREE);
        if is_kept_free { (threads - 1).max(1) } else { threads }
    }

    /// How long the pool needs for half of what waits.
    fn delay(&self, threads: usize) -> Duration {
        Duration::from_nanos(self.queue.cost() / 2 / threads as u64)
    }
}

/// The class of a call of this expected cost.
fn class_of(cost: u64) -> Class {
    if cost <= SHORT { Class::Short } else { Class::Long }
}

/// A refusal that tells when to retry.
pub(super) fn refusal(text: impl Into<String>, delay: Duration) -> Status {
    let delay = delay.clamp(RETRY_DELAYS.0, RETRY_DELAYS.1);
    let details = ErrorDetails::with_retry_info(Some(delay));
    Status::with_error_details(Code::ResourceExhausted, text, details)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;
    use crate::service::metrics::Metrics;

    const LONG: u64 = 100 * SHORT;
    const WAIT: Duration = Duration::from_secs(30);

    fn dispatcher(threads: usize) -> Arc<Dispatcher> {
        let spawn: Spawn = Box::new(|work| _ = std::thread::spawn(work));
        Arc::new(Dispatcher::new(threads, spawn, Metrics::new(Vec::new(), Vec::new(), |_| ()).0.load))
    }

    /// Submits a call. The receiver gets a message when the call begins; the call ends when the sender is dropped.
    fn submit(dispatcher: &Arc<Dispatcher>, cost: u64) -> (Receiver<()>, Sender<()>) {
        let client = Client::Address(Ipv4Addr::LOCALHOST.into());
        let place = Place { client, connection: 1, deadline: u64::MAX, max_waiting: usize::MAX };
        let ((begins, begun), (end, ended)) = (channel(), channel());
        let call = move |turn| {
            assert!(matches!(turn, Turn::Compute(_)), "refused");
            let _ = begins.send(());
            let _ = ended.recv();
            false
        };
        dispatcher.submit(&place, cost, Box::new(call));
        (begun, end)
    }

    #[test]
    fn short_calls_do_not_wait_for_the_end_of_long_ones() {
        for threads in 2..5 {
            let dispatcher = dispatcher(threads);
            // As if short calls arrived all the time.
            dispatcher.state.lock().last_short = Some(u64::MAX);
            let long: Vec<_> = (0..2 * threads).map(|_| submit(&dispatcher, LONG)).collect();
            for (begun, _) in &long[..threads - 1] {
                begun.recv_timeout(WAIT).unwrap();
            }
            for _ in 0..3 {
                let (begun, _end) = submit(&dispatcher, 1);
                begun.recv_timeout(WAIT).unwrap();
                dispatcher.state.lock().last_short = Some(u64::MAX);
            }
            assert!(long[threads - 1].0.try_recv().is_err());
            for (at, (begun, end)) in long.into_iter().enumerate() {
                if at >= threads - 1 {
                    begun.recv_timeout(WAIT).unwrap();
                }
                drop(end);
            }
        }
    }

    #[test]
    fn cancelled_calls_teach_only_that_they_took_longer_than_expected() {
        let client = Client::Address(Ipv4Addr::LOCALHOST.into());
        // Calls of `submit` are never answered. One that took ten times as long as expected, and one that took less.
        for (expected, is_longer) in [(Duration::from_millis(1), true), (Duration::from_secs(600), false)] {
            let dispatcher = dispatcher(1);
            let nominal = expected.as_nanos() as u64;
            let (begun, end) = submit(&dispatcher, nominal);
            begun.recv_timeout(WAIT).unwrap();
            std::thread::sleep(Duration::from_millis(10));
            drop(end);
            // The next call of the only thread begins when the first is accounted for.
            // It does not end before the costs are compared, which would teach that it took longer than expected.
            let (begun, _end) = submit(&dispatcher, 1);
            begun.recv_timeout(WAIT).unwrap();
            let cost = dispatcher.state.lock().speeds.cost(&client, nominal);
            assert_eq!(cost > nominal, is_longer, "{cost} for {nominal}");
            assert!(cost >= nominal);
        }
    }

    #[test]
    fn without_short_calls_every_thread_takes_long_ones() {
        for threads in 1..4 {
            let dispatcher = dispatcher(threads);
            let long: Vec<_> = (0..threads).map(|_| submit(&dispatcher, LONG)).collect();
            for (begun, _) in &long {
                begun.recv_timeout(WAIT).unwrap();
            }
        }
    }
}
