//! The servers of a client: connections, their health, and whose turn it is.
//!
//! Each server has one connection, which is made when it is first needed and again when it breaks. With several servers,
//! a task per server watches its health, so that calls go to servers that serve.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::AbortHandle;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// The name of the health of searches of any index.
const SERVICE: &str = "shortlist.v1.Retrieval";
/// The delay before health is asked for again, once it could not be watched. It doubles up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// A connection that sends the token with every call.
pub type Connection = InterceptedService<Channel, Bearer>;

/// Adds the token to a call.
#[derive(Clone, Debug)]
pub struct Bearer(pub(crate) Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            request.metadata_mut().insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// What is known of a server, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Serving,
    /// Its health has not been asked for yet, or it does not tell.
    Unknown,
    NotServing,
}

/// One server.
#[derive(Debug)]
struct Server {
    connection: Connection,
    state: Arc<AtomicU8>,
    /// The task that watches its health.
    watch: Option<AbortHandle>,
}

impl Server {
    fn state(&self) -> State {
        match self.state.load(Ordering::Relaxed) {
            0 => State::Serving,
            1 => State::Unknown,
            _ => State::NotServing,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
    }
}

/// All servers of a client.
#[derive(Debug)]
pub(crate) struct Servers {
    servers: Vec<Server>,
    turn: AtomicUsize,
}

impl Servers {
    /// Needs a runtime if there are several connections.
    pub(crate) fn new(connections: Vec<Connection>) -> Self {
        let is_watched = connections.len() > 1;
        let server = |connection: Connection| {
            let state = Arc::new(AtomicU8::new(State::Unknown as u8));
            let watch = is_watched
                .then(|| tokio::spawn(watch(connection.clone(), Arc::clone(&state))).abort_handle());
            Server { connection, state, watch }
        };
        // A client of many processes must not begin with the same server everywhere.
        let turn = AtomicUsize::new(rand::random_range(0..1 << 16));
        Self { servers: connections.into_iter().map(server).collect(), turn }
    }

    pub(crate) fn len(&self) -> usize {
        self.servers.len()
    }

    /// Takes the next server in turn: one that serves and was not asked yet, if there is one. Adds it to `asked`.
    pub(crate) fn next(&self, asked: &mut Vec<usize>) -> Connection {
        let count = self.servers.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = (0..count).map(|step| turn.wrapping_add(step) % count);
        let best = in_turn.min_by_key(|at| (asked.contains(at), self.servers[*at].state()));
        let at = best.unwrap_or_default();
        asked.push(at);
        self.servers[at].connection.clone()
    }
}

/// Follows the health of a server, until it is dropped.
async fn watch(connection: Connection, state: Arc<AtomicU8>) {
    let set = |new: State| state.store(new as u8, Ordering::Relaxed);
    let mut client = HealthClient::new(connection);
    let mut pause = FIRST_PAUSE;
    loop {
        let request = HealthCheckRequest { service: SERVICE.to_owned() };
        match client.watch(request).await {
            Ok(answer) => {
                let mut answers = answer.into_inner();
                while let Ok(Some(answer)) = answers.message().await {
                    pause = FIRST_PAUSE;
                    set(match answer.status() {
                        ServingStatus::Serving => State::Serving,
                        ServingStatus::NotServing => State::NotServing,
                        // It may know of this service later.
                        ServingStatus::Unknown | ServingStatus::ServiceUnknown => State::Unknown,
                    });
                }
                set(State::NotServing);
            }
            // A server, or something before it, without health.
            Err(status) if status.code() == Code::Unimplemented => return set(State::Unknown),
            Err(_) => set(State::NotServing),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}
