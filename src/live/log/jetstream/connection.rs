//! The connection to the servers of NATS, and the state of the stream.

use std::future::Future;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, StorageType};
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{Client, ConnectOptions};
use tokio::runtime::Runtime;

use super::options::StreamOptions;
use crate::live::log::error::LogError;

/// How long a request to the servers may take.
pub(super) const REQUEST: Duration = Duration::from_secs(5);
/// The interval of pings. A connection that does not answer two of them is made anew.
const PING: Duration = Duration::from_secs(2);
/// A message that is sent again within this time is not stored again.
const DUPLICATES: Duration = Duration::from_secs(600);

/// A connection that is made anew whenever it breaks, with threads of its own.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: Client,
    pub(super) jetstream: jetstream::Context,
    pub(super) stream: String,
    pub(super) subject: String,
    name: String,
    /// Dropped last, and only by threads that may block.
    runtime: Option<Runtime>,
}

/// Which entries are in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// The first entry; the one after the last if there is none.
    pub(super) first: u64,
    pub(super) last: u64,
    /// When the stream was created, in nanoseconds since 1970: another stream has another time.
    pub(super) created: i128,
}

impl Connection {
    /// Begins to connect, and does not wait for it.
    ///
    /// # Errors
    /// If the options are malformed, or the file of credentials cannot be read.
    pub(super) fn open(options: &StreamOptions) -> Result<Self, LogError> {
        let name = options.display_name();
        let unreachable = |problem: String| LogError::Unreachable { log: name.clone(), problem };
        let stream = options.stream_name().map_err(|problem| LogError::Misconfigured { problem })?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("nats")
            .enable_all()
            .build()
            .map_err(|error| unreachable(error.to_string()))?;
        let client = block_on(&runtime, async {
            let mut connect = ConnectOptions::new()
                .name("shortlist")
                .retry_on_initial_connect()
                .ping_interval(PING)
                .connection_timeout(REQUEST)
                .request_timeout(Some(REQUEST));
            if let Some(file) = &options.credentials {
                connect = connect.credentials_file(file).await.map_err(|error| LogError::Misconfigured {
                    problem: format!("{}: {error}", file.display()),
                })?;
            }
            if let Some(file) = &options.ca {
                connect = connect.add_root_certificates(file.clone());
            }
            let misconfigured = |error: async_nats::ConnectError| LogError::Misconfigured {
                problem: format!("{name}: {error}"),
            };
            connect.connect(&options.servers).await.map_err(misconfigured)
        })?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(REQUEST);
        Ok(Self { client, jetstream, stream, subject: options.subject(), name, runtime: Some(runtime) })
    }

    /// Runs `work` on the threads of the connection. Call it on a thread that may block.
    pub(super) fn run<T>(&self, work: impl Future<Output = T>) -> T {
        block_on(self.runtime.as_ref().expect("it is there until this is dropped"), work)
    }

    /// The error of something that may work again later.
    pub(super) fn unreachable(&self, problem: impl ToString) -> LogError {
        LogError::Unreachable { log: self.name.clone(), problem: problem.to_string() }
    }

    pub(super) fn name(&self) -> String {
        self.name.clone()
    }

    /// Returns whether there is a connection now.
    pub(super) fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Returns which entries are in the stream; `None` if there is no stream.
    ///
    /// # Errors
    /// [`LogError::Unreachable`].
    pub(super) async fn range(&self) -> Result<Option<Range>, LogError> {
        let found = self.jetstream.get_stream(&self.stream).await;
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
        Ok(Some(Range { first, last, created: info.created.unix_timestamp_nanos() }))
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
        match self.jetstream.create_stream(config).await {
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
        let stream = self.jetstream.get_stream_no_info(&self.stream).await;
        let stream = stream.map_err(|error| self.unreachable(error))?;
        let purged = stream.purge().sequence(to + 1).await;
        purged.map(drop).map_err(|error| self.unreachable(error))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Waits for `work`, also on a thread of another runtime that may block.
fn block_on<T>(runtime: &Runtime, work: impl Future<Output = T>) -> T {
    runtime.block_on(work)
}
