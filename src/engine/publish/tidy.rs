//! Removes what is no longer needed once another generation answers: old generations, and log entries that every kept
//! generation contains, except parked upserts.

use std::cmp::Ordering;

use crate::base::file_identity::OpenFolder;
use crate::base::staged_file::StagedFile;
use crate::engine::error::EngineError;
use crate::engine::options::RebuildOptions;
use crate::engine::publish::servable::check_verdict;
use crate::engine::rebuild::rebuilder::log_limit;
use crate::engine::write::shared::Shared;
use crate::index::IndexStore;
use crate::live::MutationLog;

/// Keep at most one unneeded log entry per this many videos of the current generation, so that the log stays small
/// compared with the generation.
const VIDEOS_PER_KEPT_WRITE: u64 = 4;

/// Removes what one index no longer needs.
pub(crate) struct Tidy<'a> {
    pub(crate) name: &'a str,
    pub(crate) store: &'a IndexStore,
    /// The folder of `store`. Files are removed only as long as the path leads to it.
    pub(crate) folder: &'a OpenFolder,
    pub(crate) shared: &'a Shared,
    pub(crate) options: &'a RebuildOptions,
}

impl Tidy<'_> {
    /// Removes generations that are not kept and log entries that no kept generation needs. `previous` is the
    /// generation that answered before, or still does. Call it only with the log of the index open: without one, the
    /// files belong to another process.
    pub(crate) fn run(&self, log: &dyn MutationLog, previous: u64) {
        let current = self.shared.current.load().manifest.generation;
        self.remove_abandoned();
        if let Err(error) = self.remove_old(current, previous).and_then(|kept| self.trim(log, &kept)) {
            tracing::warn!(index = self.name, %error, "cannot remove old generations or log entries");
        }
    }

    /// Removes the staged files of rebuilds that were killed.
    pub(crate) fn remove_abandoned(&self) {
        match StagedFile::remove_abandoned(self.folder) {
            Ok(0) => {}
            Ok(files) => tracing::info!(index = self.name, files, "removed files of killed builds"),
            Err(error) => tracing::warn!(index = self.name, %error, "cannot remove files of killed builds"),
        }
    }

    /// Removes old generations, and returns the remaining ones.
    fn remove_old(&self, current: u64, previous: u64) -> Result<Vec<u64>, EngineError> {
        let all = self.store.generations()?;
        let older = || all.iter().copied().filter(|generation| *generation < current);
        let others = self.options.keep_generations.max(1) - 1;
        let kept_previous = usize::from(others > 0 && previous < current);
        let newest = older().rev().filter(|generation| *generation != previous).take(others - kept_previous);
        let newest: Vec<u64> = newest.collect();
        // The last generation stays even if the gate refused it: it can still be activated by force.
        let is_kept = |generation: u64| match generation.cmp(&current) {
            Ordering::Less => newest.contains(&generation) || kept_previous == 1 && generation == previous,
            Ordering::Equal => true,
            Ordering::Greater => all.last() == Some(&generation) || !self.is_refused(generation),
        };
        let (kept, others): (Vec<u64>, Vec<u64>) = all.iter().partition(|generation| is_kept(**generation));
        for generation in others {
            self.store.remove(generation, self.folder)?;
            tracing::info!(index = self.name, generation, "removed a generation");
        }
        Ok(kept)
    }

    fn is_refused(&self, generation: u64) -> bool {
        let opened = self.store.open_generation(generation);
        opened.is_ok_and(|index| check_verdict(self.store, generation, &index).is_err())
    }

    fn trim(&self, log: &dyn MutationLog, kept: &[u64]) -> Result<(), EngineError> {
        let current = self.shared.current.load();
        let most = u64::from(current.index.metadata().rows) / VIDEOS_PER_KEPT_WRITE;
        let spare = self.options.keep_writes.min(most);
        let (mut unneeded_to, parked) =
            self.shared.with_live(|live| (live.unneeded_to(), live.parked_sequences()));
        // A parked upsert also keeps what follows it, for a batch build of its embedding model that lags behind, as long as
        // the log is small compared with the generation.
        if let Some(first) = parked.first()
            && log.size().entry_bytes <= log_limit(&current.index)
        {
            unneeded_to = unneeded_to.min(first - 1);
        }
        unneeded_to = unneeded_to.min(log.last_sequence().saturating_sub(spare));
        for generation in kept {
            match self.store.open_generation(*generation) {
                Ok(index) => unneeded_to = unneeded_to.min(index.metadata().log_sequence),
                // It may open later, and then needs entries that nobody knows now.
                Err(error) if error.is_transient() => return Ok(()),
                // It can never answer again, so it needs none.
                Err(_) => {}
            }
        }
        Ok(log.trim_except(unneeded_to, &parked)?)
    }
}
