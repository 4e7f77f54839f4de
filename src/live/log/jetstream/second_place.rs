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
use crate::live::log::mutation_log::MutationLog as _;
use crate::live::log::redb_log::RedbLog;

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

/// Takes down what was recorded in the second place, and is not in the log for whatever reason. Returns those videos.
pub(super) fn add_takedowns(received: &RedbLog, recorded: &Recorded) -> Result<Vec<VideoId>, LogError> {
    let known: BTreeMap<VideoId, u64> = received.takedowns()?.into_iter().collect();
    let last = received.last_sequence();
    // Later ones are received.
    let is_missing = |video: &VideoId, sequence: u64| sequence <= last && !known.contains_key(video);
    let missing: Vec<(VideoId, u64)> = recorded
        .iter()
        .filter(|(video, (sequence, is_down))| *is_down && is_missing(video, *sequence))
        .map(|(video, (sequence, _))| (*video, *sequence))
        .collect();
    if !missing.is_empty() {
        tracing::warn!(takedowns = missing.len(), "takedowns of the bucket were not in the log");
        received.add_takedowns(&missing)?;
    }
    Ok(missing.into_iter().map(|(video, _)| video).collect())
}

/// Takedowns that were read late, until somebody takes them.
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
}
