//! What is removed once another generation answers: generations that are not kept, and writes that none of them needs.

use std::cmp::Ordering;

use crate::base::staged_file::StagedFile;
use crate::engine::error::EngineError;
use crate::engine::publish::servable::check_verdict;
use crate::engine::publish::served::ServedIndex;
use crate::live::MutationLog;

/// Writes that no generation needs are kept for at most one in so many videos of the current one, so that a log of them
/// stays small beside it.
const VIDEOS_PER_KEPT_WRITE: u64 = 4;

impl ServedIndex {
    /// Removes generations that are not kept, and the writes that no generation needs any more; `before` answered last,
    /// or still does. Where nothing is written, all of it is somebody else's.
    pub(crate) fn tidy(&self, before: u64) {
        let Some(log) = self.writing.log() else { return };
        let current = self.shared.current.load().manifest.generation;
        self.remove_abandoned();
        if let Err(error) = self.remove_old(current, before).and_then(|kept| self.trim(&*log, &kept)) {
            tracing::warn!(index = self.name, %error, "cannot tidy up");
        }
    }

    /// Removes what rebuilds left behind that were killed.
    pub(crate) fn remove_abandoned(&self) {
        match StagedFile::remove_abandoned(self.store.dir()) {
            Ok(0) => {}
            Ok(files) => tracing::info!(index = self.name, files, "removed files of builds that were killed"),
            Err(error) => {
                tracing::warn!(index = self.name, %error, "cannot remove files of builds that were killed")
            }
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
        // Of those that the gate refused, the last may still be forced.
        let is_kept = |generation: u64| match generation.cmp(&current) {
            Ordering::Less => newest.contains(&generation) || kept_before == 1 && generation == before,
            Ordering::Equal => true,
            Ordering::Greater => all.last() == Some(&generation) || !self.is_refused(generation),
        };
        let (kept, others): (Vec<u64>, Vec<u64>) = all.iter().partition(|generation| is_kept(**generation));
        for generation in others {
            self.store.remove(generation)?;
            tracing::info!(index = self.name, generation, "removed a generation");
        }
        Ok(kept)
    }

    fn is_refused(&self, generation: u64) -> bool {
        let opened = self.store.open_generation(generation);
        opened.is_ok_and(|index| check_verdict(&self.store, generation, &index).is_err())
    }

    fn trim(&self, log: &dyn MutationLog, kept: &[u64]) -> Result<(), EngineError> {
        let current = self.shared.current.load();
        let most = u64::from(current.index.metadata().rows) / VIDEOS_PER_KEPT_WRITE;
        let spare = self.rebuild_options.keep_writes.min(most);
        let mut needless = self.shared.with_live(|live| live.unneeded_to());
        needless = needless.min(log.last_sequence().saturating_sub(spare));
        // One that does not open can answer no more.
        for index in kept.iter().filter_map(|generation| self.store.open_generation(*generation).ok()) {
            needless = needless.min(index.metadata().log_sequence);
        }
        Ok(log.trim(needless)?)
    }
}
