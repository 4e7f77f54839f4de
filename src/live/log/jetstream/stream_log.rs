//! The log of one process in a stream that all processes of an index write to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::connection::Connection;
use super::digest::Hasher;
use super::options::TakedownRecords;
use super::publisher::{MOST_MESSAGES, publish};
use super::receiver::Receiver;
use super::second_place::{Late, add_takedowns};
use crate::base::file_identity::Displaced;
use crate::base::id::VideoId;
use crate::base::instant::Instant;
use crate::base::partition::Shard;
use crate::live::log::error::LogError;
use crate::live::log::mutation::{Entry, Mutation};
use crate::live::log::mutation_log::{LogSize, MutationLog};
use crate::live::log::record::{decode, encode};
use crate::live::log::redb_log::RedbLog;
use crate::live::log::shared_log::{Digest, Received, SharedLog};

/// Batches of this process that are stored at a time. The servers take 50 of all processes.
pub(super) const BATCHES: usize = 8;
/// Entries that are read at a time of what was received before.
const READ_AT_ONCE: usize = 4096;

/// The log of an index in a stream.
#[derive(Debug)]
pub struct StreamLog {
    pub(super) connection: Connection,
    /// What was received, without the mutations of other shards.
    pub(super) received: RedbLog,
    /// When the stream was created, if that is known.
    pub(super) created: Option<u64>,
    pub(super) shard: Shard,
    pub(super) takedowns: Option<Arc<dyn TakedownRecords>>,
    /// Takedowns that the start could not read.
    pub(super) late: Option<Arc<Late>>,
    /// `None` before the first message, and after an error.
    pub(super) receiver: Mutex<Option<Receiver>>,
    pub(super) hasher: Mutex<Hasher>,
    /// Whether the stream had messages after those that were received last.
    pub(super) has_more: AtomicBool,
    /// For batches that are being stored.
    pub(super) permits: Semaphore,
}

impl StreamLog {
    /// Receives messages into the file, waiting for the first one, up to `wait`. Returns whether there were any.
    pub(super) fn fetch(&self, wait: Duration) -> Result<bool, LogError> {
        let mut receiver = self.receiver.lock();
        let after = self.received.last_sequence();
        let fetched = self.connection.run(async {
            let mut receiving = match receiver.take() {
                Some(receiving) => receiving,
                None => Receiver::begin(&self.connection, after, self.created).await?,
            };
            let messages = receiving.receive(&self.connection, wait).await?;
            if messages.is_empty() && receiving.is_stalled(&self.connection).await? {
                receiving = Receiver::begin(&self.connection, after, self.created).await?;
            }
            Ok((receiving, messages))
        });
        let (receiving, messages) = fetched?;
        let Some(last) = messages.last().map(|message| message.sequence) else {
            *receiver = Some(receiving);
            return Ok(false);
        };
        let mut entries = Vec::new();
        for message in &messages {
            let bad = |problem| LogError::BadMessage {
                log: self.connection.name(),
                sequence: message.sequence,
                problem,
            };
            let mutation = decode(&message.payload).map_err(bad)?;
            if self.shard.contains(mutation.video_id()) {
                entries.push(Entry { sequence: message.sequence, mutation });
            }
        }
        self.received.append_received(&entries, last)?;
        let pending = messages.last().map_or(0, |message| message.pending);
        self.has_more.store(pending > 0, Ordering::Release);
        let mut hasher = self.hasher.lock();
        messages.iter().for_each(|message| hasher.add(message.sequence, &message.payload));
        // Only now: what was not stored is received again.
        *receiver = Some(receiving);
        Ok(true)
    }

    /// Records takedowns and their ends in the second place. `last`: the number of the last mutation.
    fn record_takedowns(&self, mutations: &[Mutation], last: u64) -> Result<(), LogError> {
        let Some(takedowns) = &self.takedowns else { return Ok(()) };
        let first = (last + 1).saturating_sub(mutations.len() as u64);
        for (sequence, mutation) in (first..).zip(mutations) {
            let is_down = match mutation {
                Mutation::Takedown(_) => true,
                Mutation::Restore(_) => false,
                Mutation::Upsert(_) | Mutation::Delete(_) => continue,
            };
            let recorded = takedowns.record(mutation.video_id(), sequence, is_down);
            recorded.map_err(|problem| {
                let problem = format!("takedown {sequence} is in the stream only: {problem}");
                LogError::Unconfirmed { log: self.connection.name(), problem }
            })?;
        }
        Ok(())
    }
}

impl SharedLog for StreamLog {
    fn receive(&self, after: u64, wait: Duration) -> Result<Option<Received>, LogError> {
        if let Some(late) = &self.late
            && let Some(recorded) = late.take()
        {
            let added = add_takedowns(&self.received, &recorded, self.takedowns.as_deref());
            let taken_down = added.inspect_err(|_| late.put_back(recorded))?;
            return Ok(Some(Received { entries: Vec::new(), last: after, taken_down, has_more: true }));
        }
        if self.received.last_sequence() <= after && !self.fetch(wait)? {
            return Ok(None);
        }
        let last = self.received.last_sequence();
        let entries = self.received.read(after, READ_AT_ONCE)?;
        let (last, has_more) = match entries.last() {
            Some(entry) if entries.len() == READ_AT_ONCE => (entry.sequence, true),
            _ => (last, self.has_more.load(Ordering::Acquire)),
        };
        Ok(Some(Received { entries, last, taken_down: Vec::new(), has_more }))
    }

    fn digest(&self) -> Option<Digest> {
        Some(self.hasher.lock().last())
    }
}

impl MutationLog for StreamLog {
    fn append(&self, mutations: &[Mutation]) -> Result<u64, LogError> {
        let now = Timestamp::now().into();
        let mut last = self.last_sequence();
        for some in mutations.chunks(MOST_MESSAGES) {
            let messages: Vec<Bytes> = some.iter().map(|mutation| encode(mutation, now).into()).collect();
            last =
                self.connection.run(async { publish(&self.connection, &messages, &self.permits).await })?;
            self.record_takedowns(some, last)?;
        }
        Ok(last)
    }

    fn last_sequence(&self) -> u64 {
        self.received.last_sequence()
    }

    fn trimmed_to(&self) -> u64 {
        self.received.trimmed_to()
    }

    fn read(&self, after: u64, limit: usize) -> Result<Vec<Entry>, LogError> {
        self.received.read(after, limit)
    }

    fn takedowns(&self) -> Result<Vec<(VideoId, u64)>, LogError> {
        self.received.takedowns()
    }

    fn trim_except(&self, to: u64, kept: &[u64]) -> Result<(), LogError> {
        self.received.trim_except(to, kept)
    }

    fn remove(&self, sequences: &[u64]) -> Result<(), LogError> {
        self.received.remove(sequences)
    }

    fn size(&self) -> LogSize {
        self.received.size()
    }

    fn oldest(&self) -> Result<Option<Instant>, LogError> {
        self.received.oldest()
    }

    fn bytes(&self) -> Result<u64, LogError> {
        self.received.bytes()
    }

    fn check_in_place(&self) -> Result<(), Displaced> {
        self.received.check_in_place()
    }

    fn failed(&self) -> Option<String> {
        self.received.failed()
    }
}
