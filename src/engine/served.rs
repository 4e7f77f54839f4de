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

use super::error::EngineError;
use super::request::{IndexStatus, LiveStatus};
use super::shared::Shared;
use super::snapshot::{Snapshot, check_and_warm, check_structure};
use super::writing::Writing;
use crate::index::{IndexError, IndexStore, Manifest, MemoryMode, Residence};

/// What one look at an index led to.
#[derive(Debug)]
pub enum Refresh {
    /// What the start opened is sound and warm.
    Checked {
        /// The index.
        index: String,
        /// The generation that answers.
        generation: u64,
        /// How long warming and checking took.
        elapsed: Duration,
    },
    /// What the start opened is damaged; another generation answers from now on.
    Replaced {
        /// The index.
        index: String,
        /// The damaged generation.
        from: u64,
        /// The generation that answers now.
        to: u64,
        /// What is wrong with the damaged one.
        error: EngineError,
    },
    /// What the start opened is damaged and nothing else is sound; the index is out of service.
    Withdrawn {
        /// The index.
        index: String,
        /// The damaged generation.
        generation: u64,
        /// What is wrong with it.
        error: EngineError,
    },
    /// Another generation answers from now on.
    Swapped {
        /// The index.
        index: String,
        /// The generation that answered before.
        from: u64,
        /// The generation that answers now.
        to: u64,
    },
    /// The generation that answers has a new calibration.
    Calibrated {
        /// The index.
        index: String,
        /// The generation.
        generation: u64,
        /// Queries that it was measured with.
        queries: u32,
    },
    /// A publication cannot be served; the old generation goes on.
    Refused {
        /// The index.
        index: String,
        /// The manifest of the publication.
        manifest: u64,
        /// What is wrong with it.
        error: EngineError,
    },
    /// What answers was copied into memory and is searched there from now on.
    Resident {
        /// The index.
        index: String,
        /// The generation that answers.
        generation: u64,
        /// How much was copied, and to where.
        residence: Residence,
    },
    /// What answers could not be copied into memory; it goes on being searched in the mapped file.
    StaysMapped {
        /// The index.
        index: String,
        /// The generation that answers.
        generation: u64,
        /// Why it could not.
        error: IndexError,
    },
}

/// A folder of generations, and the one that answers.
#[derive(Debug)]
pub(super) struct ServedIndex {
    name: String,
    store: IndexStore,
    memory: MemoryMode,
    shared: Arc<Shared>,
    writing: Writing,
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
        memory: MemoryMode,
        is_writable: bool,
    ) -> Result<Self, EngineError> {
        let store = IndexStore::new(dir);
        let newest = store.manifests()?.last().copied().unwrap_or_default();
        let (manifest, index, passed_over) = store.open_newest(check_structure)?;
        let refused = passed_over.first().map(ToString::to_string);
        let snapshot = Snapshot::new(manifest, index, &store)?;
        let shared = Arc::new(Shared::new(snapshot));
        let writing = Writing::open(&store, &shared, is_writable)?;
        Ok(Self {
            name,
            store,
            memory,
            shared,
            writing,
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

    pub(super) fn activate(&self, generation: u64) -> Result<(), EngineError> {
        let mut progress = self.progress.lock();
        let index = self.store.open_generation(generation)?;
        check_and_warm(&index)?;
        let manifest = self.store.activate(generation, &index)?;
        let snapshot = Snapshot::new(manifest, index, &self.store)?;
        progress.newest = snapshot.manifest.manifest;
        self.swap(&mut progress, snapshot)?;
        *self.refused.lock() = None;
        Ok(())
    }

    /// Checks what the start did not, serves the newest manifest if it is newer than the last one looked
    /// at, takes the newest calibration of what serves, and makes it resident.
    pub(super) fn refresh(&self) -> Vec<Refresh> {
        let mut progress = self.progress.lock();
        self.shared.merge_parts();
        let steps = [Self::check_start, Self::look, Self::recalibrate, Self::copy];
        steps.iter().filter_map(|step| step(self, &mut progress)).collect()
    }

    /// Lets a sound snapshot answer from now on, with all that was written; gives the manifest of the one before.
    fn swap(&self, progress: &mut Progress, sound: Snapshot) -> Result<Manifest, EngineError> {
        let before = self.shared.swap(sound, self.writing.log().as_deref())?;
        (progress.checked, progress.copied) = (true, false);
        self.withdrawn.store(false, Ordering::Release);
        Ok(before)
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
        let sound = self.store.open_newest(check_and_warm);
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
        })
    }
}
