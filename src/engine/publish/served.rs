//! One named index: the snapshot that answers, and how another takes its place.
//!
//! ```text
//!  start ─► structure ─► serves ─► checksums ─┬─► serves
//!                                             └─► damaged: the newest sound one serves, or none: out of service
//!  publication or activation ─► structure, checksums ─┬─► swapped in
//!                                                     └─► refused: the one before goes on serving
//! ```
//!
//! Whatever serves does so from the mapped file, and from a copy once that is made, where one is wanted.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;

use crate::engine::error::EngineError;
use crate::engine::options::{EngineOptions, GateOptions, RebuildOptions};
use crate::engine::publish::refresh::Refresh;
use crate::engine::publish::servable::{
    check_passed, check_position, check_servable, check_verdict, has_passed, is_same_model,
};
use crate::engine::query::snapshot::{Snapshot, check_and_warm, check_structure};
use crate::engine::rebuild::rebuilds::{Built, PublishError, Rebuilds};
use crate::engine::rebuild::sampled::Asked;
use crate::engine::status::{IndexStatus, LiveStatus, Readiness};
use crate::engine::write::log::{Writing, existing_log};
use crate::engine::write::shared::Shared;
use crate::index::{GateReport, Index, IndexStore, Manifest, MemoryMode, PublishReason};
use crate::live::LogError;

/// What a search in flight is waited for when its generation is left.
const LONGEST_SEARCH: Duration = Duration::from_secs(1);

/// A folder of generations, and the one that answers.
#[derive(Debug)]
pub(crate) struct ServedIndex {
    pub(crate) name: String,
    pub(crate) store: IndexStore,
    memory: MemoryMode,
    pub(crate) rebuild_options: RebuildOptions,
    /// For what goes on beside searches.
    pub(crate) pool: Arc<rayon::ThreadPool>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) writing: Writing,
    rebuilds: Rebuilds,
    pub(crate) gate_options: GateOptions,
    /// What the quality gate found last.
    pub(crate) gate_report: Mutex<Option<GateReport>>,
    pub(crate) asked: Asked,
    /// What a rebuild led to, until somebody asks.
    news: Mutex<Vec<Refresh>>,
    /// Held while a swap is prepared, so that two do not overtake each other.
    progress: Mutex<Progress>,
    /// What was wrong with the newest manifest that was looked at, or with what was withdrawn.
    refused: Mutex<Option<String>>,
    /// Whether what is current is damaged and must not answer any more.
    withdrawn: AtomicBool,
    /// Whether what the start opened was brought into memory, or something else answers by now.
    is_warm: AtomicBool,
}

/// What was done so far.
#[derive(Debug)]
struct Progress {
    /// The newest manifest that was looked at.
    newest: u64,
    /// Whether the checksums of what is current were compared.
    checked: bool,
    /// Whether a copy of what is current was made, or tried.
    copied: bool,
}

impl ServedIndex {
    /// Opens the newest generation whose structure is sound; `refused` tells what was passed over.
    pub(crate) fn open(
        name: String,
        dir: PathBuf,
        options: &EngineOptions,
        pool: &Arc<rayon::ThreadPool>,
    ) -> Result<Self, EngineError> {
        let store = IndexStore::new(dir);
        let log = if options.is_writable { existing_log(&store)? } else { None };
        let mut newest = store.manifests()?.last().copied().unwrap_or_default();
        let check = |manifest: &Manifest, index: &Index| {
            check_structure(index)?;
            check_servable(&store, manifest, index, log.as_deref())
        };
        let (mut manifest, mut index, passed_over) = store.open_newest(check)?;
        let refused = passed_over.first().map(ToString::to_string);
        // What was published while nobody looked is measured at the first look, beside one that was measured or chosen.
        if options.gate.queries > 0
            && !has_passed(&store, &manifest, &index)
            && let Ok((measured, index_measured, _)) = store.open_newest(|manifest, index| {
                check(manifest, index)?;
                check_passed(&store, manifest, index)
            })
        {
            newest = measured.manifest;
            (manifest, index) = (measured, index_measured);
        }
        let snapshot = Snapshot::new(manifest, index, &store)?;
        let answering = snapshot.manifest.manifest;
        let shared = Arc::new(Shared::new(snapshot, log.as_deref())?);
        let writing = Writing::new(&store, &shared, options.is_writable, log);
        Ok(Self {
            name,
            store,
            memory: options.memory,
            rebuild_options: options.rebuild.clone(),
            pool: Arc::clone(pool),
            shared,
            writing,
            rebuilds: Rebuilds::default(),
            gate_options: options.gate.clone(),
            gate_report: Mutex::default(),
            asked: Asked::new(options.sample, answering),
            news: Mutex::default(),
            progress: Mutex::new(Progress { newest, checked: false, copied: false }),
            refused: Mutex::new(refused),
            withdrawn: AtomicBool::new(false),
            is_warm: AtomicBool::new(false),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The snapshot that answers now. A request takes it once and keeps it to its end.
    ///
    /// # Errors
    /// [`EngineError::OutOfService`] if there is nothing left that may answer.
    pub(crate) fn snapshot(&self) -> Result<Arc<Snapshot>, EngineError> {
        if self.withdrawn.load(Ordering::Acquire) {
            let problem = self.refused.lock().clone().unwrap_or_default();
            return Err(EngineError::OutOfService { index: self.name.clone(), problem });
        }
        let snapshot = self.shared.current.load_full();
        let now = || Timestamp::now().as_microsecond();
        if snapshot.next_expiry == i64::MAX || snapshot.next_expiry > now() {
            return Ok(snapshot);
        }
        self.shared.expire();
        Ok(self.shared.current.load_full())
    }

    /// Whether it should be asked.
    pub(crate) fn readiness(&self) -> Readiness {
        if let Err(error) = self.snapshot() {
            return Readiness::NotYet(error.to_string());
        }
        if !self.is_warm.load(Ordering::Acquire) {
            let generation = self.shared.current.load().manifest.generation;
            return Readiness::NotYet(format!("generation {generation} is being warmed and checked"));
        }
        match self.writing.read_only() {
            Some(problem) => Readiness::ReadOnly(problem),
            None => Readiness::Ready,
        }
    }

    /// Where writes go.
    pub(crate) fn writing(&self) -> &Writing {
        &self.writing
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn store(&self) -> &IndexStore {
        &self.store
    }

    pub(crate) fn rebuild_options(&self) -> &RebuildOptions {
        &self.rebuild_options
    }

    /// A sample of what was asked.
    pub(crate) fn asked(&self) -> &Asked {
        &self.asked
    }

    pub(crate) fn rebuilds(&self) -> &Rebuilds {
        &self.rebuilds
    }

    /// `is_forced` lets a generation answer that is sound but worse, or that lost writes.
    pub(crate) fn activate(&self, generation: u64, is_forced: bool) -> Result<(), EngineError> {
        let mut progress = self.progress.lock();
        let index = self.store.open_generation(generation)?;
        self.pool.install(|| check_and_warm(&index))?;
        check_position(&index, self.writing.log().as_deref(), is_forced)?;
        if !is_forced {
            check_verdict(&self.store, generation, &index)?;
        }
        let manifest = self.store.activate(generation, &index)?;
        let snapshot = Snapshot::new(manifest, index, &self.store)?;
        progress.newest = snapshot.manifest.manifest;
        self.swap(&mut progress, snapshot)?;
        *self.refused.lock() = None;
        Ok(())
    }

    /// Checks what the start did not, serves the newest manifest if it is newer than the last one looked
    /// at, takes the newest calibration of what serves, and makes it resident.
    pub(crate) fn refresh(self: &Arc<Self>) -> Vec<Refresh> {
        let mut news = std::mem::take(&mut *self.news.lock());
        // Whoever has it measures a generation, or swaps one in; other indexes do not wait for that.
        let Some(mut progress) = self.progress.try_lock() else { return news };
        news.extend(self.check_start(&mut progress));
        news.extend(self.look(&mut progress));
        let steps = [Self::check_log, Self::recalibrate, Self::copy];
        news.extend(steps.iter().filter_map(|step| step(self, &mut progress)));
        self.shared.merge_parts(&self.pool);
        drop(progress);
        self.rebuilds.start_if_due(self, &self.rebuild_options);
        news
    }

    /// Publishes what was built of `base` and what was written to it, and lets it answer, if `base` still does.
    ///
    /// # Errors
    /// Why it does not answer.
    pub(crate) fn publish(&self, base: Arc<Index>, built: Built) -> Result<(), PublishError> {
        let Built { staged, times, measured } = built;
        let mut progress = self.progress.lock();
        // What was published meanwhile is of somebody who knew better.
        let mut news = self.look(&mut progress);
        let is_current = Arc::ptr_eq(&self.shared.current.load().index, &base);
        // Whoever swaps waits until nobody needs it.
        drop(base);
        let publish = || {
            if !is_current {
                return Err(PublishError::Superseded);
            }
            let Manifest { manifest, generation, .. } = self.store.publish(staged, times, measured)?;
            let looked = self.look(&mut progress);
            let problem = looked.iter().find_map(|news| match news {
                Refresh::Refused { manifest: refused, error, .. } if *refused == manifest => {
                    Some(error.to_string())
                }
                _ => None,
            });
            news.extend(looked);
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
        self.news.lock().extend(news);
        published
    }

    /// # Errors
    /// Why no generation can be built of what answers.
    pub(crate) fn check_rebuildable(&self) -> Result<(), EngineError> {
        self.snapshot()?;
        let foreign = || self.writing.is_foreign().then(|| "another server takes its writes".to_owned());
        match self.writing.read_only().or_else(foreign) {
            Some(problem) => Err(EngineError::ReadOnly { index: self.name.clone(), problem }),
            None => Ok(()),
        }
    }

    /// Lets a sound snapshot answer from now on, with all that was written; gives the manifest of the one before.
    fn swap(&self, progress: &mut Progress, sound: Snapshot) -> Result<Manifest, EngineError> {
        let is_same_model = is_same_model(&self.shared.current.load().index, &sound.index);
        let manifest = sound.manifest.manifest;
        let log = self.writing.log();
        let left = Arc::clone(&self.shared.current.load().index);
        let before = self.pool.install(|| self.shared.swap(sound, log.as_deref()))?;
        // The first write may have made it meanwhile.
        if log.is_none()
            && let Some(log) = self.writing.log()
        {
            self.shared.replay(&*log)?;
        }
        self.asked.begin_generation(manifest, is_same_model);
        // One that is being built is of the generation before.
        self.rebuilds.cancel();
        (progress.checked, progress.copied) = (true, false);
        self.withdrawn.store(self.writing.is_foreign(), Ordering::Release);
        self.is_warm.store(true, Ordering::Release);
        leave(left);
        self.tidy(before.generation);
        Ok(before)
    }

    fn check_start(&self, progress: &mut Progress) -> Option<Refresh> {
        if std::mem::replace(&mut progress.checked, true) {
            return None;
        }
        let checked = self.check_opened(progress);
        self.is_warm.store(true, Ordering::Release);
        if self.writing.log().is_some() {
            self.remove_abandoned();
        }
        Some(checked)
    }

    fn check_opened(&self, progress: &mut Progress) -> Refresh {
        let started = Instant::now();
        let opened = self.shared.current.load_full();
        let (index, generation) = (self.name.clone(), opened.manifest.generation);
        let Err(error) = self.pool.install(|| check_and_warm(&opened.index)) else {
            return Refresh::Checked { index, generation, elapsed: started.elapsed() };
        };
        let error = EngineError::from(error);
        let log = self.writing.log();
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
                self.refused.lock().get_or_insert_with(|| error.to_string());
                progress.newest = progress.newest.max(manifest);
                Refresh::Replaced { index, from: generation, to, error }
            }
            Err(_) => {
                *self.refused.lock() = Some(error.to_string());
                self.withdrawn.store(true, Ordering::Release);
                Refresh::Withdrawn { index, generation, error }
            }
        }
    }

    /// Another server of the folder that was the first to write has the log: what it takes down, this one would go on
    /// answering with.
    fn check_log(&self, _: &mut Progress) -> Option<Refresh> {
        if !self.writing.is_foreign() {
            return None;
        }
        let error = EngineError::from(LogError::InUse { path: self.writing.path().to_owned() });
        // A publication may have been looked at since, which is no reason to answer.
        *self.refused.lock() = Some(error.to_string());
        if self.withdrawn.swap(true, Ordering::AcqRel) {
            return None;
        }
        let generation = self.shared.current.load().manifest.generation;
        Some(Refresh::Withdrawn { index: self.name.clone(), generation, error })
    }

    /// Goes through what was published since the last look, from the newest down, until something can answer.
    fn look(&self, progress: &mut Progress) -> Vec<Refresh> {
        let newest = progress.newest;
        let published = self.store.manifests().unwrap_or_default();
        let newer: Vec<u64> = published.into_iter().filter(|manifest| *manifest > newest).rev().collect();
        progress.newest = newer.first().copied().unwrap_or(newest);
        let mut news = Vec::new();
        for manifest in newer {
            let index = self.name.clone();
            match self.take_over(progress, manifest) {
                Ok((from, to)) => {
                    if news.is_empty() {
                        *self.refused.lock() = None;
                    }
                    news.push(Refresh::Swapped { index, from, to });
                    return news;
                }
                Err(error) => {
                    if news.is_empty() {
                        *self.refused.lock() = Some(error.to_string());
                    }
                    news.push(Refresh::Refused { index, manifest, error });
                }
            }
        }
        if !news.is_empty() {
            self.tidy(self.shared.current.load().manifest.generation);
        }
        news
    }

    /// Lets the generation of a manifest answer; gives the one before, and it.
    fn take_over(&self, progress: &mut Progress, manifest: u64) -> Result<(u64, u64), EngineError> {
        let (manifest, index) = self.store.open_manifest(manifest)?;
        self.pool.install(|| check_and_warm(&index))?;
        let log = self.writing.log();
        check_position(&index, log.as_deref(), manifest.reason == PublishReason::Activate)?;
        self.ensure_measured(&manifest, &index)?;
        check_servable(&self.store, &manifest, &index, log.as_deref())?;
        let snapshot = Snapshot::new(manifest, index, &self.store)?;
        let to = snapshot.manifest.generation;
        Ok((self.swap(progress, snapshot)?.generation, to))
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

    /// Answers by a newer calibration if there is one.
    fn recalibrate(&self, _: &mut Progress) -> Option<Refresh> {
        self.snapshot().ok()?;
        let snapshot = self.shared.recalibrate(&self.store)?;
        let generation = snapshot.manifest.generation;
        let queries = snapshot.calibrated.curves().map(|curves| curves.queries);
        Some(Refresh::Calibrated { index: self.name.clone(), generation, queries: queries? })
    }

    fn live_status(&self) -> LiveStatus {
        let read_only_reason = self.writing.read_only();
        self.shared.with_live(|live| LiveStatus {
            sequence: live.sequence,
            generation_sequence: live.segments.base().index.metadata().log_sequence,
            rebuild: self.rebuilds.status(),
            delta_vectors: live.delta_vectors() as u64,
            deleted: live.hidden() as u64,
            held_entries: live.held.len() as u64,
            takedowns: live.takedowns.len() as u64,
            writable: read_only_reason.is_none(),
            read_only_reason,
        })
    }

    pub(crate) fn status(&self) -> Result<IndexStatus, EngineError> {
        let snapshot = self.shared.current.load_full();
        let facts = snapshot.index.metadata();
        let manifest = &snapshot.manifest;
        Ok(IndexStatus {
            name: self.name.clone(),
            dir: self.store.dir().to_owned(),
            generation: manifest.generation,
            manifest: manifest.manifest,
            published_at: manifest.created_at,
            available_generations: self.store.generations()?,
            vectors: u64::from(facts.rows),
            dim: facts.dim,
            dtype: facts.dtype,
            metric: facts.metric,
            builder: facts.build.builder.clone(),
            m: facts.m,
            ef_construction: facts.build.ef_construction,
            bytes: snapshot.index.bytes(),
            build_time: Duration::from_millis(manifest.build_ms),
            embedding_model: facts.embedding_model.clone(),
            attributes: facts.attributes.clone(),
            calibration: snapshot
                .calibrated
                .curves()
                .map(|curves| curves.reaches().collect())
                .unwrap_or_default(),
            refused: self.refused.lock().clone(),
            memory: snapshot.index.memory(),
            serving: !self.withdrawn.load(Ordering::Acquire),
            live: self.live_status(),
            gate: self.gate_report.lock().clone(),
            recall: self.asked.recall(),
        })
    }
}

/// Lets go of a generation once no search needs it any more. Giving back what was mapped takes milliseconds,
/// and whoever has it last does that: not a search.
fn leave(index: Arc<Index>) {
    let began = Instant::now();
    while Arc::strong_count(&index) > 1 && began.elapsed() < LONGEST_SEARCH {
        std::thread::sleep(Duration::from_millis(1));
    }
}
