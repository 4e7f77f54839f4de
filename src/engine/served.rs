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

use super::asked::Asked;
use super::error::EngineError;
use super::gate::{self, GateOptions, GateQueries};
use super::rebuild::{RebuildOptions, Rebuilds};
use super::refresh::Refresh;
use super::request::{EngineOptions, IndexStatus, LiveStatus};
use super::shared::Shared;
use super::snapshot::{Snapshot, check_and_warm, check_structure};
use super::writing::{Position, Writing, existing_log};
use crate::dataset::{Embeddings, EmbeddingsView, Rows};
use crate::index::{GateReport, Index, IndexStore, Manifest, MemoryMode, PublishReason, StoreError};
use crate::live::MutationLog;

/// A folder of generations, and the one that answers.
#[derive(Debug)]
pub(super) struct ServedIndex {
    name: String,
    store: IndexStore,
    memory: MemoryMode,
    rebuild_options: RebuildOptions,
    /// For what goes on beside searches.
    pool: Arc<rayon::ThreadPool>,
    shared: Arc<Shared>,
    writing: Writing,
    rebuilds: Rebuilds,
    gate_options: GateOptions,
    /// What the quality gate found last.
    gate_report: Mutex<Option<GateReport>>,
    asked: Asked,
    /// What a rebuild led to, until somebody asks.
    news: Mutex<Vec<Refresh>>,
    /// Held while a swap is prepared, so that two do not overtake each other.
    progress: Mutex<Progress>,
    /// What was wrong with the newest manifest that was looked at, or with what was withdrawn.
    refused: Mutex<Option<String>>,
    /// Whether what is current is damaged and must not answer any more.
    withdrawn: AtomicBool,
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
    pub(super) fn open(
        name: String,
        dir: PathBuf,
        options: &EngineOptions,
        pool: &Arc<rayon::ThreadPool>,
    ) -> Result<Self, EngineError> {
        let store = IndexStore::new(dir);
        let log = if options.is_writable { existing_log(&store)? } else { None };
        let newest = store.manifests()?.last().copied().unwrap_or_default();
        let (manifest, index, passed_over) = store.open_newest(|manifest, index| {
            check_structure(index)?;
            check_servable(&store, manifest, index, log.as_deref())
        })?;
        let refused = passed_over.first().map(ToString::to_string);
        let snapshot = Snapshot::new(manifest, index, &store)?;
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
            asked: Asked::new(options.sample),
            news: Mutex::default(),
            progress: Mutex::new(Progress { newest, checked: false, copied: false }),
            refused: Mutex::new(refused),
            withdrawn: AtomicBool::new(false),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The snapshot that answers now. A request takes it once and keeps it to its end.
    ///
    /// # Errors
    /// [`EngineError::OutOfService`] if there is nothing left that may answer.
    pub(super) fn snapshot(&self) -> Result<Arc<Snapshot>, EngineError> {
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

    /// Where writes go.
    pub(super) fn writing(&self) -> &Writing {
        &self.writing
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(super) fn store(&self) -> &IndexStore {
        &self.store
    }

    pub(super) fn rebuild_options(&self) -> &RebuildOptions {
        &self.rebuild_options
    }

    /// A sample of what was asked.
    pub(super) fn asked(&self) -> &Asked {
        &self.asked
    }

    pub(super) fn rebuilds(&self) -> &Rebuilds {
        &self.rebuilds
    }

    /// `is_forced` lets a generation answer that is sound but worse, or that lost writes.
    pub(super) fn activate(&self, generation: u64, is_forced: bool) -> Result<(), EngineError> {
        let mut progress = self.progress.lock();
        let index = self.store.open_generation(generation)?;
        check_and_warm(&index)?;
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
    pub(super) fn refresh(self: &Arc<Self>) -> Vec<Refresh> {
        let mut progress = self.progress.lock();
        self.pool.install(|| self.shared.merge_parts());
        let steps = [Self::check_start, Self::look, Self::recalibrate, Self::copy];
        let mut news = std::mem::take(&mut *self.news.lock());
        news.extend(steps.iter().filter_map(|step| step(self, &mut progress)));
        drop(progress);
        if self.writing.read_only().is_none() {
            self.rebuilds.start_if_due(self, &self.rebuild_options);
        }
        news
    }

    /// Lets a generation that was just published here answer.
    ///
    /// # Errors
    /// Why it does not.
    pub(super) fn look_for(&self, published: &Manifest) -> Result<(), String> {
        let mut progress = self.progress.lock();
        let news = self.look(&mut progress);
        self.news.lock().extend(news);
        drop(progress);
        // Somebody else may have looked before.
        match self.shared.current.load().manifest.generation {
            current if current >= published.generation => Ok(()),
            _ => Err(self.refused.lock().clone().unwrap_or_default()),
        }
    }

    /// Measures a generation before it answers, and keeps what was found beside it.
    ///
    /// # Errors
    /// If something speaks against it, or that cannot be kept.
    fn pass_gate(&self, manifest: &Manifest, index: &Index) -> Result<(), EngineError> {
        if self.gate_options.queries == 0 {
            return Ok(());
        }
        let current = self.shared.current.load_full();
        let is_same_model = is_same_model(&current.index, index);
        let beside = is_same_model.then(|| (current.manifest.generation, &*current.index));
        let queries = self.gate_queries(index, is_same_model)?;
        let found = self.pool.install(|| gate::measure(index, beside, &queries, &self.gate_options));
        let problems = gate::judge(&found, is_same_model, &self.gate_options);
        let report = self.store.add_gate_report(manifest.generation, index, &found, &problems)?;
        tracing::info!(
            index = self.name,
            generation = manifest.generation,
            ?found,
            ?problems,
            "quality gate"
        );
        *self.gate_report.lock() = Some(report);
        check_verdict(&self.store, manifest.generation, index).map_err(EngineError::from)
    }

    /// Users to judge a generation by.
    fn gate_queries(&self, index: &Index, is_same_model: bool) -> Result<GateQueries, EngineError> {
        let dim = index.dim();
        if let Some((_, path)) = self.gate_options.query_files.iter().find(|(name, _)| *name == self.name) {
            let queries = Embeddings::open(path).and_then(|file| file.check_finite().map(|()| file));
            let queries =
                queries.map_err(|error| EngineError::invalid("gate.query_files", error.to_string()))?;
            if queries.view().dim() != dim {
                let (path, found) = (path.display(), queries.view().dim());
                let problem = format!("{path}: expected {dim} dimensions as in the index, found {found}");
                return Err(EngineError::invalid("gate.query_files", problem));
            }
            return Ok(self.sampled(queries.view(), path.display().to_string()));
        }
        let asked = if is_same_model { self.asked.users() } else { Vec::new() };
        let held_out = index.held_out_queries();
        Ok(match held_out {
            Some(held_out) if asked.len() / dim < self.gate_options.queries => {
                self.sampled(held_out, "users that the build held out".to_owned())
            }
            _ => {
                let asked = EmbeddingsView::F32(Rows::contiguous(&asked, dim));
                self.sampled(asked, "users that asked of late".to_owned())
            }
        })
    }

    /// As many as are to be asked for, evenly spaced.
    fn sampled(&self, queries: EmbeddingsView<'_>, source: String) -> GateQueries {
        let count = queries.len().min(self.gate_options.queries);
        let (mut vectors, mut query) = (Vec::new(), Vec::new());
        for position in 0..count {
            queries.copy_row(position * queries.len() / count, &mut query);
            vectors.extend_from_slice(&query);
        }
        GateQueries { vectors, source }
    }

    /// Lets a sound snapshot answer from now on, with all that was written; gives the manifest of the one before.
    fn swap(&self, progress: &mut Progress, sound: Snapshot) -> Result<Manifest, EngineError> {
        let is_same_model = is_same_model(&self.shared.current.load().index, &sound.index);
        let before = self.shared.swap(sound, self.writing.log().as_deref())?;
        self.asked.begin_generation(is_same_model);
        (progress.checked, progress.copied) = (true, false);
        self.withdrawn.store(false, Ordering::Release);
        self.tidy(before.generation);
        Ok(before)
    }

    /// Removes generations that are not kept, and the writes that no generation needs any more. Where nothing is
    /// written, all of it is somebody else's.
    fn tidy(&self, before: u64) {
        let Some(log) = self.writing.log() else { return };
        let current = self.shared.current.load().manifest.generation;
        if let Err(error) = self.remove_old(current, before).and_then(|kept| self.trim(&*log, &kept)) {
            tracing::warn!(index = self.name, %error, "cannot tidy up");
        }
    }

    /// Gives the generations that are left.
    fn remove_old(&self, current: u64, before: u64) -> Result<Vec<u64>, EngineError> {
        let all = self.store.generations()?;
        let older = || all.iter().copied().filter(|generation| *generation < current);
        let others = self.rebuild_options.keep_generations.max(1) - 1;
        let kept_before = usize::from(others > 0 && before < current);
        let newest = older().rev().filter(|generation| *generation != before).take(others - kept_before);
        let newest: Vec<u64> = newest.collect();
        let is_kept =
            |generation: u64| newest.contains(&generation) || kept_before == 1 && generation == before;
        for generation in older().filter(|generation| !is_kept(*generation)) {
            self.store.remove(generation)?;
            tracing::info!(index = self.name, generation, "removed a generation");
        }
        Ok(all.iter().copied().filter(|generation| *generation >= current || is_kept(*generation)).collect())
    }

    fn trim(&self, log: &dyn MutationLog, kept: &[u64]) -> Result<(), EngineError> {
        let mut needless = self.shared.with_live(|live| live.unneeded_to());
        for generation in kept {
            needless = needless.min(self.store.open_generation(*generation)?.metadata().log_sequence);
        }
        Ok(log.trim(needless)?)
    }

    fn check_start(&self, progress: &mut Progress) -> Option<Refresh> {
        if std::mem::replace(&mut progress.checked, true) {
            return None;
        }
        let started = Instant::now();
        let opened = self.shared.current.load_full();
        let (index, generation) = (self.name.clone(), opened.manifest.generation);
        let Err(error) = check_and_warm(&opened.index) else {
            return Some(Refresh::Checked { index, generation, elapsed: started.elapsed() });
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
                Some(Refresh::Replaced { index, from: generation, to, error })
            }
            Err(_) => {
                *self.refused.lock() = Some(error.to_string());
                self.withdrawn.store(true, Ordering::Release);
                Some(Refresh::Withdrawn { index, generation, error })
            }
        }
    }

    fn look(&self, progress: &mut Progress) -> Option<Refresh> {
        let published = *self.store.manifests().ok()?.last()?;
        if published <= progress.newest {
            return None;
        }
        progress.newest = published;
        let opened =
            self.store.open_manifest(published).map_err(EngineError::from).and_then(|(manifest, index)| {
                check_and_warm(&index)?;
                check_servable(&self.store, &manifest, &index, self.writing.log().as_deref())?;
                if manifest.reason == PublishReason::Build {
                    self.pass_gate(&manifest, &index)?;
                }
                let snapshot = Snapshot::new(manifest, index, &self.store)?;
                let to = snapshot.manifest.generation;
                Ok((self.swap(progress, snapshot)?.generation, to))
            });
        match opened {
            Ok((from, to)) => {
                *self.refused.lock() = None;
                Some(Refresh::Swapped { index: self.name.clone(), from, to })
            }
            Err(error) => {
                *self.refused.lock() = Some(error.to_string());
                Some(Refresh::Refused { index: self.name.clone(), manifest: published, error })
            }
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
            generation_sequence: live.parts.base().index.metadata().log_sequence,
            rebuild: self.rebuilds.status(),
            delta_vectors: live.delta_vectors() as u64,
            deleted: live.hidden() as u64,
            held_entries: live.held.len() as u64,
            takedowns: live.takedowns.len() as u64,
            writable: read_only_reason.is_none(),
            read_only_reason,
        })
    }

    pub(super) fn status(&self) -> Result<IndexStatus, EngineError> {
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

/// Whether a generation may answer. One that somebody activated may, whatever it lacks.
fn check_servable(
    store: &IndexStore,
    manifest: &Manifest,
    index: &Index,
    log: Option<&dyn MutationLog>,
) -> Result<(), StoreError> {
    let is_forced = manifest.reason == PublishReason::Activate;
    check_position(index, log, is_forced)?;
    if is_forced { Ok(()) } else { check_verdict(store, manifest.generation, index) }
}

/// Whether the quality gate let a generation answer, if it ever measured it.
fn check_verdict(store: &IndexStore, generation: u64, index: &Index) -> Result<(), StoreError> {
    match store.open_gate_report(generation, index)?.0 {
        Some(report) if !report.problems.is_empty() => {
            let problem = format!("refused by the quality gate: {}", report.problems.join("; "));
            Err(StoreError::NotServable { path: index.path().to_owned(), problem })
        }
        _ => Ok(()),
    }
}

/// Whether users of one can be asked of the other.
fn is_same_model(one: &Index, other: &Index) -> bool {
    one.dim() == other.dim() && one.metadata().embedding_model == other.metadata().embedding_model
}

fn check_position(index: &Index, log: Option<&dyn MutationLog>, is_forced: bool) -> Result<(), StoreError> {
    match Position::of(index, log).problem(is_forced) {
        Some(problem) => Err(StoreError::NotServable { path: index.path().to_owned(), problem }),
        None => Ok(()),
    }
}
