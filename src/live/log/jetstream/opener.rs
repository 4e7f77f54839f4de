//! Opens the log of an index: from what this process received before, or from a generation.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::connection::{Connection, Range};
use super::digest::Hasher;
use super::options::StreamOptions;
use super::receiver::Receiver;
use super::second_place::{Late, Recorded, add_takedowns, read};
use super::stream_log::{BATCHES, StreamLog};
use crate::base::file_identity::is_there;
use crate::base::id::VideoId;
use crate::live::log::error::LogError;
use crate::live::log::mutation::Mutation;
use crate::live::log::mutation_log::MutationLog as _;
use crate::live::log::record::decode;
use crate::live::log::redb_log::RedbLog;
use crate::live::log::shared_log::{OpenSharedLog, SharedLog};
use crate::live::log::tables::Origin;

/// How long a start waits for servers that cannot be reached, if nothing was received before.
const START: Duration = Duration::from_secs(20);
/// The pause before it asks them again.
const PAUSE: Duration = Duration::from_millis(200);
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

    /// Returns the first entry that the stream has, or will have; `None` if there is no stream.
    ///
    /// # Errors
    /// [`LogError::Unreachable`].
    pub fn first_entry(&self) -> Result<Option<u64>, LogError> {
        let connection = Connection::open(&self.options)?;
        Ok(connection.run(connection.range())?.map(|range| range.first))
    }

    /// Removes the entries of the stream up to `to`, for all processes. Takedowns among them, and their ends, are recorded in the
    /// second place before.
    ///
    /// # Errors
    /// [`LogError::Unreachable`], also if they cannot be recorded; then nothing is removed.
    pub fn trim(&self, to: u64) -> Result<(), LogError> {
        let connection = Connection::open(&self.options)?;
        let Some(range) = connection.run(connection.range())? else { return Ok(()) };
        let to = to.min(range.last);
        if let Some(records) = &self.options.takedowns {
            let marks = connection.run(marks(&connection, range, to))?;
            for (sequence, video, is_down) in marks {
                records
                    .record(video, sequence, is_down)
                    .map_err(|problem| connection.unreachable(problem))?;
            }
        }
        connection.run(connection.purge(to))
    }

    /// Opens the log. As [`OpenSharedLog::open`].
    ///
    /// # Errors
    /// Those of [`OpenSharedLog::open`].
    pub fn open_log(&self, path: &Path, held: &[u64]) -> Result<StreamLog, LogError> {
        let connection = Connection::open(&self.options)?;
        let cached = self.cached(path)?;
        let is_cached = cached.is_some();
        let began = Instant::now();
        let known = cached.iter().map(RedbLog::last_sequence).chain(held.iter().copied()).max().unwrap_or(0);
        let range = loop {
            match connection.run(self.range(&connection, known)) {
                // The servers may be starting, too.
                Err(error @ LogError::Unreachable { .. }) if !is_cached && began.elapsed() < START => {
                    tracing::warn!(%error, "waits for the log");
                    thread::sleep(PAUSE);
                }
                range => break range,
            }
        };
        // The cached log already has every takedown that came through the stream.
        let (taken_down, late) = match self.takedowns(&connection) {
            Ok(taken_down) => (taken_down, None),
            Err(error) if is_cached => {
                tracing::warn!(%error, "opens the log before the takedowns in the bucket are read");
                let records = self.options.takedowns.as_ref().map(Arc::clone);
                (Recorded::new(), records.map(|records| Late::begin(records, self.options.shard)))
            }
            Err(error) => return Err(error),
        };
        let received = range
            .clone()
            .and_then(|range| self.received(path, cached, &connection, range, held, &taken_down));
        let (received, mut range) = match received {
            Ok(received) => (received, range.ok()),
            // What was received before is served until the stream has what follows.
            Err(error) if error.may_end() && is_cached => {
                tracing::warn!(%error, "opens what was received of the log before");
                (RedbLog::open(path)?, None)
            }
            Err(error) => return Err(error),
        };
        add_takedowns(&received, &taken_down, self.options.takedowns.as_deref())?;
        let mut log = StreamLog {
            connection,
            created: received.origin()?.map(|origin| origin.created),
            received,
            shard: self.options.shard,
            takedowns: self.options.takedowns.clone(),
            late,
            receiver: Mutex::new(None),
            hasher: Mutex::new(Hasher::default()),
            permits: Semaphore::new(BATCHES),
            has_more: AtomicBool::new(false),
        };
        // What was acknowledged before the start is served from the start.
        while let Some(found) = range.filter(|range| log.last_sequence() < range.last) {
            match log.fetch(CATCH_UP) {
                Ok(true) => {}
                Ok(false) => break,
                // Entries between those that are there were removed.
                Err(LogError::Gone { first, .. }) if first > found.first => {
                    let after_gap = Range { first, ..found };
                    let StreamLog { connection, received, .. } = &log;
                    let remade = self.remade(path, received, connection, after_gap, held, &taken_down)?;
                    (log.received, range) = (remade, Some(after_gap));
                }
                Err(error) if error.may_end() => {
                    tracing::warn!(%error, "serves before the whole log was received");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(log)
    }

    /// Opens the file with what was received before, if there is one.
    fn cached(&self, path: &Path) -> Result<Option<RedbLog>, LogError> {
        if !is_there(path).map_err(LogError::io(path))? {
            return Ok(None);
        }
        let cached = RedbLog::open(path)?;
        let expected = self.options.shard;
        match cached.origin()? {
            Some(Origin { shard: found, .. }) if found != expected => {
                Err(LogError::OtherShard { path: path.to_owned(), expected, found })
            }
            _ => Ok(Some(cached)),
        }
    }

    /// Returns which entries are in the stream, which is created if nothing was ever written to it. `known`: the last entry that
    /// the cache or a generation has.
    async fn range(&self, connection: &Connection, known: u64) -> Result<Range, LogError> {
        if let Some(range) = connection.range().await? {
            return Ok(range);
        }
        // Otherwise it was lost, and an operator decides what follows.
        if known > 0 {
            return Err(LogError::Behind { log: connection.name(), after: known, last: 0 });
        }
        connection.create(0, self.options.replicas).await?;
        let created = connection.range().await?;
        created.ok_or_else(|| connection.unreachable("the stream was removed"))
    }

    /// Returns what was received before if the stream has what follows. Otherwise the file is made anew.
    fn received(
        &self,
        path: &Path,
        cached: Option<RedbLog>,
        connection: &Connection,
        range: Range,
        held: &[u64],
        taken_down: &Recorded,
    ) -> Result<RedbLog, LogError> {
        let Some(received) = cached else {
            return self.made(path, BTreeMap::new(), connection, range, held, taken_down);
        };
        let last = received.last_sequence();
        if last > range.last {
            return Err(LogError::Behind { log: connection.name(), after: last, last: range.last });
        }
        if last + 1 < range.first {
            tracing::warn!(last, first = range.first, "entries after those that were received are gone");
            return self.remade(path, &received, connection, range, held, taken_down);
        }
        let origin = self.origin(range);
        let before = received.origin()?;
        // Another stream that begins after them continues them.
        if before.is_some_and(|before| before != origin) && range.first <= last {
            return Err(LogError::Replaced { log: connection.name(), after: last });
        }
        if before != Some(origin) {
            received.set_origin(origin)?;
        }
        Ok(received)
    }

    fn origin(&self, range: Range) -> Origin {
        Origin { created: range.created, shard: self.options.shard }
    }

    /// Makes the file anew in place of `received`, whose takedowns stay.
    fn remade(
        &self,
        path: &Path,
        received: &RedbLog,
        connection: &Connection,
        range: Range,
        held: &[u64],
        taken_down: &Recorded,
    ) -> Result<RedbLog, LogError> {
        let known = received.takedowns()?.into_iter().collect();
        self.made(path, known, connection, range, held, taken_down)
    }

    /// Makes the file, after what a generation contains. `known`: takedowns that are known, each with its entry.
    fn made(
        &self,
        path: &Path,
        mut known: BTreeMap<VideoId, u64>,
        connection: &Connection,
        range: Range,
        held: &[u64],
        taken_down: &Recorded,
    ) -> Result<RedbLog, LogError> {
        let newest = held.iter().copied().max().unwrap_or(0);
        if newest > range.last {
            return Err(LogError::Behind { log: connection.name(), after: newest, last: range.last });
        }
        let usable = held.iter().copied().filter(|held| held + 1 >= range.first).min();
        let Some(after) = usable else {
            return Err(LogError::Gone { log: connection.name(), after: newest, first: range.first });
        };
        for (video, (sequence, is_down)) in taken_down {
            // The second place may lack the last one.
            if known.get(video).is_none_or(|known| known < sequence) {
                match is_down {
                    true => _ = known.insert(*video, *sequence),
                    false => _ = known.remove(video),
                }
            }
        }
        // What comes later is received again.
        let known: Vec<(VideoId, u64)> =
            known.into_iter().map(|(video, sequence)| (video, sequence.min(after))).collect();
        RedbLog::replace_received(path, &known, after, self.origin(range))?;
        RedbLog::open(path)
    }

    fn takedowns(&self, connection: &Connection) -> Result<Recorded, LogError> {
        let Some(records) = &self.options.takedowns else { return Ok(Recorded::new()) };
        let unreachable = |problem| connection.unreachable(format!("takedowns: {problem}"));
        read(&**records, self.options.shard).map_err(unreachable)
    }
}

/// Returns the takedowns among the entries up to `to`, and their ends: the number, the video, and whether it is taken down.
async fn marks(
    connection: &Connection,
    range: Range,
    to: u64,
) -> Result<Vec<(u64, VideoId, bool)>, LogError> {
    let (mut marks, mut last) = (Vec::new(), range.first - 1);
    let begin = |after| Receiver::begin(connection, after, Some(range.created));
    let mut receiver = begin(last).await?;
    while last < to {
        let messages = match receiver.receive(connection, CATCH_UP).await {
            // Those between are gone.
            Err(LogError::Gone { first, .. }) => {
                last = first - 1;
                receiver = begin(last).await?;
                continue;
            }
            messages => messages?,
        };
        if messages.is_empty() {
            return Err(connection.unreachable("no message came"));
        }
        for message in messages {
            last = message.sequence;
            let bad = |problem| LogError::BadMessage { log: connection.name(), sequence: last, problem };
            match decode(&message.payload).map_err(bad)? {
                Mutation::Takedown(video) => marks.push((last, video, true)),
                Mutation::Restore(video) => marks.push((last, video, false)),
                Mutation::Upsert(_) | Mutation::Delete(_) => {}
            }
        }
    }
    marks.retain(|(sequence, ..)| *sequence <= to);
    Ok(marks)
}

impl OpenSharedLog for StreamOpener {
    fn open(&self, cache: &Path, held: &[u64]) -> Result<Arc<dyn SharedLog>, LogError> {
        Ok(Arc::new(self.open_log(cache, held)?))
    }
}
