//! Opens the log of an index: from what this process received before, or from a generation.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::connection::{Connection, Range};
use super::digest::Hasher;
use super::options::StreamOptions;
use super::second_place::{Late, Recorded, add_takedowns, read};
use super::stream_log::{BATCHES, StreamLog};
use crate::base::file_identity::is_there;
use crate::base::id::VideoId;
use crate::live::log::error::LogError;
use crate::live::log::mutation_log::MutationLog as _;
use crate::live::log::redb_log::RedbLog;
use crate::live::log::shared_log::{OpenSharedLog, SharedLog};

/// How long a start waits for servers that cannot be reached, if nothing was received before.
const START: Duration = Duration::from_secs(20);
/// How long a start waits for the next message of those that it must receive.
const CATCH_UP: Duration = Duration::from_secs(10);

/// Opens the log of an index in a stream.
#[derive(Debug)]
pub struct StreamOpener {
    options: StreamOptions,
}

impl StreamOpener {
    /// Opens logs in the stream that `options` describe.
    ///
    /// # Errors
    /// If no stream can have the name, or a URL of a server has a user.
    pub fn new(options: StreamOptions) -> Result<Self, LogError> {
        let misconfigured = |problem| LogError::Misconfigured { problem };
        options.stream_name().map_err(misconfigured)?;
        options.nats.check().map_err(misconfigured)?;
        Ok(Self { options })
    }

    /// Removes the entries of the stream up to `to`, for all processes. Of takedowns among them stays what is recorded in a second
    /// place: remove only what was written with one.
    ///
    /// # Errors
    /// [`LogError::Unreachable`].
    pub fn trim(&self, to: u64) -> Result<(), LogError> {
        let connection = Connection::open(&self.options)?;
        connection.run(connection.purge(to))
    }

    /// Opens the log. As [`OpenSharedLog::open`].
    ///
    /// # Errors
    /// Those of [`OpenSharedLog::open`].
    pub fn open_log(&self, path: &Path, held: &[u64]) -> Result<StreamLog, LogError> {
        let connection = Connection::open(&self.options)?;
        let is_cached = is_there(path).map_err(LogError::io(path))?;
        let began = Instant::now();
        let range = loop {
            match connection.run(self.range(&connection, held)) {
                // The servers may be starting, too.
                Err(error @ LogError::Unreachable { .. }) if !is_cached && began.elapsed() < START => {
                    tracing::warn!(%error, "waits for the log");
                }
                range => break range,
            }
        };
        // Of those that the log brings, what was received before has all.
        let (taken_down, late) = match self.takedowns(&connection) {
            Ok(taken_down) => (taken_down, None),
            Err(error) if is_cached => {
                tracing::warn!(%error, "opens the log before the takedowns in the bucket are read");
                let records = self.options.takedowns.as_ref().map(Arc::clone);
                (Recorded::new(), records.map(|records| Late::begin(records, self.options.shard)))
            }
            Err(error) => return Err(error),
        };
        let opened = range.and_then(|range| {
            let received = self.received(path, &connection, range, held, &taken_down)?;
            Ok((received, Some(range.last)))
        });
        let (received, last) = match opened {
            // What was received before is served until the stream has what follows.
            Err(error) if error.may_end() && is_cached => {
                tracing::warn!(%error, "opens what was received of the log before");
                (RedbLog::open(path)?, None)
            }
            opened => opened?,
        };
        add_takedowns(&received, &taken_down)?;
        let log = StreamLog {
            connection,
            received,
            shard: self.options.shard,
            takedowns: self.options.takedowns.clone(),
            late,
            receiver: Mutex::new(None),
            hasher: Mutex::new(Hasher::default()),
            permits: Semaphore::new(BATCHES),
        };
        // What was acknowledged before the start is served from the start.
        while last.is_some_and(|last| log.last_sequence() < last) {
            match log.fetch(CATCH_UP) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) if error.may_end() => {
                    tracing::warn!(%error, "serves before the whole log was received");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(log)
    }

    /// Returns which entries are in the stream, which is created if nothing was ever written to it.
    async fn range(&self, connection: &Connection, held: &[u64]) -> Result<Range, LogError> {
        if let Some(range) = connection.range().await? {
            return Ok(range);
        }
        // Otherwise it was lost, and an operator decides what follows.
        if let Some(after) = held.iter().copied().max().filter(|after| *after > 0) {
            return Err(LogError::Behind { log: connection.name(), after, last: 0 });
        }
        connection.create(0, self.options.replicas).await?;
        let created = connection.range().await?;
        created.ok_or_else(|| connection.unreachable("the stream was removed"))
    }

    /// Opens the file with what was received. It is made anew, after what a generation contains, if there is none, or if entries
    /// after it are gone.
    fn received(
        &self,
        path: &Path,
        connection: &Connection,
        range: Range,
        held: &[u64],
        taken_down: &Recorded,
    ) -> Result<RedbLog, LogError> {
        let mut known: BTreeMap<VideoId, u64> = BTreeMap::new();
        if is_there(path).map_err(LogError::io(path))? {
            let received = RedbLog::open(path)?;
            let last = received.last_sequence();
            if last > range.last {
                return Err(LogError::Behind { log: connection.name(), after: last, last: range.last });
            }
            if last + 1 >= range.first {
                return Ok(received);
            }
            tracing::warn!(last, first = range.first, "entries after those that were received are gone");
            known.extend(received.takedowns()?);
        }
        let newest = held.iter().copied().max().unwrap_or(0);
        if newest > range.last {
            return Err(LogError::Behind { log: connection.name(), after: newest, last: range.last });
        }
        let usable = held.iter().copied().filter(|held| held + 1 >= range.first).min();
        let Some(after) = usable else {
            return Err(LogError::Gone { log: connection.name(), after: newest, first: range.first });
        };
        for (video, (sequence, is_down)) in taken_down {
            match is_down {
                true => _ = known.insert(*video, *sequence),
                false => _ = known.remove(video),
            }
        }
        // What comes later is received again.
        let known: Vec<(VideoId, u64)> =
            known.into_iter().map(|(video, sequence)| (video, sequence.min(after))).collect();
        RedbLog::replace_received(path, &known, after)?;
        RedbLog::open(path)
    }

    fn takedowns(&self, connection: &Connection) -> Result<Recorded, LogError> {
        let Some(records) = &self.options.takedowns else { return Ok(Recorded::new()) };
        let unreachable = |problem| connection.unreachable(format!("takedowns: {problem}"));
        read(&**records, self.options.shard).map_err(unreachable)
    }
}

impl OpenSharedLog for StreamOpener {
    fn open(&self, cache: &Path, held: &[u64]) -> Result<Arc<dyn SharedLog>, LogError> {
        Ok(Arc::new(self.open_log(cache, held)?))
    }
}
