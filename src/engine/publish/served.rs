//! One named index: the snapshot that answers, and how another takes its place.
//!
//! ```text
//!  start ─► structure ─► serves ─► checksums ─┬─► serves
//!                                             └─► damaged: the newest sound one serves, or none: out of service
//!  publication or activation ─► structure, checksums ─┬─► swapped in
//!                                                     └─► refused: the current one goes on serving
//! ```
//!
//! A generation is served from the mapped file, and from a copy in memory once that is made, if it is configured.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::base::file_identity::OpenFolder;
use crate::engine::error::EngineError;
use crate::engine::options::EngineOptions;
use crate::engine::publish::quality_gate::{QualityGate, Reference};
use crate::engine::publish::refresh::Refresh;
use crate::engine::publish::servable::{check_position, check_servable, is_same_model};
use crate::engine::publish::serving::Serving;
use crate::engine::publish::start::Start;
use crate::engine::publish::tidy::Tidy;
use crate::engine::query::snapshot::{Snapshot, check_and_warm};
use crate::engine::rebuild::build::Built;
use crate::engine::rebuild::error::PublishError;
use crate::engine::rebuild::rebuilder::Rebuilder;
use crate::engine::rebuild::sampled::QuerySample;
use crate::engine::supervise::{Background, Task};
use crate::engine::write::log::{FoundLog, WriteLog};
use crate::engine::write::shared::Shared;
use crate::index::{Index, IndexStore, Manifest, MemoryMode, PublishReason, RefusalReason, StoreError};

/// How long to wait for searches in flight before a generation is dropped.
const LONGEST_SEARCH: Duration = Duration::from_secs(1);

/// A folder of generations, and the one that answers.
#[derive(Debug)]
pub(crate) struct ServedIndex {
    pub(super) name: String,
    pub(super) store: IndexStore,
    pub(super) folder: OpenFolder,
    memory: MemoryMode,
    background: Background,
    pub(super) shared: Arc<Shared>,
    pub(super) log: WriteLog,
    pub(super) sample: QuerySample,
    pub(super) gate: QualityGate,
    pub(super) rebuilder: Rebuilder,
    pub(super) serving: Serving,
    /// Locked while a swap is prepared, so that two swaps cannot overtake each other.
    progress: Mutex<Progress>,
    /// Events of a rebuild, for the next refresh to report.
    events: Mutex<Vec<Refresh>>,
}

/// How far the folder was processed.
#[derive(Debug)]
struct Progress {
    /// The newest manifest that was tried.
    newest: u64,
    /// The newest manifest, if its generation was refused only because it has no calibration.
    uncalibrated: Option<Uncalibrated>,
    /// Whether the checksums of the current generation were compared.
    checked: bool,
    /// Whether a copy of the current generation was made or tried.
    copied: bool,
}

/// A publication that was refused only because it has no calibration.
#[derive(Debug)]
struct Uncalibrated {
    manifest: u64,
    generation: u64,
    /// The numbers of its calibrations, all unusable.
    calibrations: Vec<u64>,
}

/// The generations before and after a swap.
struct Swapped {
    from: u64,
    to: u64,
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
        let found = FoundLog::open(&store, options.is_writable)?;
        let log = found.log().cloned();
        let Start { manifest, index, judged, problem } = Start::open(&store, log.as_deref(), &options.gate)?;
        let snapshot = Snapshot::new(manifest, index, &store)?;
        let current = snapshot.manifest.manifest;
        let shared = Arc::new(Shared::new(snapshot, log.as_deref())?);
        let log = WriteLog::new(&store, &shared, &background.supervisor, found);
        let rebuilder = Rebuilder::new(options.rebuild.clone(), Arc::clone(&background.supervisor));
        Ok(Self {
            name,
            folder: folder.map_err(StoreError::io(store.dir()))?,
            store,
            memory: options.memory,
            background: background.clone(),
            shared,
            log,
            sample: QuerySample::new(options.sample, current),
            gate,
            rebuilder,
            serving: Serving::new(problem),
            progress: Mutex::new(Progress {
                newest: judged,
                uncalibrated: None,
                checked: false,
                copied: false,
            }),
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

    /// Returns the snapshot that answers now. A request loads it once and uses it to its end.
    ///
    /// # Errors
    /// [`EngineError::OutOfService`].
    pub(crate) fn snapshot(&self) -> Result<Arc<Snapshot>, EngineError> {
        if self.serving.is_withdrawn() {
            let problem = self.serving.problem().unwrap_or_default();
            return Err(EngineError::OutOfService { index: self.name.clone(), problem });
        }
        Ok(self.shared.unexpired())
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
    /// [`StoreError::NotServable`], or if a calibration cannot be read.
    pub(crate) fn check_continues(&self, before: &Self) -> Result<(), EngineError> {
        // An index that is out of service has nothing to lose.
        let Ok(before) = before.snapshot() else { return Ok(()) };
        let Snapshot { manifest, index, .. } = &**self.shared.current.load();
        if manifest.reason == PublishReason::Activate {
            return Ok(());
        }
        Ok(self.gate.compare(&self.store, manifest.generation, index, &before)?)
    }

    /// Ends writing, so that the files in the folder can be opened by another value of this type, which may be in
    /// another process. Searches go on.
    pub(crate) fn release(&self, reason: &str) {
        self.rebuilder.cancel();
        self.log.close(reason);
    }

    /// Takes the index out of service, and returns whether it was already.
    pub(crate) fn withdraw(&self, error: &EngineError) -> bool {
        self.serving.withdraw(error.to_string())
    }

    /// Sets why the files that are there instead of the opened ones cannot be opened.
    pub(crate) fn set_unopened(&self, problem: Option<String>) {
        self.serving.set_unopened(problem);
    }

    /// Returns the generation that answers.
    pub(crate) fn generation(&self) -> u64 {
        self.shared.current.load().manifest.generation
    }

    /// Publishes that `generation` is current, and swaps it in. `is_forced` accepts a generation that the gate refused
    /// or that lost writes.
    ///
    /// # Errors
    /// If the generation does not exist, is damaged, or may not answer; then nothing changes.
    pub(crate) fn activate(&self, generation: u64, is_forced: bool) -> Result<(), EngineError> {
        let mut progress = self.progress.lock();
        self.check_attached()?;
        let index = self.store.open_generation(generation)?;
        self.background.pool.install(|| check_and_warm(&index))?;
        check_position(&index, self.log.log().as_deref(), is_forced)?;
        if !is_forced {
            self.gate.check_activation(&self.store, generation, &index, &self.shared.current.load())?;
        }
        let manifest = self.store.activate(generation, &index)?;
        let snapshot = Snapshot::new(manifest, index, &self.store)?;
        progress.newest = snapshot.manifest.manifest;
        self.swap(&mut progress, snapshot)?;
        self.serving.set_problem(None);
        Ok(())
    }

    /// Checks the generation that the start opened, serves the newest manifest that was not tried yet, loads the newest
    /// calibration, and copies the generation into memory if configured. Appends what changed to `events`. Returns false
    /// if it did nothing because a swap is being prepared.
    pub(crate) fn refresh(&self, events: &mut Vec<Refresh>) -> bool {
        events.append(&mut self.events.lock());
        // The lock is taken while a generation is measured or swapped in; the refresh of other indexes must not wait.
        let Some(mut progress) = self.progress.try_lock() else { return false };
        events.extend(self.check_start(&mut progress));
        events.extend(self.load_published(&mut progress));
        events.extend(self.recalibrate());
        events.extend(self.copy(&mut progress));
        self.log.retry();
        self.shared.compact(&self.background.pool);
        true
    }

    /// Publishes a rebuild of `base` and swaps it in, if `base` is still current.
    ///
    /// # Errors
    /// Why the rebuild does not answer.
    pub(crate) fn publish(&self, base: Arc<Index>, built: Built) -> Result<(), PublishError> {
        let Built { staged, times, measured } = built;
        let mut progress = self.progress.lock();
        self.check_in_place().map_err(|detached| PublishError::Detached(detached.to_string()))?;
        // A publication by somebody else in the meantime wins.
        let mut events = self.load_published(&mut progress);
        let is_current = Arc::ptr_eq(&self.shared.current.load().index, &base);
        // The swap waits until nothing uses the old generation.
        drop(base);
        let publish = || {
            if !is_current {
                return Err(PublishError::Superseded);
            }
            let Manifest { manifest, generation, .. } = self.store.publish(staged, times, measured)?;
            let loaded = self.load_published(&mut progress);
            let problem = loaded.iter().find_map(|event| match event {
                Refresh::Refused { manifest: refused, error, .. } if *refused == manifest => {
                    Some(error.to_string())
                }
                _ => None,
            });
            events.extend(loaded);
            match self.shared.current.load().manifest.generation {
                current if current == generation => Ok(()),
                current => {
                    let problem =
                        problem.unwrap_or_else(|| format!("generation {current} was published after it"));
                    Err(PublishError::Refused { generation, problem })
                }
            }
        };
        let published = publish();
        self.events.lock().extend(events);
        published
    }

    /// Swaps in a checked snapshot with all entries of the log. Returns the generation that answered before.
    fn swap(&self, progress: &mut Progress, checked: Snapshot) -> Result<u64, EngineError> {
        let is_same_model = is_same_model(&self.shared.current.load().index, &checked.index);
        checked.usage.inherit(&self.shared.current.load().usage);
        let manifest = checked.manifest.manifest;
        let log = self.log.log();
        let old = Arc::clone(&self.shared.current.load().index);
        let before = self.background.pool.install(|| self.shared.swap(checked, log.as_deref()))?;
        // The first write may have created the log in the meantime.
        if log.is_none()
            && let Some(log) = self.log.log()
        {
            self.shared.replay(&*log)?;
        }
        self.sample.begin_generation(manifest, is_same_model);
        // A running rebuild is based on the old generation.
        self.rebuilder.cancel();
        (progress.checked, progress.copied, progress.uncalibrated) = (true, false, None);
        self.serving.swapped();
        wait_for_searches(old);
        self.tidy(before.generation);
        Ok(before.generation)
    }

    fn check_start(&self, progress: &mut Progress) -> Option<Refresh> {
        if progress.checked {
            return None;
        }
        let checked = self.check_opened(progress);
        progress.checked = true;
        self.serving.set_warm();
        if self.log.written().is_some() {
            self.tidier().remove_abandoned();
        }
        Some(checked)
    }

    /// Compares the checksums of the generation that the start opened, and replaces it if it is damaged.
    fn check_opened(&self, progress: &mut Progress) -> Refresh {
        let started = Instant::now();
        let opened = self.shared.current.load_full();
        let (index, generation) = (self.name.clone(), opened.manifest.generation);
        let checked = self.background.supervisor.run_on(Task::Refresh, opened.index.path(), || {
            self.background.pool.install(|| check_and_warm(&opened.index)).map_err(EngineError::from)
        });
        let Err(error) = checked else {
            return Refresh::Checked { index, generation, elapsed: started.elapsed() };
        };
        let log = self.log.log();
        let sound = self.store.open_newest(|manifest, index| {
            check_and_warm(index)?;
            check_servable(&self.store, manifest, index, log.as_deref())
        });
        let sound = sound.and_then(|(manifest, index, _)| Snapshot::new(manifest, index, &self.store));
        let swapped = sound.map_err(EngineError::from).and_then(|sound| {
            let Manifest { manifest, generation, .. } = sound.manifest;
            self.swap(progress, sound)?;
            Ok((manifest, generation))
        });
        match swapped {
            Ok((manifest, to)) => {
                self.serving.add_problem(|| error.to_string());
                progress.newest = progress.newest.max(manifest);
                Refresh::Replaced { index, from: generation, to, error }
            }
            Err(_) => {
                self.serving.withdraw(error.to_string());
                Refresh::Withdrawn { index, generation, error }
            }
        }
    }

    /// Tries the manifests that were published since the last call, newest first, until one can answer.
    fn load_published(&self, progress: &mut Progress) -> Vec<Refresh> {
        let newest = progress.newest;
        let published = self.store.manifests().unwrap_or_default();
        let mut newer: Vec<u64> = published.into_iter().filter(|manifest| *manifest > newest).rev().collect();
        progress.newest = newer.first().copied().unwrap_or(newest);
        if newer.is_empty() {
            newer.extend(self.calibrated_later(progress));
        }
        let mut events = Vec::new();
        for manifest in newer {
            let index = self.name.clone();
            let path = self.store.manifest_path(manifest);
            let uncalibrated = self.uncalibrated(manifest);
            let take_over = || self.take_over(progress, manifest);
            let taken = self.background.supervisor.run_on(Task::Refresh, &path, take_over);
            if events.is_empty() {
                let is_uncalibrated = taken
                    .as_ref()
                    .is_err_and(|error| error.refusal_reasons() == [RefusalReason::Calibration]);
                progress.uncalibrated = uncalibrated.filter(|_| is_uncalibrated);
                self.serving.set_problem(taken.as_ref().err().map(ToString::to_string));
            }
            match taken {
                Ok(Swapped { from, to }) => {
                    events.push(Refresh::Swapped { index, from, to });
                    return events;
                }
                Err(error) => events.push(Refresh::Refused { index, manifest, error }),
            }
        }
        if !events.is_empty() {
            self.tidy(self.shared.current.load().manifest.generation);
        }
        events
    }

    /// What is known of a publication before it is tried.
    fn uncalibrated(&self, manifest: u64) -> Option<Uncalibrated> {
        let generation = self.store.read_manifest(manifest).ok()?.generation;
        let calibrations = self.store.calibrations(generation).ok()?;
        Some(Uncalibrated { manifest, generation, calibrations })
    }

    /// Returns the newest manifest if it was refused only because its generation had no calibration, and one was added.
    fn calibrated_later(&self, progress: &Progress) -> Option<u64> {
        let Uncalibrated { manifest, generation, calibrations } = progress.uncalibrated.as_ref()?;
        let found = self.store.calibrations(*generation).ok()?;
        (found != *calibrations).then_some(*manifest)
    }

    /// Checks, measures and swaps in the generation of a manifest.
    fn take_over(&self, progress: &mut Progress, manifest: u64) -> Result<Swapped, EngineError> {
        let (manifest, index) = self.store.open_manifest(manifest)?;
        self.background.pool.install(|| check_and_warm(&index))?;
        let log = self.log.log();
        check_position(&index, log.as_deref(), manifest.reason == PublishReason::Activate)?;
        {
            // Released before the swap, which waits until nothing uses the old generation.
            let current = self.shared.current.load_full();
            let reference = Reference { current: &current, sample: &self.sample };
            self.gate.check(&self.store, &manifest, &index, &reference, &self.background.pool)?;
        }
        // The log may have been trimmed meanwhile.
        check_position(&index, log.as_deref(), manifest.reason == PublishReason::Activate)?;
        let snapshot = Snapshot::new(manifest, index, &self.store)?;
        let to = snapshot.manifest.generation;
        Ok(Swapped { from: self.swap(progress, snapshot)?, to })
    }

    fn copy(&self, progress: &mut Progress) -> Option<Refresh> {
        let snapshot = self.snapshot().ok()?;
        if self.memory == MemoryMode::Mapped || std::mem::replace(&mut progress.copied, true) {
            return None;
        }
        let (index, generation) = (self.name.clone(), snapshot.manifest.generation);
        Some(match snapshot.index.make_resident() {
            Ok(residence) => Refresh::Resident { index, generation, residence },
            Err(error) => Refresh::StaysMapped { index, generation, error },
        })
    }

    /// Loads a newer calibration of the current generation if there is one.
    fn recalibrate(&self) -> Option<Refresh> {
        self.snapshot().ok()?;
        let snapshot = self.shared.recalibrate(&self.store)?;
        let generation = snapshot.manifest.generation;
        let queries = snapshot.calibrated.curves().map(|curves| curves.queries);
        Some(Refresh::Calibrated { index: self.name.clone(), generation, queries: queries? })
    }

    fn tidier(&self) -> Tidy<'_> {
        let (store, shared, options) = (&self.store, &self.shared, self.rebuilder.options());
        Tidy { name: &self.name, store, shared, options }
    }

    /// Removes old generations and log entries, if this process writes the index.
    fn tidy(&self, previous: u64) {
        if let Some(log) = self.log.written()
            && self.check_in_place().is_ok()
        {
            self.tidier().run(&*log, previous);
        }
    }
}

/// Waits for searches to release a generation, or an index with its generation, and drops it. Unmapping takes
/// milliseconds, and the last owner does it: that must not be a search.
pub(crate) fn wait_for_searches<T>(old: Arc<T>) {
    let began = Instant::now();
    while Arc::strong_count(&old) > 1 && began.elapsed() < LONGEST_SEARCH {
        std::thread::sleep(Duration::from_millis(1));
    }
}
