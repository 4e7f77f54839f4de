//! Whether the generation that answers is searched in the mapped file or in a copy in memory.
//!
//! ```text
//!            enough memory: copied
//!  mapped ─────────────────────────► resident
//!         ◄─────────────────────────
//!            memory is short: the file is mapped again and swapped in; the copy goes with its last search
//! ```
//!
//! A search borrows the sections of one [`Index`](crate::index::Index) to its end, so a copy is never freed in place.

use std::sync::Arc;
use std::time::Instant;

use crate::engine::memory::MemoryPolicy;
use crate::engine::publish::refresh::Refresh;
use crate::engine::publish::residence_progress::{ResidenceProgress, Stays};
use crate::engine::publish::served::ServedIndex;
use crate::engine::publish::swap::wait_for_searches;
use crate::engine::query::snapshot::{Snapshot, check_structure};
use crate::index::{IndexError, MemoryMode, StoreError};

impl ServedIndex {
    /// Returns whether copies are given back when memory is short. If so, only searches and short work may hold the
    /// index that answers: it keeps the copy.
    pub(crate) fn gives_back(&self) -> bool {
        self.memory == MemoryPolicy::Auto
    }

    /// Copies the generation into memory or gives the copy back, as configured. Returns what changed, and once why
    /// nothing can.
    pub(super) fn settle_residence(&self, progress: &mut ResidenceProgress) -> Option<Refresh> {
        let snapshot = self.snapshot().ok()?;
        match self.memory {
            MemoryPolicy::Mapped => None,
            MemoryPolicy::Resident if progress.is_settled => None,
            MemoryPolicy::Resident => {
                progress.is_settled = true;
                let (index, generation) = (self.name.clone(), snapshot.manifest.generation);
                Some(match snapshot.index.make_resident() {
                    Ok(residence) => Refresh::Resident { index, generation, residence },
                    Err(error) => Refresh::StaysMapped { index, generation, error },
                })
            }
            MemoryPolicy::Auto => {
                // While another index copies, what it will take still seems to be available.
                let _copying = self.background.copying.try_lock()?;
                match snapshot.index.memory() {
                    MemoryMode::Mapped => self.copy_if_room(&snapshot, progress),
                    MemoryMode::Resident => self.give_back_if_short(snapshot, progress),
                }
            }
        }
    }

    fn copy_if_room(&self, snapshot: &Snapshot, progress: &mut ResidenceProgress) -> Option<Refresh> {
        let is_early = progress.not_before.is_some_and(|end| Instant::now() < end);
        if progress.is_settled || is_early {
            return None;
        }
        let (index, generation) = (self.name.clone(), snapshot.manifest.generation);
        if let Err(shortage) = self.memory_gauge.check_room(snapshot.index.hot_bytes()) {
            let is_new = progress.is_new(Stays::NotCopied);
            return is_new.then_some(Refresh::NotCopied { index, generation, shortage });
        }
        match snapshot.index.make_resident() {
            Ok(residence) => {
                progress.reported = None;
                Some(Refresh::Resident { index, generation, residence })
            }
            Err(error) => {
                // Without memory, another try may succeed. Damaged bytes stay damaged.
                progress.is_settled = !matches!(error, IndexError::Io { .. });
                progress.not_before = Some(Instant::now() + self.memory_gauge.wait());
                let is_new = progress.is_new(Stays::Mapped);
                is_new.then_some(Refresh::StaysMapped { index, generation, error })
            }
        }
    }

    fn give_back_if_short(
        &self,
        snapshot: Arc<Snapshot>,
        progress: &mut ResidenceProgress,
    ) -> Option<Refresh> {
        let memory = self.memory_gauge.shortage()?;
        let (index, generation) = (self.name.clone(), snapshot.manifest.generation);
        let bytes = snapshot.index.hot_bytes();
        match self.map_again(snapshot) {
            Ok(true) => {
                progress.not_before = Some(Instant::now() + self.memory_gauge.wait());
                progress.reported = Some(Stays::NotCopied);
                Some(Refresh::GivenBack { index, generation, bytes, memory })
            }
            Ok(false) => None,
            Err(error) => {
                let is_new = progress.is_new(Stays::Resident);
                is_new.then_some(Refresh::StaysResident { index, generation, error })
            }
        }
    }

    /// Serves the generation of a snapshot from its file again, mapped anew. Returns false if another one is current.
    fn map_again(&self, snapshot: Arc<Snapshot>) -> Result<bool, StoreError> {
        let old = Arc::clone(&snapshot.index);
        drop(snapshot);
        let fresh = old.reopen()?;
        check_structure(&fresh)?;
        // Not populated: that would take memory which others need.
        if !self.shared.replace_map(&old, fresh) {
            return Ok(false);
        }
        self.sample.drop_waiting();
        wait_for_searches(old);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::base::available_memory::AvailableMemory;
    use crate::engine::memory::MemoryGauge;
    use crate::engine::options::EngineOptions;
    use crate::engine::query::budget::Budget;
    use crate::engine::query::context::RequestContext;
    use crate::engine::query::request::SearchRequest;
    use crate::engine::supervise::Background;
    use crate::index::Index;
    use crate::search::Searcher;
    use crate::{Dataset, Metric};

    /// Samples that wait to be compared and rebuilds would keep the memory for long.
    #[test]
    fn a_copy_that_is_given_back_is_kept_by_searches_only() {
        let folder = tempfile::tempdir().unwrap();
        let dataset = Dataset::from_rows(2, vec![1.0, 0.0, 0.0, 1.0, 0.7, 0.7]).unwrap();
        crate::Index::builder(Metric::InnerProduct).publish(&dataset, folder.path()).unwrap();
        let available = Arc::new(AtomicU64::new(1 << 30));
        let read = {
            let available = Arc::clone(&available);
            move || Some(AvailableMemory { total: 1 << 30, available: available.load(Ordering::Relaxed) })
        };
        let options = EngineOptions {
            memory: MemoryPolicy::Auto,
            memory_gauge: MemoryGauge::new(read, Duration::ZERO),
            ..EngineOptions::default()
        };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let background =
            Background { pool: Arc::new(pool), supervisor: Arc::default(), copying: Arc::default() };
        let served =
            ServedIndex::open("videos".to_owned(), folder.path().to_owned(), &options, &background).unwrap();
        let settle = || served.settle_residence(&mut served.progress.lock().residence);

        // As while another index copies.
        let copying = background.copying.lock();
        assert!(settle().is_none());
        drop(copying);
        assert!(matches!(settle(), Some(Refresh::Resident { .. })));
        let search = served.snapshot().unwrap();
        let copied: Weak<Index> = Arc::downgrade(&search.index);
        let request = SearchRequest::vector([1.0, 0.0]);
        let (searcher, budget) = (Searcher::default(), Budget::default());
        let context =
            RequestContext { name: "videos", searcher: &searcher, limits: &options.limits, budget: &budget };
        let (answer, _) = search.search(&context, &request, None).unwrap();
        served.sample.take(None, &search, &request, &answer);
        let mut rebuild = served.shared.with_live(|live| live.rebuild_input(jiff::Timestamp::now()));
        rebuild.reopen_base().unwrap();

        available.store(0, Ordering::Relaxed);
        assert!(matches!(settle(), Some(Refresh::GivenBack { .. })));
        assert!(settle().is_none());
        assert!(Arc::ptr_eq(&search.index, &copied.upgrade().unwrap()), "the search has it");
        assert_eq!(search.index.memory(), MemoryMode::Resident);
        drop(search);
        assert!(copied.upgrade().is_none(), "the copy is freed");
        assert_eq!(served.snapshot().unwrap().index.memory(), MemoryMode::Mapped);
        assert_eq!(rebuild.kept[0].0.memory(), MemoryMode::Mapped);
    }
}
