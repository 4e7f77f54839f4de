//! Another generation takes the place of the one that answers, and old ones are removed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::engine::error::EngineError;
use crate::engine::publish::servable::{check_position, is_same_model};
use crate::engine::publish::served::{Progress, ServedIndex};
use crate::engine::publish::tidy::Tidy;
use crate::engine::query::snapshot::Snapshot;
use crate::engine::supervise::Task;

/// How long to wait for searches in flight before a generation is dropped.
const LONGEST_SEARCH: Duration = Duration::from_secs(1);

impl ServedIndex {
    /// Swaps in a checked snapshot with all entries of the log. Returns the generation that answered before.
    ///
    /// # Errors
    /// If the files are not those that were opened, the log was closed, or its entries cannot be searched; then nothing
    /// changes.
    pub(super) fn swap(&self, progress: &mut Progress, checked: Snapshot) -> Result<u64, EngineError> {
        let is_same_model = is_same_model(&self.shared.current.load().index, &checked.index);
        checked.usage.inherit(&self.shared.current.load().usage);
        let manifest = checked.manifest.manifest;
        let index = Arc::clone(&checked.index);
        let log = || {
            let log = self.attached_log()?;
            // The first write may have created it since the position was checked.
            check_position(&index, log.as_deref(), true)?;
            Ok(log)
        };
        let old = Arc::clone(&self.shared.current.load().index);
        // A running rebuild is based on the old generation. One that is started once the new one can be seen is not.
        self.rebuilder.cancel();
        self.learner.cancel();
        let before = self.background.pool.install(|| self.shared.swap(checked, &log))?;
        self.sample.begin_generation(manifest, is_same_model);
        (progress.checked, progress.uncalibrated) = (true, None);
        progress.residence.begin_generation();
        self.serving.swapped();
        wait_for_searches(old);
        self.tidy(before.generation);
        Ok(before.generation)
    }

    pub(super) fn tidier(&self) -> Tidy<'_> {
        let (store, shared, options) = (&self.store, &self.shared, self.rebuilder.options());
        Tidy { name: &self.name, store, folder: &self.folder, shared, options }
    }

    /// Removes old generations and log entries, if this process writes the index. A panic is reported, and does not end a
    /// swap that is finished.
    pub(super) fn tidy(&self, previous: u64) {
        let _ = self.background.supervisor.run(Task::Refresh, || {
            if let Some(log) = self.log.written()
                && self.check_in_place().is_ok()
            {
                self.tidier().run(&*log, previous);
            }
        });
    }
}

/// Waits for searches to release a generation, or an index with its generation, and drops it. Unmapping takes
/// milliseconds, and the last owner does it: that must not be a search.
pub(crate) fn wait_for_searches<T>(old: Arc<T>) {
    let began = Instant::now();
    while Arc::strong_count(&old) > 1 && began.elapsed() < LONGEST_SEARCH {
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::{Path, PathBuf};

    use tempfile::TempDir;

    use super::*;
    use crate::base::id::VideoId;
    use crate::engine::options::EngineOptions;
    use crate::engine::supervise::Background;
    use crate::live::{LogError, Mutation, RedbLog};
    use crate::{Dataset, Metric};

    /// Two folders, and a link to the first.
    fn folders() -> (TempDir, PathBuf) {
        let root = tempfile::tempdir().unwrap();
        for name in ["one", "two"] {
            let dataset = Dataset::from_rows(2, vec![1.0, 0.0, 0.0, 1.0, 0.7, 0.7]).unwrap();
            let builder = crate::Index::builder(Metric::InnerProduct);
            builder.publish(&dataset, root.path().join(name)).unwrap();
        }
        let link = root.path().join("link");
        symlink(root.path().join("one"), &link).unwrap();
        (root, link)
    }

    fn lead(link: &Path, target: &str) {
        fs::remove_file(link).unwrap();
        symlink(link.with_file_name(target), link).unwrap();
    }

    fn open(dir: &Path) -> ServedIndex {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
        let background =
            Background { pool: Arc::new(pool), supervisor: Arc::default(), copying: Arc::default() };
        let options = EngineOptions { is_writable: true, ..EngineOptions::default() };
        ServedIndex::open("videos".to_owned(), dir.to_owned(), &options, &background).unwrap()
    }

    fn swap(served: &ServedIndex) -> Result<u64, EngineError> {
        let (manifest, index) = served.store.open_manifest(1)?;
        let snapshot = Snapshot::new(manifest, index, &served.store)?;
        served.swap(&mut served.progress.lock(), snapshot)
    }

    fn takedown() -> Vec<Mutation> {
        vec![Mutation::Takedown(VideoId(1))]
    }

    /// As if the files were released while a swap is prepared.
    #[test]
    fn nothing_is_swapped_in_after_the_log_was_closed() {
        let (_root, link) = folders();
        let served = open(&link);
        served.log.write(takedown()).unwrap();
        swap(&served).unwrap();
        assert!(served.shared.is_taken_down(VideoId(1)));
        served.release("on purpose");
        assert!(!served.withdraw(&EngineError::Cancelled) && served.withdraw(&EngineError::Cancelled));
        for swapped in [swap(&served).map(drop), served.activate(1, true)] {
            assert!(
                matches!(&swapped, Err(EngineError::ReadOnly { problem, .. }) if problem == "on purpose")
            );
        }
        assert_eq!(served.store.manifests().unwrap(), [1]);
        assert!(served.shared.is_taken_down(VideoId(1)));
        // A swap that was finished before.
        served.serving.swapped();
        assert!(matches!(served.snapshot(), Err(EngineError::OutOfService { .. })));
    }

    /// As if the link were led elsewhere after the last look at it.
    #[test]
    fn a_folder_that_takes_the_path_gets_no_log_and_is_not_swapped_in() {
        let (root, link) = folders();
        let served = open(&link);
        lead(&link, "two");
        assert!(matches!(swap(&served), Err(EngineError::ReadOnly { .. })));
        assert!(matches!(served.log.write(takedown()), Err(LogError::Displaced(_))));
        served.log.retry();
        for name in ["one", "two"] {
            assert_eq!(fs::read_dir(root.path().join(name)).unwrap().count(), 2, "{name}");
        }
        lead(&link, "one");
        served.log.write(takedown()).unwrap();
        swap(&served).unwrap();
        assert!(served.shared.is_taken_down(VideoId(1)));
    }

    #[test]
    fn a_log_is_closed_once_nothing_reads_it() {
        let (_root, link) = folders();
        let served = open(&link);
        served.log.write(takedown()).unwrap();
        let read = served.log.log().unwrap();
        std::thread::scope(|scope| {
            let reopened = scope.spawn(|| {
                served.release("on purpose");
                RedbLog::open(link.join("mutations.redb")).map(drop)
            });
            while served.log.log().is_ok() {
                std::thread::yield_now();
            }
            drop(read);
            reopened.join().unwrap().unwrap();
        });
    }
}
