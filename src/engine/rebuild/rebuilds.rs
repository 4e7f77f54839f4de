//! The next generation, built of the current one and the writes since while both answer.
//!
//! ```text
//! threshold, or asked ─► fold: every part, without what is gone ─► build, on a share of the cores ─► gate
//!                                                                                                     │
//!          log trimmed, old generations removed ◄─ swap: the log after the fold is replayed ◄ publish ◄┘
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::build::{Ancestor, BuildError, BuildParams, ParamsError, Progress, stage};
use crate::dataset::{DatasetError, Embeddings};
use crate::engine::error::EngineError;
use crate::engine::options::RebuildOptions;
use crate::engine::publish::served::ServedIndex;
use crate::engine::rebuild::sampled::is_usable;
use crate::engine::status::{RebuildState, RebuildStatus};
use crate::index::{BuildTimes, Index, Measured, StagedIndex, StoreError};
use crate::live::delta::state::Fold;
use crate::live::{RowsError, gather};
use crate::node_set::NodeSet;
use crate::recall::calibrate_staged;

/// Fewer users teach a graph that had none no better than it is.
const MIN_USERS: usize = 1_000;

/// What threads beside the searches add to their nice value: a tenth of the time where both want to run.
const NICE: i32 = 10;

/// Why a rebuild failed.
#[derive(Debug, thiserror::Error)]
enum RebuildError {
    #[error(transparent)]
    Rows(#[from] RowsError),
    #[error("training queries: {0}")]
    Training(#[from] DatasetError),
    #[error(transparent)]
    Params(#[from] ParamsError),
    #[error(transparent)]
    Build(#[from] BuildError),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

/// Why what was built does not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    #[error("another generation answers since the rebuild began: it was not published")]
    Superseded,
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("generation {generation} was published and does not answer: {problem}")]
    Refused { generation: u64, problem: String },
}

/// The rebuilds of one index: one at a time.
#[derive(Debug, Default)]
pub(crate) struct Rebuilds {
    watched: Arc<Watched>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The generation, and how much of it had changed, when the last one began by itself.
    tried: Mutex<Option<(u64, usize)>>,
}

/// What is known of the one that runs.
#[derive(Debug, Default)]
struct Watched {
    status: Mutex<RebuildStatus>,
    phase_began: Mutex<Option<Instant>>,
    steps: AtomicU64,
    total: AtomicU64,
    is_cancelled: AtomicBool,
}

impl Watched {
    fn status(&self) -> RebuildStatus {
        let mut status = self.status.lock().clone();
        if status.state == RebuildState::Running {
            let (steps, total) = (self.steps.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed));
            status.progress = if total == 0 { 0.0 } else { (steps as f64 / total as f64).min(1.0) };
            let seconds = self.phase_began.lock().map_or(0.0, |began| began.elapsed().as_secs_f64());
            status.rows_per_second = if seconds > 0.0 { steps as f64 / seconds } else { 0.0 };
        }
        status
    }

    fn end(&self, state: RebuildState, problem: Option<String>) {
        let mut status = self.status.lock();
        (status.state, status.problem) = (state, problem);
        status.phase.clear();
    }
}

impl Progress for Watched {
    fn begin(&self, phase: &'static str, total: u64) {
        phase.clone_into(&mut self.status.lock().phase);
        *self.phase_began.lock() = Some(Instant::now());
        self.steps.store(0, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    fn advance(&self, steps: u64) {
        self.steps.fetch_add(steps, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}

impl Rebuilds {
    pub(crate) fn status(&self) -> RebuildStatus {
        self.watched.status()
    }

    /// Asks the one that runs to end.
    pub(crate) fn cancel(&self) {
        self.watched.is_cancelled.store(true, Ordering::Relaxed);
    }

    /// Asks the one that runs to end, and waits for it.
    pub(crate) fn stop(&self) {
        self.cancel();
        if let Some(thread) = self.thread.lock().take() {
            // What it had to say it has logged.
            let _ = thread.join();
        }
    }

    /// Begins one, unless one runs.
    ///
    /// # Errors
    /// If there can be no thread for it.
    pub(crate) fn start(&self, served: &Arc<ServedIndex>, reason: &str) -> Result<(), EngineError> {
        let mut thread = self.thread.lock();
        if self.watched.status.lock().state.is_underway() {
            return Ok(());
        }
        if let Some(ended) = thread.take() {
            let _ = ended.join();
        }
        self.watched.is_cancelled.store(false, Ordering::Relaxed);
        *self.watched.status.lock() = RebuildStatus {
            state: RebuildState::Running,
            started_at: Some(Timestamp::now()),
            ..RebuildStatus::default()
        };
        let (watched, of_thread) = (Arc::clone(&self.watched), Arc::clone(served));
        let name = format!("rebuild-{}", served.name());
        tracing::info!(index = served.name(), reason, "rebuilding");
        let run = move || {
            step_back();
            let ended = catch_unwind(AssertUnwindSafe(|| rebuild(&of_thread, &watched)));
            let (state, problem) = match ended {
                Ok(Ok(())) => (RebuildState::Done, None),
                Ok(Err(RebuildError::Build(BuildError::Cancelled))) => (RebuildState::Cancelled, None),
                Ok(Err(error)) => (RebuildState::Failed, Some(error.to_string())),
                // What it was is in the log already.
                Err(_) => {
                    (RebuildState::Failed, Some("it panicked; the log of the server has more".to_owned()))
                }
            };
            if let Some(problem) = &problem {
                tracing::error!(index = of_thread.name(), problem, "a rebuild failed");
            }
            watched.end(state, problem);
        };
        match std::thread::Builder::new().name(name).spawn(run) {
            Ok(spawned) => *thread = Some(spawned),
            Err(error) => {
                self.watched.end(RebuildState::Failed, Some(error.to_string()));
                return Err(EngineError::NoThread(error));
            }
        }
        Ok(())
    }

    /// Begins one if enough has changed, and again as much if one of this generation began by itself already: it failed,
    /// and would again. Where nothing is written, whoever builds the generations knows best when.
    pub(crate) fn start_if_due(&self, served: &Arc<ServedIndex>, options: &RebuildOptions) {
        if served.writing().log().is_none() || served.check_rebuildable().is_err() {
            return;
        }
        let generation = served.shared().current.load().manifest.generation;
        let due = served.shared().with_live(|live| {
            let videos = live.segments.base().index.len();
            let least = |share: f64| {
                let least = (share * videos as f64).ceil().max(options.min_changes as f64);
                if share > 0.0 { least as usize } else { usize::MAX }
            };
            let (delta, deleted) = (least(options.delta_share), least(options.deleted_share));
            let reason = if live.delta_vectors() >= delta {
                format!("{} videos beside {videos}", live.delta_vectors())
            } else if live.tombstones() >= deleted {
                format!("{} of {videos} videos gone", live.tombstones())
            } else {
                return None;
            };
            Some((reason, live.delta_vectors() + live.tombstones(), delta.min(deleted)))
        });
        let Some((reason, changes, enough)) = due else { return };
        let mut tried = self.tried.lock();
        if let Some((of, before)) = *tried
            && of == generation
            && changes < before.saturating_add(enough)
        {
            return;
        }
        *tried = Some((generation, changes));
        drop(tried);
        if let Err(error) = self.start(served, &reason) {
            tracing::error!(index = served.name(), %error, "cannot rebuild");
        }
    }
}

/// Lets this thread, and those that it starts, compute where searches leave room.
pub(crate) fn step_back() {
    // Where that is not allowed, they share as equals.
    let _ = rustix::process::setpriority_process(None, NICE);
}

/// Builds and publishes the next generation, and lets it answer.
fn rebuild(served: &ServedIndex, watched: &Watched) -> Result<(), RebuildError> {
    let started = Instant::now();
    watched.begin("gathering videos", 1);
    let options = served.rebuild_options();
    let fold = served.shared().with_live(|live| live.fold(Timestamp::now()));
    watched.status.lock().bad_records = fold.held;
    let base = fold.kept.first().map(|(base, _)| Arc::clone(base)).ok_or(RowsError::NoVideos)?;
    // A damaged one would get sound checksums.
    base.check_checksums().map_err(StoreError::from).map_err(PublishError::from)?;
    let mut built = build(served, fold, options, watched, started)?;
    watched.status.lock().state = RebuildState::Gating;
    let staged = built.staged.open().map_err(StoreError::from).map_err(PublishError::from)?;
    staged.populate();
    // One of its own: that of the server is for its looks.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(served.rebuild_options().threads()).build();
    let pool = pool.map_err(BuildError::from)?;
    built.measured.verdict =
        served.measure(&staged, &pool, &|| !watched.is_cancelled()).unwrap_or_else(|error| {
            // It is published, and refused until somebody mends what is wrong, or forces it.
            tracing::error!(index = served.name(), %error, "a rebuild cannot be measured");
            None
        });
    drop(staged);
    if watched.is_cancelled() {
        return Err(BuildError::Cancelled.into());
    }
    Ok(served.publish(base, built)?)
}

/// A finished build, with what was measured of it.
pub(crate) struct Built {
    pub(crate) staged: StagedIndex,
    pub(crate) times: BuildTimes,
    pub(crate) measured: Measured,
}

fn build(
    served: &ServedIndex,
    fold: Fold,
    options: &RebuildOptions,
    watched: &Watched,
    started: Instant,
) -> Result<Built, RebuildError> {
    let threads = options.threads();
    let (base, _) = fold.kept.first().ok_or(RowsError::NoVideos)?;
    let base = Arc::clone(base);
    let params = params(&base, fold.sequence)?.with_threads(threads);
    let training = training(served, &base, options)?;
    let kept: Vec<(&Index, &NodeSet)> = fold.kept.iter().map(|(index, kept)| (&**index, kept)).collect();
    let dataset = gather(&kept, &base.metadata().attributes)?;
    let of_base = kept[0].1;
    let ancestor = match training {
        // Users teach a graph from its beginning, and those that measure it must not have.
        Some(_) => None,
        None => Ancestor::of_first(&base, of_base, dataset.ids.len()),
    };
    let (staged, times) =
        stage(&dataset, training.as_ref(), ancestor.as_ref(), &params, served.store(), watched, started)?;
    drop((dataset, training, ancestor, kept));
    drop((base, fold));
    let (curves, uncalibrated) = calibrate_staged(&staged, threads, watched)?;
    if let Some(problem) = uncalibrated {
        tracing::warn!(index = served.name(), %problem, "a rebuild is not calibrated");
    }
    Ok(Built { staged, times, measured: Measured { curves, verdict: None } })
}

/// As the generation was built, with what is known since.
fn params(base: &Index, sequence: u64) -> Result<BuildParams, RebuildError> {
    let facts = base.metadata();
    let builder = facts.build.builder.parse().unwrap_or(crate::build::Builder::Native);
    let params = BuildParams::new(facts.metric, facts.m as usize, facts.build.ef_construction as usize)?
        .with_builder(builder)?
        .with_codes(facts.codes)?
        .with_seed(facts.build.seed)
        .with_embedding_model(facts.embedding_model.clone())
        .with_log_sequence(sequence)
        .with_held_after(facts.held_after());
    Ok(params)
}

/// The users that teach the next generation: those of a file, or else those that taught the one before and those that
/// it was measured with, and those that asked since.
fn training(
    served: &ServedIndex,
    base: &Index,
    options: &RebuildOptions,
) -> Result<Option<Embeddings>, RebuildError> {
    if let Some(path) = options.training_queries.get(served.name()) {
        return Ok(Some(Embeddings::open(path)?));
    }
    let (mut users, mut user) = (Vec::new(), Vec::new());
    for queries in [base.training_queries(), base.held_out_queries()].into_iter().flatten() {
        for row in 0..queries.len() {
            queries.copy_row(row, &mut user);
            users.extend_from_slice(&user);
        }
    }
    let dim = base.dim();
    users.extend(served.asked().teachers(dim));
    let users: Vec<f32> = users.chunks_exact(dim).filter(|user| is_usable(user)).flatten().copied().collect();
    if base.metadata().training.is_none() && users.len() < MIN_USERS * dim || users.is_empty() {
        return Ok(None);
    }
    let name = std::path::Path::new("users that asked before");
    Ok(Some(Embeddings::in_memory(name, dim, users)))
}
