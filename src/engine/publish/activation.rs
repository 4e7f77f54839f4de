//! A generation that an operator chose takes the place of the one that answers.

use std::sync::Arc;

use crate::engine::error::EngineError;
use crate::engine::publish::servable::check_position;
use crate::engine::publish::served::ServedIndex;
use crate::engine::query::snapshot::{Snapshot, check_and_warm};

/// How many of the newest manifests are kept as the record of what was current. Older activations are removed.
const KEPT_MANIFESTS: usize = 100;

/// The most activations that are running or waiting.
const MOST_ACTIVATIONS: usize = 8;

impl ServedIndex {
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
}
