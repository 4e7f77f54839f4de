//! One named index: the snapshot that answers, and how another takes its place.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::error::EngineError;
use super::request::IndexStatus;
use super::snapshot::{Snapshot, check_and_warm};
use crate::index::IndexStore;

/// What one look at the folder led to.
#[derive(Debug)]
pub enum Refresh {
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
}

/// A folder of generations, and the one that answers.
#[derive(Debug)]
pub(super) struct ServedIndex {
    name: String,
    store: IndexStore,
    current: ArcSwap<Snapshot>,
    /// The newest manifest that was looked at. Held while a swap is prepared, so that two do not overtake
    /// each other.
    newest: Mutex<u64>,
    /// What was wrong with that manifest, if it was refused.
    refused: Mutex<Option<String>>,
}

impl ServedIndex {
    /// Opens the newest generation that opens and is sound; `refused` tells what was passed over.
    pub(super) fn open(name: String, dir: PathBuf) -> Result<Self, EngineError> {
        let store = IndexStore::new(dir);
        let newest = store.manifests()?.last().copied().unwrap_or_default();
        let (manifest, index, passed_over) = store.open_newest(check_and_warm)?;
        let refused = passed_over.first().map(ToString::to_string);
        let snapshot = Snapshot::new(manifest, index, &store)?;
        Ok(Self {
            name,
            store,
            current: ArcSwap::from_pointee(snapshot),
            newest: Mutex::new(newest),
            refused: Mutex::new(refused),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The snapshot that answers now. A request takes it once and keeps it to its end.
    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    pub(super) fn activate(&self, generation: u64) -> Result<(), EngineError> {
        let mut newest = self.newest.lock();
        let index = self.store.open_generation(generation)?;
        check_and_warm(&index)?;
        let manifest = self.store.activate(generation, &index)?;
        let snapshot = Snapshot::new(manifest, index, &self.store)?;
        *newest = snapshot.manifest.manifest;
        *self.refused.lock() = None;
        self.current.store(Arc::new(snapshot));
        Ok(())
    }

    /// Serves the newest manifest if it is newer than the last one looked at, or else the newest
    /// calibration of the generation that answers.
    pub(super) fn refresh(&self) -> Option<Refresh> {
        let mut newest = self.newest.lock();
        let published = *self.store.manifests().ok()?.last()?;
        if published <= *newest {
            return self.recalibrate();
        }
        *newest = published;
        let opened =
            self.store.open_manifest(published).map_err(EngineError::from).and_then(|(manifest, index)| {
                check_and_warm(&index)?;
                Ok(Snapshot::new(manifest, index, &self.store)?)
            });
        match opened {
            Ok(snapshot) => {
                *self.refused.lock() = None;
                let to = snapshot.manifest.generation;
                let from = self.current.swap(Arc::new(snapshot)).manifest.generation;
                Some(Refresh::Swapped { index: self.name.clone(), from, to })
            }
            Err(error) => {
                *self.refused.lock() = Some(error.to_string());
                Some(Refresh::Refused { index: self.name.clone(), manifest: published, error })
            }
        }
    }

    /// Answers by a newer calibration if there is one. The caller holds `newest`.
    fn recalibrate(&self) -> Option<Refresh> {
        let snapshot = self.snapshot().recalibrated(&self.store).ok()??;
        let generation = snapshot.manifest.generation;
        let queries = snapshot.calibrated.curves().map(|curves| curves.queries);
        self.current.store(Arc::new(snapshot));
        Some(Refresh::Calibrated { index: self.name.clone(), generation, queries: queries? })
    }

    pub(super) fn status(&self) -> Result<IndexStatus, EngineError> {
        let snapshot = self.snapshot();
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
        })
    }
}
