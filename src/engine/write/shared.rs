//! The state that the searches of an index and the writes to it share: the current snapshot and its delta.

use std::sync::Arc;

use jiff::Timestamp;

use crate::base::clock::settled_now;
use crate::base::id::VideoId;
use crate::base::sync::{ArcSwap, Mutex};
use crate::engine::error::EngineError;
use crate::engine::query::calibrated::Calibrated;
use crate::engine::query::snapshot::{self, Snapshot};
use crate::index::{Index, IndexStore, Manifest};
use crate::live::delta::state::{ApplyError, LiveState, MERGED_BY_WRITES};
use crate::live::{Entry, MutationLog, Received};

/// Number of entries read from the log at a time. No graph is built of this few, so that a start is quick.
const ENTRIES_AT_ONCE: usize = MERGED_BY_WRITES;

/// Returns the log if there is one. It is asked for before each step and released after it: a log that somebody holds cannot
/// be closed.
pub(crate) type LogSource<'a> = &'a dyn Fn() -> Result<Option<Arc<dyn MutationLog>>, EngineError>;

/// The current snapshot, and the state that it was made from.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Replaced only while `live` is locked, or by the same snapshot without expired videos.
    pub(crate) current: ArcSwap<Snapshot>,
    live: Mutex<LiveState>,
}

impl Shared {
    /// Starts with `snapshot` and all entries of the log.
    ///
    /// # Errors
    /// If the log cannot be read or searched.
    pub(crate) fn new(snapshot: Snapshot, log: LogSource<'_>) -> Result<Self, EngineError> {
        // From now on, steps of the clock are noticed.
        let _ = settled_now();
        let live = caught_up(&snapshot, log)?;
        let current = ArcSwap::from_pointee(snapshot.with_live(&live));
        Ok(Self { current, live: Mutex::new(live) })
    }

    /// Runs `read` with the delta locked.
    pub(crate) fn with_live<R>(&self, read: impl FnOnce(&LiveState) -> R) -> R {
        read(&self.live.lock())
    }

    /// Makes log entries visible to searches. They must follow the earlier ones.
    ///
    /// # Errors
    /// If no segment can be built from them; then none is visible.
    pub(crate) fn apply(&self, entries: &[Entry]) -> Result<(), EngineError> {
        let mut live = self.live.lock();
        live.apply(entries).map_err(unsearchable)?;
        compact_small(&mut live)?;
        self.publish(&mut live);
        Ok(())
    }

    /// Makes what a shared log received visible to searches. It must follow what was received before.
    ///
    /// # Errors
    /// As [`Shared::apply`].
    pub(crate) fn receive(&self, received: &Received) -> Result<(), EngineError> {
        let mut live = self.live.lock();
        live.apply(&received.entries).map_err(unsearchable)?;
        live.take_down(&received.taken_down);
        live.sequence = live.sequence.max(received.last);
        compact_small(&mut live)?;
        self.publish(&mut live);
        Ok(())
    }

    /// Applies the entries of the log that were written since the last call.
    ///
    /// # Errors
    /// If the log cannot be read, or no segment can be built from an entry.
    pub(crate) fn catch_up(&self, log: LogSource<'_>) -> Result<(), EngineError> {
        let mut live = self.live.lock();
        let before = live.sequence;
        catch_up(&mut live, log)?;
        if live.sequence > before {
            self.publish(&mut live);
        }
        Ok(())
    }

    /// Swaps in the snapshot of another generation with all entries of the log. Returns the manifest that was current. No
    /// log is created between the last call of `log` and the swap.
    ///
    /// # Errors
    /// Those of `log`, and if it cannot be read, or no segment can be built from it; then nothing changes.
    pub(crate) fn swap(&self, snapshot: Snapshot, log: LogSource<'_>) -> Result<Manifest, EngineError> {
        let mut fresh = caught_up(&snapshot, log)?;
        // Compact first, while the current snapshot answers: many segments would be slow to search.
        while let Some(compaction) = fresh.large_compaction(settled_now()) {
            let merged = compaction.build().map_err(unsearchable)?;
            fresh.replace(&compaction, merged);
        }
        fresh.expire(Timestamp::now());
        // Later writes are acknowledged after the swap. Few entries are left to apply.
        let mut live = self.live.lock();
        catch_up(&mut fresh, log)?;
        let before = self.current.load().manifest.clone();
        *live = fresh;
        self.current.store(Arc::new(snapshot.with_live(&live)));
        Ok(before)
    }

    /// Returns the current snapshot without videos that have expired. Does not wait for writes: the first search after an
    /// expiry makes the snapshot, and replaces the current one unless a write just did.
    pub(crate) fn unexpired(&self) -> Arc<Snapshot> {
        snapshot::unexpired(&self.current)
    }

    /// Tombstones expired videos in the delta, from which writes make snapshots. What expired by a clock that was set back
    /// since is searched again.
    pub(crate) fn expire(&self) {
        let mut live = self.live.lock();
        let now = Timestamp::now().as_microsecond();
        // A search may have made the current snapshot while the clock was wrong.
        let last = live.segments.last_expiry().max(self.current.load().segments.last_expiry());
        if live.segments.next_expiry() <= now || last > now {
            self.publish(&mut live);
        }
    }

    /// Loads the newest calibration of the current generation. Returns the new snapshot if there was a newer one.
    pub(crate) fn recalibrate(&self, store: &IndexStore) -> Option<Arc<Snapshot>> {
        // Read without a lock: a folder that stalls must not stop writes, nor searches that wait for one.
        let before = self.current.load_full();
        let calibrated = Arc::new(before.reload_calibration(store).ok()??);
        self.set_calibration(&before, calibrated)
    }

    /// Replaces the calibration of the generation of `measured`. Returns the new snapshot unless another generation was
    /// swapped in, or another calibration loaded, meanwhile.
    pub(crate) fn set_calibration(
        &self,
        measured: &Snapshot,
        calibrated: Arc<Calibrated>,
    ) -> Option<Arc<Snapshot>> {
        let _live = self.live.lock();
        let current = self.current.load();
        let is_of_generation = Arc::ptr_eq(&current.usage, &measured.usage);
        if !is_of_generation || !Arc::ptr_eq(&current.calibrated, &measured.calibrated) {
            return None;
        }
        let snapshot = Arc::new(current.with_calibration(calibrated));
        self.current.store(Arc::clone(&snapshot));
        Some(snapshot)
    }

    /// Serves `index`, which is `before` mapped again, in its place. Returns false if that is not current; then nothing
    /// changes. Searches that began before use `before` to their end.
    pub(crate) fn replace_map(&self, before: &Arc<Index>, index: Index) -> bool {
        let mut live = self.live.lock();
        let current = self.current.load();
        if !Arc::ptr_eq(&current.index, before) {
            return false;
        }
        live.segments.set_base(Arc::new(index));
        live.expire(Timestamp::now());
        self.current.store(Arc::new(current.with_base(&live)));
        true
    }

    /// Tombstones expired videos, and compacts the segments that are too large to be merged by writes, on `pool`. Writes
    /// continue.
    pub(crate) fn compact(&self, pool: &rayon::ThreadPool) {
        self.expire();
        loop {
            let due = self.with_live(|live| live.large_compaction(settled_now()));
            let Some(compaction) = due else { return };
            let put = |merged| {
                let mut live = self.live.lock();
                live.replace(&compaction, merged);
                self.publish(&mut live);
            };
            if let Err(error) = pool.install(|| compaction.build()).map(put) {
                tracing::error!(%error, "delta segments of an index could not be compacted");
                return;
            }
        }
    }

    /// Returns whether a video is taken down.
    pub(crate) fn is_taken_down(&self, video: VideoId) -> bool {
        self.live.lock().takedowns.contains(&video)
    }

    fn publish(&self, live: &mut LiveState) {
        live.expire(Timestamp::now());
        let snapshot = self.current.load().with_live(live);
        self.current.store(Arc::new(snapshot));
    }
}

/// Returns the state of a generation with all entries of the log.
fn caught_up(snapshot: &Snapshot, log: LogSource<'_>) -> Result<LiveState, EngineError> {
    let base = Arc::clone(&snapshot.index);
    let mut live = match log()? {
        Some(log) => LiveState::before(base, &*log)?,
        None => LiveState::new(base),
    };
    catch_up(&mut live, log)?;
    live.expire(Timestamp::now());
    Ok(live)
}

/// Applies the entries of the log that `live` does not contain.
fn catch_up(live: &mut LiveState, log: LogSource<'_>) -> Result<(), EngineError> {
    loop {
        let Some(log) = log()? else { return Ok(()) };
        // Before the read: an entry that is appended meanwhile is read later.
        let last = log.last_sequence();
        let entries = log.read(live.sequence, ENTRIES_AT_ONCE)?;
        if entries.is_empty() {
            // All entries up to this one are in the generation, or of videos that this process does not have.
            live.sequence = live.sequence.max(last);
            return Ok(());
        }
        drop(log);
        live.apply(&entries).map_err(unsearchable)?;
        compact_small(live)?;
    }
}

fn compact_small(live: &mut LiveState) -> Result<(), EngineError> {
    while let Some(compaction) = live.small_compaction(settled_now()) {
        let merged = compaction.build().map_err(unsearchable)?;
        live.replace(&compaction, merged);
    }
    Ok(())
}

fn unsearchable(error: ApplyError) -> EngineError {
    EngineError::Unsearchable { problem: error.to_string() }
}
