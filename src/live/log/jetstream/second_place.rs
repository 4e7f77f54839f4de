//! The second place for takedowns: what the log lacks of it is added at each start, or later if the start could not read it.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::options::TakedownRecords;
use crate::base::id::VideoId;
use crate::base::partition::Shard;
use crate::live::log::error::LogError;
use crate::live::log::mutation::{Entry, Mutation};
use crate::live::log::mutation_log::MutationLog as _;
use crate::live::log::redb_log::RedbLog;

/// Entries that are read at a time.
const READ_AT_ONCE: usize = 4096;
/// The pause before each attempt.
const PAUSE: Duration = Duration::from_secs(2);

/// The last write about each video: its number, and whether it took the video down.
pub(super) type Recorded = BTreeMap<VideoId, (u64, bool)>;

/// Reads the takedowns of a shard.
///
/// # Errors
/// The problem, if not all can be read.
pub(super) fn read(records: &dyn TakedownRecords, shard: Shard) -> Result<Recorded, String> {
    let own = records.all()?.into_iter().filter(|(video, ..)| shard.contains(*video));
    Ok(own.map(|(video, sequence, is_down)| (video, (sequence, is_down))).collect())
}

/// Takes down what was recorded in the second place, and is not in the log for whatever reason. Returns those videos. The end of a
/// takedown that is in the log only is recorded in `records`.
pub(super) fn add_takedowns(
    received: &RedbLog,
    recorded: &Recorded,
    records: Option<&dyn TakedownRecords>,
) -> Result<Vec<VideoId>, LogError> {
    let known: BTreeMap<VideoId, u64> = received.takedowns()?.into_iter().collect();
    let last = received.last_sequence();
    // Later ones are still to come from the stream.
    let is_missing = |video: &VideoId, sequence: u64| sequence <= last && !known.contains_key(video);
    let mut missing: BTreeMap<VideoId, u64> = recorded
        .iter()
        .filter(|(video, (sequence, is_down))| *is_down && is_missing(video, *sequence))
        .map(|(video, (sequence, _))| (*video, *sequence))
        .collect();
    let Some(first) = missing.values().copied().min() else { return Ok(Vec::new()) };
    for (video, sequence) in restored_after(received, first)? {
        if missing.get(&video).is_some_and(|taken_down| *taken_down < sequence) {
            missing.remove(&video);
            if let Some(Err(problem)) = records.map(|records| records.record(video, sequence, false)) {
                tracing::warn!(problem, sequence, "cannot record the end of a takedown in the bucket");
            }
        }
    }
    if !missing.is_empty() {
        tracing::warn!(takedowns = missing.len(), "takedowns of the bucket were not in the log");
        received.add_takedowns(
            &missing.iter().map(|(video, sequence)| (*video, *sequence)).collect::<Vec<_>>(),
        )?;
    }
    Ok(missing.into_keys().collect())
}

/// Returns the last entry after `after` that restores each video.
fn restored_after(received: &RedbLog, mut after: u64) -> Result<BTreeMap<VideoId, u64>, LogError> {
    let mut restored = BTreeMap::new();
    loop {
        let entries = received.read(after, READ_AT_ONCE)?;
        let Some(last) = entries.last() else { return Ok(restored) };
        after = last.sequence;
        for Entry { sequence, mutation } in entries {
            if let Mutation::Restore(video) = mutation {
                restored.insert(video, sequence);
            }
        }
    }
}

/// Takedowns that were read late, until the tail applies them.
#[derive(Debug, Default)]
pub(super) struct Late(Mutex<Option<Recorded>>);

impl Late {
    /// Reads on a thread of its own until that succeeds, or the result is dropped.
    pub(super) fn begin(records: Arc<dyn TakedownRecords>, shard: Shard) -> Arc<Self> {
        let late = Arc::<Self>::default();
        let to: Weak<Self> = Arc::downgrade(&late);
        let read = move || {
            loop {
                thread::sleep(PAUSE);
                let Some(late) = to.upgrade() else { return };
                match read(&*records, shard) {
                    Ok(recorded) => return *late.0.lock() = Some(recorded),
                    Err(problem) => tracing::warn!(problem, "cannot read the takedowns in the bucket"),
                }
            }
        };
        if let Err(error) = thread::Builder::new().name("takedowns".to_owned()).spawn(read) {
            tracing::error!(%error, "the takedowns in the bucket are not read");
        }
        late
    }

    pub(super) fn take(&self) -> Option<Recorded> {
        self.0.lock().take()
    }

    pub(super) fn put_back(&self, recorded: Recorded) {
        *self.0.lock() = Some(recorded);
    }
}
