//! A connection to the servers of NATS, for code that may block.
//!
//! What flows in: where the servers are. What flows out: a client that connects again whenever the connection breaks, and the
//! threads that it runs on; and which servers of an index are there.
//!
//! | file | duty |
//! |---|---|
//! | `presence.rs` | which servers are there |

pub(crate) mod presence;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream;
use async_nats::{Client, ConnectOptions};
use tokio::runtime::Runtime;

/// How long a request to the servers may take.
pub(crate) const REQUEST: Duration = Duration::from_secs(5);
/// The interval of pings. A connection that does not answer two of them is made anew.
const PING: Duration = Duration::from_secs(2);

/// Where the servers of NATS are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatsOptions {
    /// The servers, such as `nats://10.0.0.1:4222` or `tls://…`.
    pub servers: Vec<String>,
    /// A file of credentials, if the servers need one.
    pub credentials: Option<PathBuf>,
    /// The certificates of the authorities that those of the servers are checked with, in addition to those of the system.
    pub ca: Option<PathBuf>,
}

impl NatsOptions {
    /// Where these servers are. An empty path is no file.
    pub fn of(servers: &[String], credentials: &Path, ca: &Path) -> Self {
        let file = |path: &Path| (!path.as_os_str().is_empty()).then(|| path.to_owned());
        Self { servers: servers.to_vec(), credentials: file(credentials), ca: file(ca) }
    }

    /// The servers in messages for people.
    pub fn display_servers(&self) -> String {
        self.servers.join(",")
    }

    /// Checks that no server has a user or a password in its URL, which messages would show.
    ///
    /// # Errors
    /// The problem, without the password.
    pub fn check(&self) -> Result<(), String> {
        match self.servers.iter().position(|server| server.contains('@')) {
            Some(at) => Err(format!(
                "server {} of NATS: expected a URL without a user, such as nats://10.0.0.1:4222, found one with a user; \
                 use a file of credentials",
                at + 1
            )),
            None => Ok(()),
        }
    }
}

/// A connection, with threads of its own.
#[derive(Debug)]
pub(crate) struct Nats {
    /// Sends and receives messages.
    pub client: Client,
    /// Sends requests to JetStream.
    pub jetstream: jetstream::Context,
    /// `None` only while this is dropped.
    runtime: Option<Runtime>,
}

impl Nats {
    /// Begins to connect, and does not wait for it.
    ///
    /// # Errors
    /// The problem, if the options are malformed, a file cannot be read, or there can be no threads.
    pub fn open(options: &NatsOptions) -> Result<Self, String> {
        options.check()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("nats")
            .enable_all()
            .build()
            .map_err(|error| error.to_string())?;
        let (client, jetstream) = runtime.block_on(async {
            let mut connect = ConnectOptions::new()
                .name("shortlist")
                .retry_on_initial_connect()
                .ping_interval(PING)
                .connection_timeout(REQUEST)
                .request_timeout(Some(REQUEST));
            if let Some(file) = &options.credentials {
                let problem = |error| format!("{}: {error}", file.display());
                connect = connect.credentials_file(file).await.map_err(problem)?;
            }
            if let Some(file) = &options.ca {
                connect = connect.add_root_certificates(file.clone());
            }
            let problem = |error| format!("{}: {error}", options.display_servers());
            let client = connect.connect(&options.servers).await.map_err(problem)?;
            let mut jetstream = jetstream::new(client.clone());
            jetstream.set_timeout(REQUEST);
            Ok::<_, String>((client, jetstream))
        })?;
        Ok(Self { client, jetstream, runtime: Some(runtime) })
    }

    /// Runs `work` to its end. Call it on a thread that may block.
    pub fn run<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("it is there until this is dropped").block_on(work)
    }

    /// Returns whether there is a connection now.
    pub fn is_up(&self) -> bool {
        self.client.connection_state() == State::Connected
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        // Also on a thread that must not block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
