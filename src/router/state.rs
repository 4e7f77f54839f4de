//! The state that the services of a router share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tonic::{Code, Request, Status};

use super::failure::unavailable;
use super::metrics::RouterMetrics;
use super::topology::{ShardMap, Topology};
use crate::engine::{EngineError, Limits};
use crate::service::CallerLimits;
use crate::service::parts::{
    Admission, AliasMap, CallMemory, Caller, Charge, Client, Deadline, Named, Observation, Quota, Shell,
    check_named, status,
};

/// The state that the services of a router share.
pub(super) struct Router {
    pub(super) shell: Arc<Shell>,
    pub(super) topology: Arc<Topology>,
    pub(super) admission: Admission,
    pub(super) write_admission: Admission,
    pub(super) quota: Quota,
    pub(super) metrics: RouterMetrics,
    /// The limits of all callers. A shard is asked for at most `max_k`, whatever the limits of the caller.
    pub(super) engine_limits: Limits,
    pub(super) started: Instant,
    pub(super) started_at: Timestamp,
}

/// Of the time of a call, this share is kept for the router, within these bounds.
const RESERVED_SHARE: u32 = 20;
const LEAST_RESERVE: Duration = Duration::from_micros(500);
const MOST_RESERVE: Duration = Duration::from_millis(20);

/// One call of a router.
pub(super) struct RouterCall<'a> {
    pub(super) router: &'a Arc<Router>,
    pub(super) method: &'static str,
    pub(super) caller: Caller,
    pub(super) limits: CallerLimits,
    /// Those of k, of ef_search and of seeds.
    pub(super) engine_limits: Limits,
    pub(super) deadline: Deadline,
    pub(super) memory: Option<Arc<CallMemory>>,
}

impl<'a> RouterCall<'a> {
    pub(super) fn of<T>(
        router: &'a Arc<Router>,
        method: &'static str,
        request: &Request<T>,
    ) -> Result<Self, Status> {
        let memory = CallMemory::of(request);
        Ok(Self::new(router, method, Caller::of(request)?, Deadline::of(request), memory))
    }

    pub(super) fn new(
        router: &'a Arc<Router>,
        method: &'static str,
        caller: Caller,
        deadline: Deadline,
        memory: Option<Arc<CallMemory>>,
    ) -> Self {
        let limits = router.shell.limits.caller.with(&caller.rights.limits);
        let all = router.engine_limits;
        let engine_limits = caller.rights.limits.over_engine(&all).unwrap_or(all);
        Self { router, method, caller, limits, engine_limits, deadline, memory }
    }

    pub(super) fn observe(&self, index: &str) -> Observation {
        self.router.shell.observe(self.method, index, self.deadline)
    }

    /// When shards must have answered a request that arrives now.
    pub(super) fn due(&self) -> tokio::time::Instant {
        let now = Instant::now();
        let latest = now + self.limits.max_deadline.min(Duration::from_secs(3600));
        let due = self.deadline.0.map_or(latest, |due| due.min(latest));
        let left = due.saturating_duration_since(now);
        let reserve = (left / RESERVED_SHARE).clamp(LEAST_RESERVE, MOST_RESERVE).min(left / 2);
        (due - reserve).into()
    }

    /// Whom the call is counted against.
    pub(super) fn client(&self) -> Client {
        self.caller.client()
    }

    /// Finds the index that a request means, and puts its full name in place of `name`.
    pub(super) fn named(&self, aliases: &AliasMap, name: &mut String, model: &str) -> Named {
        aliases.name(name, model, &*self.router.topology)
    }

    /// The full name and the shards of the index of a search or lookup.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `NOT_FOUND`, `FAILED_PRECONDITION` if an alias has no index of the model, or `UNAVAILABLE` if no replica was
    /// found yet. `path`: of the request within the call.
    pub(super) fn index(
        &self,
        named: Named,
        index: &str,
        path: &str,
    ) -> Result<(&'a str, Arc<ShardMap>), Status> {
        check_named(&self.router.shell, &self.caller, self.method, named, index, path)?;
        self.checked_index(index, path)
    }

    /// The same, for an index that the caller may use.
    ///
    /// # Errors
    /// `NOT_FOUND`, or `UNAVAILABLE` if no replica was found yet.
    pub(super) fn checked_index(&self, name: &str, path: &str) -> Result<(&'a str, Arc<ShardMap>), Status> {
        let topology = &self.router.topology;
        let resolved = topology.resolve(name).and_then(|name| Some((name, topology.shards(name)?)));
        if resolved.as_ref().is_some_and(|(_, map)| map.shards.is_empty()) {
            return Err(unavailable(format!("index {name:?}: no replica was found yet")));
        }
        resolved.ok_or_else(|| {
            let available = topology.names().map(str::to_owned).collect();
            status::of(&EngineError::UnknownIndex { name: name.to_owned(), available }.into(), path)
        })
    }

    /// Charges memory to the call.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if there is not enough.
    pub(super) fn charged(&self, bytes: usize) -> Result<Option<Charge>, Status> {
        self.memory.as_ref().map(|memory| memory.charged(bytes)).transpose()
    }

    /// Charges a message between router and replica, which has this many bytes on the wire. Decoded, it takes about twice as many;
    /// one to send is a copy, and its bytes.
    ///
    /// # Errors
    /// As [`Self::charged`].
    pub(super) fn charged_message(&self, encoded_len: usize) -> Result<Option<Charge>, Status> {
        self.charged(encoded_len.saturating_mul(2))
    }

    /// Counts searches that are refused because too many are in flight.
    pub(super) fn count_refused(&self, status: &Status) {
        if status.code() == Code::ResourceExhausted {
            self.router.shell.metrics.load.refused_search(&self.client(), "in_flight");
        }
    }

    /// Uses the rates of the client for one search.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if they are used up.
    pub(super) fn use_rates(&self) -> Result<(), Status> {
        let now = self.router.started.elapsed().as_nanos() as u64;
        let client = self.client();
        self.router.quota.take(&client, &self.limits, 1, 0, now).map_err(|(reason, status)| {
            self.router.shell.metrics.load.refused_search(&client, reason);
            status
        })
    }
}

/// The code of a result.
pub(super) fn code_of<T>(result: &Result<T, Status>) -> Code {
    result.as_ref().err().map_or(Code::Ok, Status::code)
}
