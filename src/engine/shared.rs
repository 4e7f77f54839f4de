//! What the searches of an index and the writes to it share: the snapshot that answers, and what was written.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use parking_lot::Mutex;

use super::error::EngineError;
use super::live::LiveState;
use super::snapshot::Snapshot;
use crate::id::VideoId;
use crate::index::{IndexStore, Manifest};
use crate::live::{Entry, MutationLog};

/// Entries that are read from the log at a time.
const ENTRIES_AT_ONCE: usize = 10_000;
/// Parts of more videos than these are merged beside the writes, not by them.
const MERGED_BY_WRITES: usize = 4_096;

/// The snapshot that answers, and the state that it was made of.
#[derive(Debug)]
pub(super) struct Shared {
    /// Replaced only by who holds `live`.
    pub(super) current: ArcSwap<Snapshot>,
    live: Mutex<LiveState>,
}

impl Shared {
    pub(super) fn new(snapshot: Snapshot) -> Self {
        let live = LiveState::new(Arc::clone(&snapshot.index));
        let current = ArcSwap::from_pointee(snapshot.with_live(&live));
        Self { current, live: Mutex::new(live) }
    }

    /// Reads what was written, or makes sure of it.
    pub(super) fn with_live<R>(&self, read: impl FnOnce(&LiveState) -> R) -> R {
        read(&self.live.lock())
    }

    /// Lets searches know of entries that follow those before.
    ///
    /// # Errors
    /// If they cannot be searched; then nothing of them is.
    pub(super) fn apply(&self, entries: &[Entry]) -> Result<(), EngineError> {
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
    pub(super) fn swap(
        &self,
        snapshot: Snapshot,
        log: Option<&dyn MutationLog>,
    ) -> Result<Manifest, EngineError> {
        // Whoever writes meanwhile is acknowledged after the swap.
        let mut live = self.live.lock();
        let fresh = replayed(&snapshot, log)?;
        let before = self.current.load().manifest.clone();
        *live = fresh;
        self.current.store(Arc::new(snapshot.with_live(&live)));
        Ok(before)
    }

    /// Lets searches know of all that is in the log.
    ///
    /// # Errors
    /// If the log cannot be read or searched.
    pub(super) fn replay(&self, log: &dyn MutationLog) -> Result<(), EngineError> {
        let mut live = self.live.lock();
        *live = replayed(&self.current.load(), Some(log))?;
        self.publish(&live);
        Ok(())
    }

    /// Hides what has expired.
    pub(super) fn expire(&self) {
        let mut live = self.live.lock();
        live.expire(Timestamp::now());
        self.publish(&live);
    }

    /// Takes the newest calibration of what answers, if there is a newer one.
    pub(super) fn recalibrate(&self, store: &IndexStore) -> Option<Arc<Snapshot>> {
        let _live = self.live.lock();
        let snapshot = Arc::new(self.current.load().recalibrated(store).ok()??);
        self.current.store(Arc::clone(&snapshot));
        Some(snapshot)
    }

    /// Merges the parts that have become many or large, while writes go on.
    pub(super) fn merge_parts(&self) {
        loop {
            let merge = {
                let live = self.live.lock();
                let Some(first) = live.to_merge() else { return };
                live.merge(first, Timestamp::now())
            };
            match merge.build() {
                Ok(merged) => {
                    let mut live = self.live.lock();
                    live.put(&merge, merged, Timestamp::now());
                    self.publish(&live);
                }
                Err(error) => {
                    tracing::error!(%error, "parts of an index could not be merged");
                    return;
                }
            }
        }
    }

    /// Whether a video is taken down.
    pub(super) fn is_taken_down(&self, video: VideoId) -> bool {
        self.live.lock().takedowns.contains(&video)
    }

    fn publish(&self, live: &LiveState) {
        let snapshot = self.current.load().with_live(live);
        self.current.store(Arc::new(snapshot));
    }
}

/// What the log says of a generation.
fn replayed(snapshot: &Snapshot, log: Option<&dyn MutationLog>) -> Result<LiveState, EngineError> {
    let mut live = LiveState::new(Arc::clone(&snapshot.index));
    let Some(log) = log else { return Ok(live) };
    live.sequence = log.trimmed_to();
    let trimmed = log.takedowns()?.into_iter().filter(|(_, sequence)| *sequence <= log.trimmed_to());
    live.take_down(trimmed.map(|(video, _)| video));
    loop {
        let entries = log.read(live.sequence, ENTRIES_AT_ONCE)?;
        if entries.is_empty() {
            return Ok(live);
        }
        live.apply(&entries, Timestamp::now()).map_err(unsearchable)?;
        merge_small(&mut live)?;
    }
}

/// Merges what is done before a write has waited long.
fn merge_small(live: &mut LiveState) -> Result<(), EngineError> {
    while let Some(first) = live.to_merge().filter(|first| live.len_from(*first) <= MERGED_BY_WRITES) {
        let merge = live.merge(first, Timestamp::now());
        let merged = merge.build().map_err(unsearchable)?;
        live.put(&merge, merged, Timestamp::now());
    }
    Ok(())
}

fn unsearchable(error: super::live::ApplyError) -> EngineError {
    EngineError::Unsearchable { problem: error.to_string() }
}
