//! The stream of an index on the servers of NATS, and its state.

use std::future::Future;
use std::time::Duration;

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};

use super::options::StreamOptions;
use crate::live::log::error::LogError;
use crate::nats::Nats;

/// A message that is sent again within this time is not stored again.
const DUPLICATES: Duration = Duration::from_secs(600);

/// The stream of an index.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) nats: Nats,
    pub(super) stream: String,
    pub(super) subject: String,
    name: String,
}

/// Which entries are in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// The first entry; the one after the last if there is none.
    pub(super) first: u64,
    pub(super) last: u64,
    /// When the stream was created, in nanoseconds since 1970: another stream has another time.
    pub(super) created: u64,
}

impl Connection {
    /// Begins to connect, and does not wait for it.
    ///
    /// # Errors
    /// [`LogError::Misconfigured`].
    pub(super) fn open(options: &StreamOptions) -> Result<Self, LogError> {
        let misconfigured = |problem: String| LogError::Misconfigured { problem };
        let stream = options.stream_name().map_err(misconfigured)?;
        let nats = Nats::open(&options.nats).map_err(misconfigured)?;
        Ok(Self { nats, stream, subject: options.subject(), name: options.display_name() })
    }

    /// Runs `work` to its end. Call it on a thread that may block.
    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.nats.run(work)
    }

    /// The error of something that may work again later.
    pub(super) fn unreachable(&self, problem: impl ToString) -> LogError {
        LogError::Unreachable { log: self.name.clone(), problem: problem.to_string() }
    }

    pub(super) fn name(&self) -> String {
        self.name.clone()
    }

    /// Returns which entries are in the stream; `None` if there is no stream.
    ///
    /// # Errors
    /// [`LogError::Unreachable`].
    pub(super) async fn range(&self) -> Result<Option<Range>, LogError> {
        let found = self.nats.jetstream.get_stream(&self.stream).await;
        let stream = match found {
            Ok(stream) => stream,
            Err(error) => {
                return match error.kind() {
                    GetStreamErrorKind::JetStream(error)
                        if error.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                    {
                        Ok(None)
                    }
                    _ => Err(self.unreachable(error)),
                };
            }
        };
        let info = stream.cached_info();
        let last = info.state.last_sequence;
        let first = if info.state.messages == 0 { last + 1 } else { info.state.first_sequence };
        let created = u64::try_from(info.created.unix_timestamp_nanos()).unwrap_or_default();
        Ok(Some(Range { first, last, created }))
    }

    /// Creates the stream, whose first entry gets the number after `after`. Does nothing if there is one.
    ///
    /// # Errors
    /// [`LogError::Unreachable`].
    pub(super) async fn create(&self, after: u64, replicas: usize) -> Result<(), LogError> {
        let config = Config {
            name: self.stream.clone(),
            subjects: vec![self.subject.clone()],
            storage: StorageType::File,
            num_replicas: replicas,
            discard: DiscardPolicy::New,
            duplicate_window: DUPLICATES,
            allow_direct: true,
            allow_atomic_publish: true,
            first_sequence: Some(after + 1),
            ..Config::default()
        };
        match self.nats.jetstream.create_stream(config).await {
            Ok(_) => Ok(()),
            Err(error) => match error.kind() {
                CreateStreamErrorKind::JetStream(error)
                    if error.error_code() == ErrorCode::STREAM_NAME_EXIST =>
                {
                    Ok(())
                }
                _ => Err(self.unreachable(format!("cannot create the stream: {error}"))),
            },
        }
    }

    /// Removes the entries up to `to`.
    ///
    /// # Errors
    /// [`LogError::Unreachable`].
    pub(super) async fn purge(&self, to: u64) -> Result<(), LogError> {
        let stream = self.nats.jetstream.get_stream_no_info(&self.stream).await;
        let stream = stream.map_err(|error| self.unreachable(error))?;
        let purged = stream.purge().sequence(to + 1).await;
        purged.map(drop).map_err(|error| self.unreachable(error))
    }
}
