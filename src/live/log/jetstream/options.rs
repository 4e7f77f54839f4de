//! Where the stream of an index is, and what it is called.

use std::fmt::Debug;
use std::sync::Arc;

use crate::base::id::VideoId;
use crate::base::partition::Shard;
use crate::nats::NatsOptions;

/// Takedowns and their ends, recorded in a second place: none may be lost with the stream.
pub trait TakedownRecords: Send + Sync + Debug {
    /// Records that a video was taken down, or restored, by the write with this number. Does nothing if that is recorded.
    ///
    /// # Errors
    /// The problem, if it may not be recorded.
    fn record(&self, video: VideoId, sequence: u64, is_down: bool) -> Result<(), String>;

    /// Returns the last write of each video that was recorded: its number, and whether it took the video down.
    ///
    /// # Errors
    /// The problem, if not all can be read.
    fn all(&self) -> Result<Vec<(VideoId, u64, bool)>, String>;
}

/// The stream of an index.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// Where the servers are.
    pub nats: NatsOptions,
    /// The name of the index.
    pub index: String,
    /// How many servers keep a stream that has yet to be created.
    pub replicas: usize,
    /// The videos that this process has. Mutations of others are received and left out.
    pub shard: Shard,
    /// The second place for takedowns, if there is one.
    pub takedowns: Option<Arc<dyn TakedownRecords>>,
}

impl StreamOptions {
    /// The name of the stream of an index.
    ///
    /// # Errors
    /// The problem, if no stream can have that name.
    pub fn stream_name(&self) -> Result<String, String> {
        let is_allowed = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
        match self.index.is_empty() || !self.index.chars().all(is_allowed) {
            true => Err(format!(
                "expected a name of an index with a stream of letters, digits, \"-\" and \"_\", found {:?}",
                self.index
            )),
            false => Ok(format!("shortlist-{}", self.index)),
        }
    }

    /// The subject of the messages.
    pub(super) fn subject(&self) -> String {
        format!("shortlist.{}.log", self.index)
    }

    /// The log in messages for people.
    pub(super) fn display_name(&self) -> String {
        format!("stream shortlist-{} of {}", self.index, self.nats.display_servers())
    }
}
