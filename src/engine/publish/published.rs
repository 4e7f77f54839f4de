//! What was published in the folder of an open index, by its own rebuild or by another process, takes the place of the
//! generation that answers.

use std::sync::Arc;

use crate::engine::error::EngineError;
use crate::engine::publish::quality_gate::Reference;
use crate::engine::publish::refresh::Refresh;
use crate::engine::publish::servable::check_position;
use crate::engine::publish::served::{Progress, ServedIndex, Uncalibrated};
use crate::engine::query::snapshot::{Snapshot, check_and_warm};
use crate::engine::query::usage::Usage;
use crate::engine::rebuild::build::Built;
use crate::engine::rebuild::error::PublishError;
use crate::engine::supervise::Task;
use crate::index::{Index, Manifest, PublishReason, RefusalReason};
use crate::live::LogError;

/// The generations before and after a swap.
struct Swapped {
    from: u64,
    to: u64,
}

impl ServedIndex {
    /// Publishes a rebuild of the generation with this usage and swaps it in, if that is still current.
    ///
    /// # Errors
    /// Why the rebuild does not answer.
    pub(crate) fn publish(&self, base: &Arc<Usage>, built: Built) -> Result<(), PublishError> {
        let Built { staged, times, measured } = built;
        let mut progress = self.progress.lock();
        let check_attached =
            || self.check_in_place().map_err(|detached| PublishError::Detached(detached.to_string()));
        check_attached()?;
        // A publication by somebody else in the meantime wins.
        let mut events = self.load_published(&mut progress);
        // The usage is that of one generation since it was opened, also if its file is mapped again meanwhile.
        let is_current = Arc::ptr_eq(&self.shared.current.load().usage, base);
        let publish = || {
            if !is_current {
                return Err(PublishError::Superseded);
            }
            // A publication in the meantime was measured, which can take minutes.
            check_attached()?;
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

    /// Tries the manifests that were published since the last call, newest first, until one can answer. Tries those again
    /// that could not be opened for a reason that may end, and the newest if its calibration was missing and was added.
    pub(super) fn load_published(&self, progress: &mut Progress) -> Vec<Refresh> {
        let Ok(manifests) = self.store.manifests() else { return Vec::new() };
        let deferred = std::mem::take(&mut progress.deferred);
        let is_due = |manifest: &u64| *manifest > progress.newest || deferred.contains_key(manifest);
        let calibrated = self.calibrated_later(progress);
        let is_due = |manifest: &u64| is_due(manifest) || calibrated == Some(*manifest);
        let due: Vec<u64> = manifests.into_iter().filter(is_due).rev().collect();
        progress.newest = due.first().map_or(progress.newest, |first| progress.newest.max(*first));
        let mut events = Vec::new();
        for manifest in due {
            let index = self.name.clone();
            let path = self.store.manifest_path(manifest);
            let uncalibrated = self.uncalibrated(manifest);
            let supervisor = &self.background.supervisor;
            let opened =
                supervisor.run_on(Task::Refresh, &path, || Ok(self.store.open_manifest(manifest)?));
            let may_open = opened.as_ref().is_err_and(EngineError::is_transient);
            let taken = opened.and_then(|(manifest, index)| {
                supervisor.run_on(Task::Refresh, &path, || self.take_over(progress, manifest, index))
            });
            if manifest == progress.newest {
                let reasons = taken.as_ref().err().map(EngineError::refusal_reasons).unwrap_or_default();
                let is_uncalibrated = reasons == [RefusalReason::Calibration];
                progress.uncalibrated = uncalibrated.filter(|_| is_uncalibrated);
                self.serving.set_problem(taken.as_ref().err().map(ToString::to_string));
            }
            match taken {
                Ok(Swapped { from, to }) => {
                    events.push(Refresh::Swapped { index, from, to });
                    return events;
                }
                Err(error) => {
                    let problem = error.to_string();
                    let is_known = deferred.get(&manifest) == Some(&problem);
                    // The files may come back, too, and a log may be received.
                    if may_open || error.is_transient() {
                        progress.deferred.insert(manifest, problem);
                    }
                    if !is_known {
                        events.push(Refresh::Refused { index, manifest, error });
                    }
                }
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
    fn take_over(
        &self,
        progress: &mut Progress,
        manifest: Manifest,
        index: Index,
    ) -> Result<Swapped, EngineError> {
        self.background.pool.install(|| check_and_warm(&index))?;
        let is_forced = manifest.reason == PublishReason::Activate;
        self.check_received(&index)?;
        check_position(&index, self.attached_log()?.as_deref(), is_forced)?;
        {
            // Released before the swap, which waits until nothing uses the old generation.
            let current = self.shared.current.load_full();
            let reference = Reference { current: &current, sample: &self.sample };
            self.gate.check(&self.store, &manifest, &index, &reference, &self.background.pool)?;
        }
        // The log may have been trimmed meanwhile.
        check_position(&index, self.attached_log()?.as_deref(), is_forced)?;
        let snapshot = Snapshot::new(manifest, index, &self.store)?;
        let to = snapshot.manifest.generation;
        Ok(Swapped { from: self.swap(progress, snapshot)?, to })
    }

    /// Checks that what a generation contains of a log that others write to, too, was received here.
    ///
    /// # Errors
    /// [`LogError::NotReceived`], which ends.
    fn check_received(&self, index: &Index) -> Result<(), EngineError> {
        let position = index.metadata().log_sequence;
        match self.log.tailed().map(|tailed| tailed.log().last_sequence()) {
            Some(last) if last < position => Err(LogError::NotReceived { position, last }.into()),
            _ => Ok(()),
        }
    }
}
