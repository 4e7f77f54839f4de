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
    /// Held while a swap is prepared, so that two do not overtake each other.
    swap: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The newest manifest that was looked at.
    manifest: u64,
    /// What was wrong with it, if it was refused.
    refused: Option<String>,
}

impl ServedIndex {
    /// Opens the newest usable generation. One with a damaged section is not passed over in silence: it is an error.
    pub(super) fn open(name: String, dir: PathBuf) -> Result<Self, EngineError> {
        let store = IndexStore::new(dir);
        let newest = store.manifests()?.last().copied().unwrap_or_default();
        let (manifest, index, passed_over) = store.open_current()?;
        check_and_warm(&index)?;
        let seen = Seen { manifest: newest, refused: passed_over.first().map(ToString::to_string) };
        Ok(Self {
            name,
            store,
            current: ArcSwap::from_pointee(Snapshot { manifest, index }),
            swap: Mutex::new(seen),
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
        let mut seen = self.swap.lock();
        let index = self.store.open_generation(generation)?;
        check_and_warm(&index)?;
        let manifest = self.store.activate(generation, &index)?;
        *seen = Seen { manifest: manifest.manifest, refused: None };
        self.current.store(Arc::new(Snapshot { manifest, index }));
        Ok(())
    }

    /// Serves the newest manifest if it is newer than the last one looked at.
    pub(super) fn refresh(&self) -> Option<Refresh> {
        let mut seen = self.swap.lock();
        let newest = *self.store.manifests().ok()?.last()?;
        if newest <= seen.manifest {
            return None;
        }
        seen.manifest = newest;
        let opened =
            self.store.open_manifest(newest).map_err(EngineError::from).and_then(|(manifest, index)| {
                check_and_warm(&index)?;
                Ok(Snapshot { manifest, index })
            });
        match opened {
            Ok(snapshot) => {
                seen.refused = None;
                let to = snapshot.manifest.generation;
                let from = self.current.swap(Arc::new(snapshot)).manifest.generation;
                Some(Refresh::Swapped { index: self.name.clone(), from, to })
            }
            Err(error) => {
                seen.refused = Some(error.to_string());
                Some(Refresh::Refused { index: self.name.clone(), manifest: newest, error })
            }
        }
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
            refused: self.swap.lock().refused.clone(),
        })
    }
}
