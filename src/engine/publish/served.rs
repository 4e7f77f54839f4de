//! One named index: the snapshot that answers, and how another takes its place.
//!
//! ```text
//!  start ─► structure ─► serves ─► checksums ─┬─► serves
//!                                             └─► damaged: the newest sound one serves, or none: out of service
//!  publication or activation ─► structure, checksums ─┬─► swapped in
//!                                                     └─► refused: the current one goes on serving
//! ```
//!
//! A generation is served from the mapped file, or from a copy in memory: `residence.rs` decides.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::base::file_identity::OpenFolder;
use crate::engine::error::EngineError;
use crate::engine::memory::{MemoryGauge, MemoryPolicy};
use crate::engine::options::EngineOptions;
use crate::engine::publish::continuity::Next;
use crate::engine::publish::learner::Learner;
use crate::engine::publish::quality_gate::QualityGate;
use crate::engine::publish::refresh::Refresh;
use crate::engine::publish::residence_progress::ResidenceProgress;
use crate::engine::publish::scrub::Scrub;
use crate::engine::publish::serving::Serving;
use crate::engine::publish::start::Start;
use crate::engine::query::snapshot::Snapshot;
use crate::engine::rebuild::rebuilder::Rebuilder;
use crate::engine::rebuild::sampled::QuerySample;
use crate::engine::supervise::Background;
use crate::engine::write::found_log::FoundLog;
use crate::engine::write::log::WriteLog;
use crate::engine::write::shared::Shared;
use crate::index::{IndexStore, PublishReason, StoreError};

/// A folder of generations, and the one that answers.
#[derive(Debug)]
pub(crate) struct ServedIndex {
    pub(super) name: String,
    pub(super) store: IndexStore,
    pub(super) folder: Arc<OpenFolder>,
    /// Where its generations are built, if not here.
    pub(super) built_at: Option<String>,
    pub(super) memory: MemoryPolicy,
    pub(super) memory_gauge: MemoryGauge,
    pub(super) background: Background,
    pub(super) shared: Arc<Shared>,
    pub(super) log: WriteLog,
    pub(super) sample: QuerySample,
    pub(super) gate: QualityGate,
    pub(super) rebuilder: Rebuilder,
    pub(super) learner: Learner,
    pub(super) serving: Serving,
    pub(super) scrub: Scrub,
    /// Each activation that is running or waiting has a copy.
    pub(super) activations: Arc<()>,
    /// Locked while a swap is prepared, so that two swaps cannot overtake each other.
    pub(super) progress: Mutex<Progress>,
    /// Events of a rebuild, for the next refresh to report.
    pub(super) events: Mutex<Vec<Refresh>>,
}

/// How far the folder was processed.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// The newest manifest that was tried.
    pub(super) newest: u64,
    /// Manifests that could not be opened for a reason that may end, and the reason. They are tried again.
    pub(super) deferred: BTreeMap<u64, String>,
    /// The newest manifest, if its generation was refused only because it has no calibration.
    pub(super) uncalibrated: Option<Uncalibrated>,
    /// Whether the checksums of the current generation were compared.
    pub(super) checked: bool,
    /// What was decided about a copy of the current generation in memory.
    pub(super) residence: ResidenceProgress,
}

/// A publication that was refused only because it has no calibration.
#[derive(Debug)]
pub(super) struct Uncalibrated {
    pub(super) manifest: u64,
    pub(super) generation: u64,
    /// The numbers of its calibrations, all unusable.
    pub(super) calibrations: Vec<u64>,
}

impl ServedIndex {
    /// Opens the newest generation whose structure is sound. The status reports the first one that was skipped.
    ///
    /// # Errors
    /// If there is no usable generation, or the log cannot be opened.
    pub(crate) fn open(
        name: String,
        dir: PathBuf,
        options: &EngineOptions,
        background: &Background,
    ) -> Result<Self, EngineError> {
        let store = IndexStore::new(dir);
        let gate = QualityGate::new(name.clone(), options.gate.clone(), Arc::clone(&background.supervisor));
        // Without a folder there is no manifest, which is the clearer error.
        let folder = OpenFolder::open(store.dir());
        let found = FoundLog::open(&store, &options.log_opening(&name))?;
        let log = found.log();
        let Start { manifest, index, judged, problem } =
            Start::open(&store, log.as_deref(), found.is_shared(), &options.gate)?;
        let snapshot = Snapshot::new(manifest, index, &store)?;
        let current = snapshot.manifest.manifest;
        let shared = Arc::new(Shared::new(snapshot, &|| Ok(log.clone()))?);
        let folder = Arc::new(folder.map_err(StoreError::io(store.dir()))?);
        // Otherwise the log and the generation may be those of two folders.
        folder.check().map_err(|displaced| StoreError::io(store.dir())(io::Error::other(displaced)))?;
        let log = WriteLog::new(&store, &folder, &shared, &background.supervisor, found);
        let rebuilder = Rebuilder::new(options.rebuild.clone(), Arc::clone(&background.supervisor));
        let built_at = options.built_at.get(&name).cloned();
        Ok(Self {
            name,
            folder,
            built_at,
            store,
            memory: options.memory,
            memory_gauge: options.memory_gauge.clone(),
            background: background.clone(),
            shared,
            log,
            sample: QuerySample::new(options.sample, current),
            gate,
            rebuilder,
            learner: Learner::default(),
            serving: Serving::new(problem),
            scrub: Scrub::new(options.scrub_bytes_per_second),
            activations: Arc::default(),
            progress: Mutex::new(Progress { newest: judged, ..Progress::default() }),
            events: Mutex::default(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn store(&self) -> &IndexStore {
        &self.store
    }

    /// Returns the state that searches and writes share.
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn log(&self) -> &WriteLog {
        &self.log
    }

    pub(crate) fn sample(&self) -> &QuerySample {
        &self.sample
    }

    pub(crate) fn gate(&self) -> &QualityGate {
        &self.gate
    }

    pub(crate) fn rebuilder(&self) -> &Rebuilder {
        &self.rebuilder
    }

    pub(crate) fn learner(&self) -> &Learner {
        &self.learner
    }

    /// Returns the snapshot that answers now. A request loads it once and uses it to its end.
    ///
    /// # Errors
    /// [`EngineError::OutOfService`].
    pub(crate) fn snapshot(&self) -> Result<Arc<Snapshot>, EngineError> {
        if self.serving.is_withdrawn() {
            let problem = self.serving.problem().unwrap_or_default();
            return Err(EngineError::OutOfService { index: self.name.clone(), problem });
        }
        let snapshot = self.shared.unexpired();
        snapshot.check_undamaged(&self.name)?;
        Ok(snapshot)
    }

    /// Returns whether the folder has a newest manifest that was not tried yet. Returns false while a swap is prepared.
    pub(crate) fn has_news(&self) -> bool {
        let Some(progress) = self.progress.try_lock() else { return false };
        let newest = self.store.manifests().ok().and_then(|manifests| manifests.last().copied());
        newest.is_some_and(|newest| newest != progress.newest)
    }

    /// Checks that the generation of this index may answer in place of that of `before`, whose folder was replaced: it was
    /// activated by hand, or has in common with the other what requests rely on.
    ///
    /// # Errors
    /// [`StoreError::NotServable`].
    pub(crate) fn check_continues(&self, before: &Self) -> Result<(), EngineError> {
        // An index that is out of service has nothing to lose.
        let Ok(before) = before.snapshot() else { return Ok(()) };
        let opened = self.shared.current.load();
        if opened.manifest.reason == PublishReason::Activate {
            return Ok(());
        }
        Ok(self.gate.compare(Next::opened(&opened), &before)?)
    }

    /// Ends writing, so that the files in the folder can be opened by another value of this type, which may be in
    /// another process. Searches go on.
    pub(crate) fn release(&self, reason: &str) {
        self.rebuilder.cancel();
        self.learner.cancel();
        self.log.close(reason);
    }

    /// Takes the index out of service until its files are opened anew, and returns whether that was done before.
    pub(crate) fn withdraw(&self, error: &EngineError) -> bool {
        self.serving.close(error.to_string())
    }

    /// Sets why the files that are there instead of the opened ones cannot be opened.
    pub(crate) fn set_unopened(&self, problem: Option<String>) {
        self.serving.set_unopened(problem);
    }

    /// Returns the generation that answers.
    pub(crate) fn generation(&self) -> u64 {
        self.shared.current.load().manifest.generation
    }

    /// Checks the generation that the start opened, serves the newest manifest that was not tried yet, loads the newest
    /// calibration, and copies the generation into memory or gives the copy back. Appends what changed to `events`. Returns false
    /// if it did nothing because a swap is being prepared.
    pub(crate) fn refresh(&self, events: &mut Vec<Refresh>) -> bool {
        events.append(&mut self.events.lock());
        // The lock is taken while a generation is measured or swapped in; the refresh of other indexes must not wait.
        let Some(mut progress) = self.progress.try_lock() else { return false };
        events.extend(self.check_start(&mut progress));
        events.extend(self.load_published(&mut progress));
        events.extend(self.recalibrate());
        events.extend(self.settle_residence(&mut progress.residence));
        if self.check_in_place().is_ok() {
            self.log.retry();
        }
        self.shared.compact(&self.background.pool);
        true
    }

    /// Loads a newer calibration of the current generation if there is one.
    fn recalibrate(&self) -> Option<Refresh> {
        self.snapshot().ok()?;
        let snapshot = self.shared.recalibrate(&self.store)?;
        let generation = snapshot.manifest.generation;
        let queries = snapshot.calibrated.curves().map(|curves| curves.queries);
        Some(Refresh::Calibrated { index: self.name.clone(), generation, queries: queries? })
    }
}
