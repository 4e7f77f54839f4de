//! One call of a shard: which replica is asked, when a second one is, and what counts as lost.
//!
//! What flows in: a call and its deadline. What flows out: the first reply of any replica. The less loaded of two replicas is
//! asked. After the time that 95 % of the calls of the shard take, a second one is asked, for at most 5 % of the calls. A replica
//! that fails is replaced at once, and one that takes much longer than that, too, for at most 10 % of the calls. The calls that lose
//! are cancelled.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tonic::{Code, Status};

use super::all::{Boxed, first};
use super::budget::Budget;
use super::failure::{is_final, is_of_replica, lacks_generation, of_shard, refuses_writes, unavailable};
use super::latency::Latencies;
use super::metrics::{ReplicaLabels, RouterMetrics, ShardMetrics};
use super::replica::{Health, InFlight, Replica};
use super::transport::{Call, Reply};
use crate::base::partition::Shard;

/// The share of calls that may be hedged, and the hedges saved up at most.
const HEDGED_SHARE: f64 = 0.05;
const SAVED_HEDGES: u32 = 10;
/// The same for retries.
const RETRIED_SHARE: f64 = 0.1;
const SAVED_RETRIES: u32 = 20;
/// The delay of a hedge before enough calls were measured, and the least one.
const UNMEASURED_HEDGE: Duration = Duration::from_millis(50);
const LEAST_HEDGE: Duration = Duration::from_millis(1);
/// A call that takes at least this long, and at least this many times the 95th percentile, is taken for lost: another replica is
/// asked. A call that misses its deadline counts against the replica only then. Otherwise the deadline was too short.
const LEAST_MISSED: Duration = Duration::from_millis(20);
const MISSED_P95S: u32 = 4;
/// No video was counted yet.
const UNKNOWN: u64 = u64::MAX;

/// The calls of one shard.
pub(super) struct ShardCalls {
    pub(super) shard: Shard,
    pub(super) replicas: Vec<Arc<Replica>>,
    index: String,
    measured: Arc<Measured>,
    /// Whether every replica takes writes.
    has_shared_log: bool,
    metrics: ShardMetrics,
    of_router: RouterMetrics,
}

/// What was measured of the calls of one shard, and the extra calls that these earned. It outlives changes of the replicas.
struct Measured {
    latencies: Latencies,
    hedges: Budget,
    retries: Budget,
    /// Videos as of its last answer.
    videos: AtomicU64,
}

/// One replica that was asked.
type Attempt = Boxed<'static, Result<Reply, Status>>;

impl ShardCalls {
    pub(super) fn new(
        index: &str,
        shard: Shard,
        replicas: Vec<Arc<Replica>>,
        metrics: &RouterMetrics,
    ) -> Self {
        Self {
            shard,
            replicas,
            index: index.to_owned(),
            measured: Arc::new(Measured {
                latencies: Latencies::default(),
                hedges: Budget::new(HEDGED_SHARE, SAVED_HEDGES),
                retries: Budget::new(RETRIED_SHARE, SAVED_RETRIES),
                videos: AtomicU64::new(UNKNOWN),
            }),
            has_shared_log: false,
            metrics: metrics.of_shard(index, shard.index()),
            of_router: metrics.clone(),
        }
    }

    /// The same calls of replicas that have one log.
    pub(super) fn with_shared_log(self) -> Self {
        Self { has_shared_log: true, ..self }
    }

    /// The same shard with other replicas.
    pub(super) fn with_replicas(&self, replicas: Vec<Arc<Replica>>) -> Self {
        Self {
            shard: self.shard,
            replicas,
            index: self.index.clone(),
            measured: Arc::clone(&self.measured),
            has_shared_log: self.has_shared_log,
            metrics: self.metrics.clone(),
            of_router: self.of_router.clone(),
        }
    }

    /// Whether both count as the same shard.
    #[cfg(test)]
    pub(super) fn measures_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.measured, &other.measured)
    }

    /// Updates the gauge of the replicas that may be asked.
    pub(super) fn observe_up(&self) {
        self.metrics.replicas_up(self.replicas.iter().filter(|replica| replica.is_up()).count());
    }

    /// Videos of the shard as of its last answer.
    pub(super) fn videos(&self) -> Option<u64> {
        Some(self.measured.videos.load(Ordering::Relaxed)).filter(|videos| *videos != UNKNOWN)
    }

    /// Records the number of videos of an answer.
    pub(super) fn set_videos(&self, videos: u64) {
        self.measured.videos.store(videos.min(UNKNOWN - 1), Ordering::Relaxed);
    }

    /// The labels of a replica.
    pub(super) fn labels(&self, replica: &Replica) -> ReplicaLabels {
        let (index, shard) = (self.index.clone(), self.shard.index());
        ReplicaLabels { index, shard, replica: replica.address.clone() }
    }

    /// Asks until a replica replies, all have failed, or `until`.
    ///
    /// # Errors
    /// What every replica would say of the request; the last failure; or `DEADLINE_EXCEEDED`.
    pub(super) async fn call(&self, call: &Call, until: Instant) -> Result<Reply, Status> {
        let began = Instant::now();
        let result = self.ask(call, until).await.map_err(|status| of_shard(status, self.shard));
        match &result {
            Ok(_) => {
                let took = began.elapsed();
                self.metrics.answered(took);
            }
            Err(status) if !is_final(status) => _ = self.metrics.lost.inc(),
            Err(_) => {}
        }
        result
    }

    async fn ask(&self, call: &Call, until: Instant) -> Result<Reply, Status> {
        if self.replicas.is_empty() {
            return Err(unavailable(format!("shard {}: no replica was found", self.shard)));
        }
        let Measured { latencies, hedges, retries, .. } = &*self.measured;
        hedges.earn();
        retries.earn();
        let p95 = latencies.p95();
        let hedge_after = p95.unwrap_or(UNMEASURED_HEDGE).max(LEAST_HEDGE);
        let missed_after = p95.map_or(LEAST_MISSED, |p95| LEAST_MISSED.max(MISSED_P95S * p95));
        let mut hedge_at = call.may_hedge().then(|| Instant::now() + hedge_after);
        // After the hedge, also before anything was measured.
        let lost_after = missed_after.max(2 * hedge_after);
        let mut lost_at = call.may_hedge().then(|| Instant::now() + lost_after);
        let (mut asked, mut running, mut in_flight) = (Vec::new(), Vec::new(), Vec::new());
        let is_first = call.is_write() && !self.has_shared_log;
        self.start(call, until, is_first, &mut asked, &mut running, &mut in_flight);
        loop {
            let (at, result) = tokio::select! {
                biased;
                done = first(&mut running) => done,
                () = sleep_until(hedge_at) => {
                    hedge_at = None;
                    if asked.len() < self.replicas.len() && hedges.take() {
                        self.metrics.hedged.inc();
                        self.start(call, until, is_first, &mut asked, &mut running, &mut in_flight);
                    }
                    continue;
                }
                () = sleep_until(lost_at) => {
                    lost_at = None;
                    if asked.len() < self.replicas.len() && retries.take() {
                        self.metrics.retried.inc();
                        self.start(call, until, is_first, &mut asked, &mut running, &mut in_flight);
                        lost_at = Some(Instant::now() + lost_after);
                    }
                    continue;
                }
                () = tokio::time::sleep_until(until) => {
                    for late in in_flight.iter().filter(|late: &&InFlight| late.elapsed() >= missed_after) {
                        self.blame(late);
                    }
                    return Err(Status::deadline_exceeded("the shard did not answer in time"));
                }
            };
            let ended: InFlight = in_flight.remove(at);
            let status = match result {
                Ok(reply) => {
                    ended.succeeded();
                    if call.may_hedge() {
                        latencies.record(ended.elapsed());
                    }
                    // Those that were asked first and are slower.
                    in_flight[..at].iter().for_each(|lost| self.blame(lost));
                    return Ok(reply);
                }
                Err(status) => status,
            };
            let is_refused = call.is_write() && self.has_shared_log && refuses_writes(&status);
            if is_final(&status) && !is_refused {
                ended.succeeded();
                return Err(status);
            }
            if is_of_replica(&status)
                || status.code() == Code::DeadlineExceeded && ended.elapsed() >= missed_after
            {
                self.blame(&ended);
            }
            if !running.is_empty() {
                continue;
            }
            let may_retry = status.code() != Code::DeadlineExceeded && asked.len() < self.replicas.len();
            // A write that failed may have been written; one that was refused was not.
            if !may_retry || call.is_write() && !is_refused {
                return Err(status);
            }
            // Each replica is asked at most once. While generations are swapped, any of the others may still have it.
            if !is_refused && !lacks_generation(&status) && !retries.take() {
                return Err(status);
            }
            self.metrics.retried.inc();
            self.start(call, until, is_first, &mut asked, &mut running, &mut in_flight);
        }
    }

    /// Counts a failure of a replica.
    fn blame(&self, call: &InFlight) {
        if call.failed() {
            let labels = self.labels(call.replica());
            tracing::warn!(index = self.index, shard = %self.shard, replica = labels.replica, "a replica rests");
            self.of_router.up(&labels, false);
            self.of_router.rested(&labels);
            self.observe_up();
        }
    }

    /// Asks one more replica. `is_first`: the first one, whatever its state.
    fn start(
        &self,
        call: &Call,
        until: Instant,
        is_first: bool,
        asked: &mut Vec<usize>,
        running: &mut Vec<Attempt>,
        in_flight: &mut Vec<InFlight>,
    ) {
        let at = if is_first { 0 } else { self.pick(asked) };
        asked.push(at);
        let replica = &self.replicas[at];
        let timeout = until.saturating_duration_since(Instant::now());
        in_flight.push(replica.begin());
        running.push(replica.transport.call(call.clone(), timeout));
    }

    /// Picks the less loaded of two random replicas that may be asked; without any, one that rests.
    fn pick(&self, asked: &[usize]) -> usize {
        let left: Vec<usize> = (0..self.replicas.len()).filter(|at| !asked.contains(at)).collect();
        let up: Vec<usize> = left.iter().copied().filter(|at| self.replicas[*at].is_up()).collect();
        let mut from = if up.is_empty() { left } else { up };
        if from.len() > 2 {
            let one = from.swap_remove(rand::random_range(0..from.len()));
            let other = from[rand::random_range(0..from.len())];
            from = vec![one, other];
        }
        // Equal ones in turn, so that all are measured.
        if from.len() > 1 && rand::random() {
            from.swap(0, 1);
        }
        let is_unknown = |at: usize| self.replicas[at].health() == Health::Unknown;
        from.into_iter().min_by_key(|at| (is_unknown(*at), self.replicas[*at].load())).unwrap_or_default()
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
