//! The state of an open index: whether it answers, whether it is attached to its files, whether it takes writes.
//!
//! What flows in: an open index. What flows out: its state, for requests, health and operators. Nothing here changes it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::base::file_identity::Displaced;
use crate::engine::error::EngineError;
use crate::engine::publish::detached::Detached;
use crate::engine::publish::served::ServedIndex;
use crate::engine::status::{IndexStatus, LiveStatus, Readiness};
use crate::index::{Index, MemoryMode};
use crate::live::MutationLog;

impl ServedIndex {
    /// Returns whether requests should be sent to this index.
    pub(crate) fn readiness(&self) -> Readiness {
        if let Err(error) = self.snapshot() {
            return Readiness::NotYet(error.to_string());
        }
        if !self.serving.is_warm() {
            let generation = self.shared.current.load().manifest.generation;
            return Readiness::NotYet(format!("generation {generation} is being warmed and checked"));
        }
        match self.read_only() {
            Some(problem) => Readiness::ReadOnly(problem),
            None => Readiness::Ready,
        }
    }

    /// Checks that the files are still those that this process opened, so that what it writes can be found again. Costs
    /// a few system calls.
    ///
    /// # Errors
    /// How they differ.
    pub(crate) fn check_in_place(&self) -> Result<(), Detached> {
        let folder = self.folder.check().map_err(Detached::from);
        let log = self.log.check_in_place().map_err(Detached::from);
        let found = [folder, log, self.check_generation().map_err(Detached::from)];
        // Of several, one that was replaced: then the others will not come back.
        let differing = found.into_iter().filter_map(Result::err).min_by_key(Detached::is_gone);
        differing.map_or(Ok(()), Err)
    }

    fn check_generation(&self) -> Result<(), Displaced> {
        loop {
            let snapshot = self.shared.current.load_full();
            let in_place = snapshot.check_in_place(&self.store);
            // The files of a generation may be removed as soon as another one is current.
            let is_current = || {
                let current = self.shared.current.load();
                current.manifest.manifest == snapshot.manifest.manifest
            };
            if in_place.is_ok() || is_current() {
                return in_place;
            }
        }
    }

    /// Returns why nothing can be written, or `None` if writes are accepted.
    pub(crate) fn read_only(&self) -> Option<String> {
        if self.serving.is_withdrawn() {
            return self.serving.problem();
        }
        let detached = self.check_in_place().err().map(|detached| match self.serving.unopened() {
            Some(problem) => format!("{detached}; {problem}"),
            None => detached.to_string(),
        });
        detached.or_else(|| self.log.read_only())
    }

    /// Checks that writes are accepted.
    ///
    /// # Errors
    /// [`EngineError::ReadOnly`].
    pub(crate) fn check_writable(&self) -> Result<(), EngineError> {
        match self.read_only() {
            Some(problem) => Err(EngineError::ReadOnly { index: self.name.clone(), problem }),
            None => Ok(()),
        }
    }

    /// Like [`ServedIndex::check_in_place`].
    ///
    /// # Errors
    /// [`EngineError::ReadOnly`].
    pub(crate) fn check_attached(&self) -> Result<(), EngineError> {
        self.check_in_place().map_err(|detached| self.detached(&detached))
    }

    /// Returns the log if there is one. Keep it only for a moment: somebody may wait until it is closed.
    ///
    /// # Errors
    /// [`EngineError::ReadOnly`] if the folder is not the one that was opened, or the log was closed: without its entries,
    /// videos that are taken down would be returned.
    pub(crate) fn attached_log(&self) -> Result<Option<Arc<dyn MutationLog>>, EngineError> {
        self.folder.check().map_err(|displaced| self.detached(&displaced.into()))?;
        self.log.log().map_err(|closed| self.detached(&closed.into()))
    }

    fn detached(&self, detached: &Detached) -> EngineError {
        EngineError::ReadOnly { index: self.name.clone(), problem: detached.to_string() }
    }

    /// Checks that a generation can be built from the current one and its log.
    ///
    /// # Errors
    /// [`EngineError::OutOfService`], [`EngineError::ReadOnly`] or [`EngineError::BuiltElsewhere`].
    pub(crate) fn check_rebuildable(&self) -> Result<(), EngineError> {
        if let Some(location) = &self.built_at {
            return Err(EngineError::BuiltElsewhere { index: self.name.clone(), location: location.clone() });
        }
        self.snapshot()?;
        self.check_writable()
    }

    /// Returns why the newest files in the folder are not served.
    fn refused(&self) -> Option<String> {
        let detached = || self.check_in_place().err().map(|detached| detached.to_string());
        self.serving.unopened().or_else(|| self.serving.problem()).or_else(detached)
    }

    fn live_status(&self) -> LiveStatus {
        let read_only_reason = self.read_only();
        let log = self.log.log().ok().flatten();
        let size = log.as_ref().map(|log| log.size()).unwrap_or_default();
        let log_oldest_entry = log.as_ref().and_then(|log| log.oldest().ok().flatten());
        self.shared.expire();
        self.shared.with_live(|live| LiveStatus {
            sequence: live.sequence,
            generation_sequence: live.segments.base().index.metadata().log_sequence,
            rebuild: self.rebuilder.status(),
            delta_vectors: live.delta_vectors() as u64,
            deleted: live.hidden() as u64,
            parked_entries: live.parked.len() as u64,
            takedowns: live.takedowns.len() as u64,
            log_bytes: log.as_ref().and_then(|log| log.bytes().ok()).unwrap_or_default(),
            log_oldest_entry,
            log_entries: size.entries,
            log_entry_bytes: size.entry_bytes,
            writable: read_only_reason.is_none(),
            read_only_reason,
            shared_log: self.log.shared_status(),
        })
    }

    /// Returns the state of the index. Lists its folder; if it cannot be read, no generations are available.
    pub(crate) fn status(&self) -> IndexStatus {
        let snapshot = self.shared.current.load_full();
        let facts = snapshot.index.metadata();
        let manifest = &snapshot.manifest;
        let curves = snapshot.calibrated.targets();
        IndexStatus {
            name: self.name.clone(),
            dir: self.store.dir().to_owned(),
            generation: manifest.generation,
            manifest: manifest.manifest,
            published_at: manifest.created_at,
            available_generations: self.store.generations().unwrap_or_default(),
            vectors: u64::from(facts.rows),
            dim: facts.dim,
            dtype: facts.dtype,
            metric: facts.metric,
            builder: facts.build.builder.clone(),
            m: facts.m,
            ef_construction: facts.build.ef_construction,
            scrub: self.scrub.status(),
            bytes: snapshot.index.bytes(),
            build_time: Duration::from_millis(manifest.build_ms),
            embedding_model: facts.embedding_model.clone(),
            attributes: facts.attributes.clone(),
            has_text_ids: snapshot.has_text_ids(),
            calibration: curves.map(|curves| curves.reaches().collect()).unwrap_or_default(),
            refused: self.refused(),
            resident_bytes: match snapshot.index.memory() {
                MemoryMode::Resident => snapshot.index.hot_bytes(),
                MemoryMode::Mapped => 0,
            },
            sections: sections(&snapshot.index),
            memory: snapshot.index.memory(),
            serving: !self.serving.is_withdrawn(),
            live: self.live_status(),
            gate: self.gate.last_report(),
            recall: self.sample.recall(),
        }
    }
}

/// Name and bytes of the sections of each kind, the largest first.
fn sections(index: &Index) -> Vec<(&'static str, u64)> {
    let mut all: BTreeMap<&'static str, u64> = BTreeMap::new();
    for section in index.sections() {
        *all.entry(section.kind.name()).or_default() += section.bytes;
    }
    let mut all: Vec<(&'static str, u64)> = all.into_iter().filter(|(_, bytes)| *bytes > 0).collect();
    all.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
    all
}
