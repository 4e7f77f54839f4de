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

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::base::file_identity::OpenFolder;
use crate::engine::error::EngineError;
use crate::engine::options::EngineOptions;
use crate::engine::publish::continuity::Next;
use crate::engine::publish::quality_gate::QualityGate;
use crate::engine::publish::refresh::Refresh;
use crate::engine::publish::scrub::Scrub;
use crate::engine::publish::servable::{check_position, check_servable, is_same_model};
use crate::engine::publish::serving::Serving;
use crate::engine::publish::start::Start;
use crate::engine::publish::tidy::Tidy;
use crate::engine::query::snapshot::{Snapshot, check_and_warm};
use crate::engine::rebuild::rebuilder::Rebuilder;
use crate::engine::rebuild::sampled::QuerySample;
use crate::engine::supervise::{Background, Task};
use crate::engine::write::log::{FoundLog, WriteLog};
use crate::engine::write::shared::Shared;
use crate::index::{IndexStore, Manifest, MemoryMode, PublishReason, StoreError};

/// How long to wait for searches in flight before a generation is dropped.
const LONGEST_SEARCH: Duration = Duration::from_secs(1);

/// How many of the newest manifests are kept as the record of what was current. Older activations are removed.
const KEPT_MANIFESTS: usize = 100;

/// The most activations that are running or waiting.
const MOST_ACTIVATIONS: usize = 8;

/// A folder of generations, and the one that answers.
#[derive(Debug)]
pub(crate) struct ServedIndex {
    pub(super) name: String,
    pub(super) store: IndexStore,
    pub(super) folder: Arc<OpenFolder>,
    memory: MemoryMode,
    pub(super) background: Background,
    pub(super) shared: Arc<Shared>,
    pub(super) log: WriteLog,
    pub(super) sample: QuerySample,
    pub(super) gate: QualityGate,
    pub(super) rebuilder: Rebuilder,
    pub(super) serving: Serving,
    pub(super) scrub: Scrub,
    /// Each activation that is running or waiting has a copy.
    activations: Arc<()>,
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
    checked: bool,
    /// Whether a copy of the current generation was made or tried.
    copied: bool,
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
        let found = FoundLog::open(&store, options.is_writable)?;
        let log = found.log().cloned();
        let Start { manifest, index, judged, problem } = Start::open(&store, log.as_deref(), &options.gate)?;
        let snapshot = Snapshot::new(manifest, index, &store)?;
        let current = snapshot.manifest.manifest;
        let shared = Arc::new(Shared::new(snapshot, &|| Ok(log.clone()))?);
        let folder = Arc::new(folder.map_err(StoreError::io(store.dir()))?);
        // Otherwise the log and the generation may be those of two folders.
        folder.check().map_err(|displaced| StoreError::io(store.dir())(io::Error::other(displaced)))?;
        let log = WriteLog::new(&store, &folder, &shared, &background.supervisor, found);
        let rebuilder = Rebuilder::new(options.rebuild.clone(), Arc::clone(&background.supervisor));
        Ok(Self {
            name,
            folder,
            store,
            memory: options.memory,
            background: background.clone(),
            shared,
            log,
            sample: QuerySample::new(options.sample, current),
            gate,
            rebuilder,
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

    /// Publishes that `generation` is current, and swaps it in. `is_forced` accepts a generation that the gate refused
    /// or that lost writes.
    ///
    /// # Errors
    /// If the generation does not exist, is damaged, or may not answer, or if many activations wait; then nothing changes.
    pub(crate) fn activate(&self, generation: u64, is_forced: bool) -> Result<(), EngineError> {
        // Each that waits has a thread.
        let permit = Arc::clone(&self.activations);
        // Without this one, and the one that they are copies of.
        let waiting = Arc::strong_count(&permit) - 2;
        if waiting >= MOST_ACTIVATIONS {
            return Err(EngineError::Busy { index: self.name.clone(), waiting });
        }
        let mut progress = self.progress.lock();
        self.check_attached()?;
        let index = self.store.open_generation(generation)?;
        self.background.pool.install(|| check_and_warm(&index))?;
        check_position(&index, self.attached_log()?.as_deref(), is_forced)?;
        if !is_forced {
            self.gate.check_activation(&self.store, generation, &index, &self.shared.current.load())?;
        }
        // Warming can take minutes. The manifest must not be written into a folder that took the path meanwhile.
        self.check_attached()?;
        let manifest = self.store.activate(generation, &index)?;
        // Another process may remove them, too.
        if let Err(error) = self.store.remove_activations_before(KEPT_MANIFESTS, &self.folder) {
            tracing::warn!(index = self.name, %error, "cannot remove old manifests");
        }
        let snapshot = Snapshot::new(manifest, index, &self.store)?;
        let newest = snapshot.manifest.manifest;
        self.swap(&mut progress, snapshot)?;
        progress.newest = newest;
        progress.deferred.clear();
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
        if self.check_in_place().is_ok() {
            self.log.retry();
        }
        self.shared.compact(&self.background.pool);
        true
    }

    /// Swaps in a checked snapshot with all entries of the log. Returns the generation that answered before.
    ///
    /// # Errors
    /// If the files are not those that were opened, the log was closed, or its entries cannot be searched; then nothing
    /// changes.
    pub(super) fn swap(&self, progress: &mut Progress, checked: Snapshot) -> Result<u64, EngineError> {
        let is_same_model = is_same_model(&self.shared.current.load().index, &checked.index);
        checked.usage.inherit(&self.shared.current.load().usage);
        let manifest = checked.manifest.manifest;
        let index = Arc::clone(&checked.index);
        let log = || {
            let log = self.attached_log()?;
            // The first write may have created it since the position was checked.
            check_position(&index, log.as_deref(), true)?;
            Ok(log)
        };
        let old = Arc::clone(&self.shared.current.load().index);
        // A running rebuild is based on the old generation. One that is started once the new one can be seen is not.
        self.rebuilder.cancel();
        let before = self.background.pool.install(|| self.shared.swap(checked, &log))?;
        self.sample.begin_generation(manifest, is_same_model);
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
        let swapped = self.attached_log().and_then(|log| {
            let (manifest, index, _) = self.store.open_newest(|manifest, index| {
                check_and_warm(index)?;
                check_servable(&self.store, manifest, index, log.as_deref())
            })?;
            drop(log);
            let sound = Snapshot::new(manifest, index, &self.store)?;
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

    /// Compares the checksums that are due in the background. If one differs, the whole generation is checked as at the start:
    /// the newest sound one takes over, or the index is out of service. Does nothing while a swap is prepared.
    pub(crate) fn scrub(&self, events: &mut Vec<Refresh>) {
        let Some(mut progress) = self.progress.try_lock() else { return };
        let Ok(snapshot) = self.snapshot() else { return };
        if !progress.checked {
            return;
        }
        if let Err(error) = self.background.pool.install(|| self.scrub.run(&snapshot.index)) {
            tracing::error!(index = self.name, %error, "a checksum of what serves differs");
            drop(snapshot);
            events.push(self.check_opened(&mut progress));
        }
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
        Tidy { name: &self.name, store, folder: &self.folder, shared, options }
    }

    /// Removes old generations and log entries, if this process writes the index. A panic is reported, and does not end a
    /// swap that is finished.
    pub(super) fn tidy(&self, previous: u64) {
        let _ = self.background.supervisor.run(Task::Refresh, || {
            if let Some(log) = self.log.written()
                && self.check_in_place().is_ok()
            {
                self.tidier().run(&*log, previous);
            }
        });
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use tempfile::TempDir;

    use super::*;
    use crate::base::id::VideoId;
    use crate::live::{LogError, Mutation, RedbLog};
    use crate::{Dataset, Metric};

    /// Two folders, and a link to the first.
    fn folders() -> (TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        for name in ["one", "two"] {
            let dataset = Dataset::from_rows(2, vec![1.0, 0.0, 0.0, 1.0, 0.7, 0.7]).unwrap();
            let builder = crate::Index::builder(Metric::InnerProduct);
            builder.publish(&dataset, root.path().join(name)).unwrap();
        }
        let link = root.path().join("link");
        symlink(root.path().join("one"), &link).unwrap();
        (root, link)
    }

    fn lead(link: &Path, target: &str) {
        fs::remove_file(link).unwrap();
        symlink(link.with_file_name(target), link).unwrap();
    }

    fn open(dir: &Path) -> ServedIndex {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let background = Background { pool: Arc::new(pool), supervisor: Arc::default() };
        let options = EngineOptions { is_writable: true, ..EngineOptions::default() };
        ServedIndex::open("videos".to_owned(), dir.to_owned(), &options, &background).unwrap()
    }

    fn swap(served: &ServedIndex) -> Result<u64, EngineError> {
        let (manifest, index) = served.store.open_manifest(1)?;
        let snapshot = Snapshot::new(manifest, index, &served.store)?;
        served.swap(&mut served.progress.lock(), snapshot)
    }

    fn takedown() -> Vec<Mutation> {
        vec![Mutation::Takedown(VideoId(1))]
    }

    /// As if the files were released while a swap is prepared.
    #[test]
    fn nothing_is_swapped_in_after_the_log_was_closed() {
        let (_root, link) = folders();
        let served = open(&link);
        served.log.write(takedown()).unwrap();
        swap(&served).unwrap();
        assert!(served.shared.is_taken_down(VideoId(1)));
        served.release("on purpose");
        assert!(!served.withdraw(&EngineError::Cancelled) && served.withdraw(&EngineError::Cancelled));
        for swapped in [swap(&served).map(drop), served.activate(1, true)] {
            assert!(
                matches!(&swapped, Err(EngineError::ReadOnly { problem, .. }) if problem == "on purpose")
            );
        }
        assert_eq!(served.store.manifests().unwrap(), [1]);
        assert!(served.shared.is_taken_down(VideoId(1)));
        // A swap that was finished before.
        served.serving.swapped();
        assert!(matches!(served.snapshot(), Err(EngineError::OutOfService { .. })));
    }

    /// As if the link were led elsewhere after the last look at it.
    #[test]
    fn a_folder_that_takes_the_path_gets_no_log_and_is_not_swapped_in() {
        let (root, link) = folders();
        let served = open(&link);
        lead(&link, "two");
        assert!(matches!(swap(&served), Err(EngineError::ReadOnly { .. })));
        assert!(matches!(served.log.write(takedown()), Err(LogError::Displaced(_))));
        served.log.retry();
        for name in ["one", "two"] {
            assert_eq!(fs::read_dir(root.path().join(name)).unwrap().count(), 2, "{name}");
        }
        lead(&link, "one");
        served.log.write(takedown()).unwrap();
        swap(&served).unwrap();
        assert!(served.shared.is_taken_down(VideoId(1)));
    }

    #[test]
    fn a_log_is_closed_once_nothing_reads_it() {
        let (_root, link) = folders();
        let served = open(&link);
        served.log.write(takedown()).unwrap();
        let read = served.log.log().unwrap();
        std::thread::scope(|scope| {
            let reopened = scope.spawn(|| {
                served.release("on purpose");
                RedbLog::open(link.join("mutations.redb")).map(drop)
            });
            while served.log.log().is_ok() {
                std::thread::yield_now();
            }
            drop(read);
            reopened.join().unwrap().unwrap();
        });
    }
}
