//! What the searches of an index and the writes to it share: the snapshot that answers, and what was written.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;

use crate::base::id::VideoId;
use crate::engine::error::EngineError;
use crate::engine::query::snapshot::Snapshot;
use crate::index::{IndexStore, Manifest};
use crate::live::delta::state::{ApplyError, LiveState, MERGED_BY_WRITES};
use crate::live::{Entry, MutationLog};

/// Entries that are read from the log at a time: no graph is built of them, so that a start is quick.
const ENTRIES_AT_ONCE: usize = MERGED_BY_WRITES;

/// The snapshot that answers, and the state that it was made of.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Replaced only by who holds `live`.
    pub(crate) current: ArcSwap<Snapshot>,
    live: Mutex<LiveState>,
}

impl Shared {
    /// `snapshot` answers, with all that is in the log.
    ///
    /// # Errors
    /// If the log cannot be read or searched.
    pub(crate) fn new(snapshot: Snapshot, log: Option<&dyn MutationLog>) -> Result<Self, EngineError> {
        let live = caught_up(&snapshot, log)?;
        let current = ArcSwap::from_pointee(snapshot.with_live(&live));
        Ok(Self { current, live: Mutex::new(live) })
    }

    /// Looks at what was written.
    pub(crate) fn with_live<R>(&self, read: impl FnOnce(&LiveState) -> R) -> R {
        read(&self.live.lock())
    }

    /// Lets searches know of entries that follow those before.
    ///
    /// # Errors
    /// If they cannot be searched; then nothing of them is.
    pub(crate) fn apply(&self, entries: &[Entry]) -> Result<(), EngineError> {
        let mut live = self.live.lock();
        live.apply(entries, Timestamp::now()).map_err(unsearchable)?;
        merge_small(&mut live)?;
        self.publish(&live);
        Ok(())
    }

    /// Lets another generation answer, with all that is in the log; gives the manifest of the one before.
    ///
    /// # Errors
    /// If the log cannot be read or searched; then the one before goes on.
    pub(crate) fn swap(
        &self,
        snapshot: Snapshot,
        log: Option<&dyn MutationLog>,
    ) -> Result<Manifest, EngineError> {
        let mut fresh = caught_up(&snapshot, log)?;
        // The one before answers meanwhile, and many parts would be slow to search.
        while let Some(merge) = fresh.large_merge(Timestamp::now()) {
            let merged = merge.build().map_err(unsearchable)?;
            fresh.put(&merge, merged, Timestamp::now());
        }
        // Whoever writes from here on is acknowledged after the swap; there is little left to catch up with.
        let mut live = self.live.lock();
        log.map_or(Ok(()), |log| catch_up(&mut fresh, log))?;
        let before = self.current.load().manifest.clone();
        *live = fresh;
        self.current.store(Arc::new(snapshot.with_live(&live)));
        Ok(before)
    }

    /// Lets searches know of all that is in a log that they did not know of.
    ///
    /// # Errors
    /// If it cannot be read or searched.
    pub(crate) fn replay(&self, log: &dyn MutationLog) -> Result<(), EngineError> {
        let mut live = self.live.lock();
        *live = caught_up(&self.current.load(), Some(log))?;
        self.publish(&live);
        Ok(())
    }

    /// Hides what has expired.
    pub(crate) fn expire(&self) {
        let mut live = self.live.lock();
        let now = Timestamp::now();
        // Others may have come to it first.
        if live.next_expiry() <= now.as_microsecond() {
            live.expire(now);
            self.publish(&live);
        }
    }

    /// Takes the newest calibration of what answers, if there is a newer one.
    pub(crate) fn recalibrate(&self, store: &IndexStore) -> Option<Arc<Snapshot>> {
        let _live = self.live.lock();
        let snapshot = Arc::new(self.current.load().recalibrated(store).ok()??);
        self.current.store(Arc::clone(&snapshot));
        Some(snapshot)
    }

    /// Merges the parts that have become too large for the writes to do it, which go on, on `pool`.
    pub(crate) fn merge_parts(&self, pool: &rayon::ThreadPool) {
        loop {
            let merge = self.with_live(|live| live.large_merge(Timestamp::now()));
            let Some(merge) = merge else { return };
            let put = |merged| {
                let mut live = self.live.lock();
                live.put(&merge, merged, Timestamp::now());
                self.publish(&live);
            };
            if let Err(error) = pool.install(|| merge.build()).map(put) {
                tracing::error!(%error, "parts of an index could not be merged");
                return;
            }
        }
    }

    /// Whether a video is taken down.
    pub(crate) fn is_taken_down(&self, video: VideoId) -> bool {
        self.live.lock().takedowns.contains(&video)
    }

    fn publish(&self, live: &LiveState) {
        let snapshot = self.current.load().with_live(live);
        self.current.store(Arc::new(snapshot));
    }
}

/// A generation with all that is in the log.
fn caught_up(snapshot: &Snapshot, log: Option<&dyn MutationLog>) -> Result<LiveState, EngineError> {
    let base = Arc::clone(&snapshot.index);
    let Some(log) = log else { return Ok(LiveState::new(base)) };
    let mut live = LiveState::before(base, log)?;
    catch_up(&mut live, log)?;
    Ok(live)
}

/// Takes in what the log has and `live` does not know of.
fn catch_up(live: &mut LiveState, log: &dyn MutationLog) -> Result<(), EngineError> {
    loop {
        let entries = log.read(live.sequence, ENTRIES_AT_ONCE)?;
        if entries.is_empty() {
            return Ok(());
        }
        live.apply(&entries, Timestamp::now()).map_err(unsearchable)?;
        merge_small(live)?;
    }
}

fn merge_small(live: &mut LiveState) -> Result<(), EngineError> {
    while let Some(merge) = live.small_merge(Timestamp::now()) {
        let merged = merge.build().map_err(unsearchable)?;
        live.put(&merge, merged, Timestamp::now());
    }
    Ok(())
}

fn unsearchable(error: ApplyError) -> EngineError {
    EngineError::Unsearchable { problem: error.to_string() }
}
