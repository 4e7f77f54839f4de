//! Repeats a share of the searches of an index on a candidate, and compares the answers.
//!
//! What flows in: requests that were answered. What flows out: a report, and metrics. A thread that runs when nothing else does searches index and
//! candidate again, one request at a time, and rests so that it takes no more processor time than it may. Requests that come while it
//! rests wait in a short queue; the others are left out.
//!
//! | file | duty |
//! |---|---|
//! | `options.rs`   | how shadows may be used |
//! | `candidate.rs` | what an index is compared with, and how it is searched |
//! | `pair.rs`      | an index and its candidate, and what was found so far |
//! | `report.rs`    | what comparisons amount to |
//! | `worker.rs`    | the thread |
//! | `once.rs`      | two generations, compared with searches of sample users |

mod candidate;
mod once;
mod options;
mod pair;
mod report;
mod worker;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::runtime::Handle;

use self::candidate::{Candidate, Server};
use self::pair::{Outcome, Pair};
use self::worker::{Job, Pace, Worker};
use super::error::{CallError, InvalidField};
use super::metrics::ShadowMetrics;
use super::proto::{self, shadow_candidate};
use crate::engine::{Engine, EngineError, Pause};

pub(super) use self::once::compared_once;
pub use self::options::ShadowOptions;

/// How long an exact search works before it rests: it reads all embeddings, which takes the caches from other searches.
const WORK_AT_ONCE: Duration = Duration::from_micros(200);

/// The shadows of a server, at most one for each index.
pub(crate) struct Shadows {
    engine: Arc<Engine>,
    options: ShadowOptions,
    metrics: Arc<ShadowMetrics>,
    active: ArcSwap<BTreeMap<String, Arc<Pair>>>,
    /// Locked while a shadow begins or ends. There is a thread while there are shadows.
    worker: Mutex<Option<Worker>>,
}

/// A search that is to be repeated once it is answered.
pub(super) struct Repeated {
    pair: Arc<Pair>,
    request: proto::SearchRequest,
}

impl Shadows {
    pub(super) fn new(engine: Arc<Engine>, options: ShadowOptions, metrics: Arc<ShadowMetrics>) -> Self {
        Self { engine, options, metrics, active: ArcSwap::default(), worker: Mutex::default() }
    }

    /// Counts a search of an index. Returns what to repeat, if it is one of those.
    pub(super) fn take(&self, request: &proto::SearchRequest) -> Option<Repeated> {
        let active = self.active.load();
        let pair = active.get(&request.index)?;
        // Pages after the first are of one generation.
        if !request.page_token.is_empty() || !pair.takes() {
            return None;
        }
        // The writes that the caller has seen are of this index.
        let request = proto::SearchRequest { min_sequence: 0, return_stats: false, ..request.clone() };
        Some(Repeated { pair: Arc::clone(pair), request })
    }

    /// Repeats a search that was answered, later. Leaves it out if too many wait.
    pub(super) fn repeat(&self, Repeated { pair, request }: Repeated) {
        let job = Job { bytes: request.encoded_len(), pair: Arc::clone(&pair), request };
        let is_taken = self.worker.lock().as_ref().is_some_and(|worker| worker.push(job));
        if !is_taken {
            pair.skip();
            self.metrics.skipped(&pair.index);
        }
    }

    /// Begins a shadow of an index in place of the one that it has; ends that if there is no candidate. Returns the report of
    /// that. Opening a generation reads all of its file, so this blocks.
    ///
    /// # Errors
    /// If the share or the candidate cannot be used; then nothing changes.
    pub(super) fn set(
        self: &Arc<Self>,
        index: &str,
        candidate: Option<proto::ShadowCandidate>,
        share: f64,
        runtime: &Handle,
    ) -> Result<Option<proto::Shadow>, CallError> {
        let pair = candidate.map(|named| self.pair(index, named, share, runtime)).transpose()?;
        let mut worker = self.worker.lock();
        if pair.is_some() && worker.is_none() {
            // Weak: otherwise the thread would keep itself running.
            let shadows = Arc::downgrade(self);
            let started = Worker::start(self.options.cpu_share, move |job, pace| {
                Self::compare(&shadows, job, pace);
            });
            *worker = Some(started.map_err(EngineError::NoThread)?);
        }
        Ok(self.replace(&mut worker, index, pair).map(|before| before.report()))
    }

    /// Puts a pair in place of that of an index. Ends the thread if there is none left.
    fn replace(&self, worker: &mut Option<Worker>, index: &str, pair: Option<Pair>) -> Option<Arc<Pair>> {
        let mut active = BTreeMap::clone(&self.active.load());
        let before = match pair {
            Some(pair) => active.insert(index.to_owned(), Arc::new(pair)),
            None => active.remove(index),
        };
        if active.is_empty() {
            *worker = None;
        }
        self.active.store(Arc::new(active));
        self.metrics.forget(index);
        before
    }

    fn pair(
        &self,
        index: &str,
        named: proto::ShadowCandidate,
        share: f64,
        runtime: &Handle,
    ) -> Result<Pair, CallError> {
        let invalid = |field: &str, problem: String| CallError::Field(InvalidField::new(field, problem));
        if !(share > 0.0 && share <= 1.0) {
            return Err(invalid("share", format!("expected more than 0 and at most 1, found {share}")));
        }
        let status = self.engine.status(index)?;
        let candidate = match &named.candidate {
            None => {
                let problem = "expected a generation, an index or a server, found none";
                return Err(invalid("candidate", problem.to_owned()));
            }
            Some(shadow_candidate::Candidate::Generation(generation)) => {
                if *generation == status.generation {
                    let problem = format!("expected a generation that does not serve, found {generation}");
                    return Err(invalid("candidate.generation", problem));
                }
                Candidate::Generation(self.engine.open_candidate(index, *generation)?)
            }
            Some(shadow_candidate::Candidate::Index(other)) => {
                let full = self.engine.resolve(other)?;
                if full == index {
                    let problem = format!("expected another index, found {other:?}");
                    return Err(invalid("candidate.index", problem));
                }
                Candidate::Index(full.to_owned())
            }
            Some(shadow_candidate::Candidate::Server(proto::ShadowServer { address, index })) => {
                let _runtime = runtime.enter();
                let client = self.options.client(address).map_err(|problem| {
                    CallError::Precondition(InvalidField::new("candidate.server.address", problem))
                })?;
                Candidate::Server(Box::new(Server { client, index: index.clone(), runtime: runtime.clone() }))
            }
        };
        Ok(Pair::new(index, status.metric, candidate, named, share))
    }

    /// Compares the answers to a search, on the thread.
    fn compare(shadows: &Weak<Self>, Job { pair, request, .. }: &Job, pace: &Arc<Pace>) {
        let Some(shadows) = shadows.upgrade() else { return };
        let of_scan = Arc::clone(pace);
        let pause = Pause::new(move || of_scan.rest_after(WORK_AT_ONCE));
        match pair.compare(&shadows.engine, request, &pause) {
            Outcome::Compared(times) => shadows.metrics.compared(&pair.index, times),
            Outcome::Failed => shadows.metrics.failed(&pair.index),
            Outcome::Serves => shadows.end(pair),
        }
    }

    /// Ends a shadow whose candidate serves, unless it was replaced.
    fn end(&self, ended: &Arc<Pair>) {
        let mut worker = self.worker.lock();
        if self.active.load().get(&ended.index).is_some_and(|pair| Arc::ptr_eq(pair, ended)) {
            tracing::info!(index = ended.index, "the candidate of a shadow serves; the shadow ends");
            self.replace(&mut worker, &ended.index, None);
        }
    }

    /// The report of the shadow of an index, if it has one.
    pub(super) fn report(&self, index: &str) -> Option<proto::Shadow> {
        self.active.load().get(index).map(|pair| pair.report())
    }

    /// Updates the metrics.
    pub(super) fn observe(&self) {
        for pair in self.active.load().values() {
            self.metrics.report(&pair.index, &pair.report());
        }
    }
}
