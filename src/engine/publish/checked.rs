//! Compares the checksums of the generation that answers, and replaces it if it is damaged.

use std::time::Instant;

use crate::engine::error::EngineError;
use crate::engine::publish::refresh::Refresh;
use crate::engine::publish::servable::check_servable;
use crate::engine::publish::served::{Progress, ServedIndex};
use crate::engine::query::snapshot::{Snapshot, check_and_warm};
use crate::engine::supervise::Task;
use crate::index::Manifest;

impl ServedIndex {
    /// Checks the generation that the start opened, once.
    pub(super) fn check_start(&self, progress: &mut Progress) -> Option<Refresh> {
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
}
