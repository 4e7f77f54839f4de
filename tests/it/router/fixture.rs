//! Servers of shards on loopback, and a router in front of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shortlist::base::partition::Shard;
use shortlist::engine::{Engine, EngineOptions, Limits};
use shortlist::router::{RouteOptions, Routing};
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::{Drained, ServiceOptions, serve};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

use crate::harness::channel;
use crate::rules::dataset::RuledDataset;

/// The shards of every router of these tests.
pub const SHARDS: u32 = 4;

/// All shards, in their order.
pub fn shards() -> impl Iterator<Item = Shard> {
    Shard::all(SHARDS).unwrap()
}

/// A server in this process that runs until it is stopped or dropped.
pub struct Serving {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    served: JoinHandle<std::io::Result<Drained>>,
}

impl Serving {
    /// Serves one index folder under the name `videos`.
    pub async fn index(dir: PathBuf, options: EngineOptions) -> Self {
        let indexes = vec![("videos".to_owned(), dir)];
        let engine = Arc::new(Engine::open(EngineOptions { indexes, ..options }).unwrap());
        Self::start(|listener, shutdown| {
            tokio::spawn(serve(listener, engine, ServiceOptions::default(), shutdown))
        })
        .await
    }

    /// Routes the index `videos` to replicas joined by `+`, shards by comma.
    pub async fn router(shards: &str, service: ServiceOptions) -> Self {
        Self::router_of([("videos".to_owned(), shards.to_owned())].into(), service).await
    }

    /// Routes several indexes.
    pub async fn router_of(shards: BTreeMap<String, String>, service: ServiceOptions) -> Self {
        let options = RouteOptions { shards, ..RouteOptions::default() };
        let routing = Routing::new(&options, 64 << 20).unwrap();
        Self::start(|listener, shutdown| {
            tokio::spawn(routing.serve(listener, Limits::default(), service, shutdown))
        })
        .await
    }

    async fn start(
        start: impl FnOnce(
            TcpListener,
            std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
        ) -> JoinHandle<std::io::Result<Drained>>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = Box::pin(async move { _ = stopped.await });
        Self { address, stop: Some(stop), served: start(listener, shutdown) }
    }

    pub async fn retrieval(&self) -> RetrievalClient<Channel> {
        RetrievalClient::new(channel(self.address).await).max_decoding_message_size(64 << 20)
    }

    /// Ends it at once, without an answer to calls in flight.
    pub fn kill(&mut self) {
        self.served.abort();
        self.stop = None;
    }
}

/// The servers of all shards of a divided catalog, one replica each.
pub async fn serve_shards(dataset: &RuledDataset) -> Vec<Serving> {
    let mut servers = Vec::new();
    for shard in shards() {
        let options = EngineOptions { threads: 1, ..EngineOptions::default() };
        servers.push(Serving::index(folder(dataset.folder(), shard).join("index"), options).await);
    }
    servers
}

/// The list of shards of these servers, one replica each.
pub fn list(servers: &[Serving]) -> String {
    servers.iter().map(|server| server.address.to_string()).collect::<Vec<_>>().join(",")
}

/// A router over the folders of shards, on a runtime of its own, for tests that do not wait.
pub struct Routed {
    runtime: Runtime,
    client: RetrievalClient<Channel>,
    _servers: Vec<Serving>,
    _router: Serving,
}

impl Routed {
    /// `dir`: the folder of a shard.
    pub fn over(dir: impl Fn(Shard) -> PathBuf) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (client, servers, router) = runtime.block_on(async {
            let mut servers = Vec::new();
            for shard in shards() {
                let options = EngineOptions { threads: 1, ..EngineOptions::default() };
                servers.push(Serving::index(dir(shard), options).await);
            }
            let router = Serving::router(&list(&servers), ServiceOptions::default()).await;
            (router.retrieval().await, servers, router)
        });
        Self { runtime, client, _servers: servers, _router: router }
    }

    /// Waits for an answer.
    pub fn wait<T>(&self, ask: impl AsyncFnOnce(RetrievalClient<Channel>) -> T) -> T {
        self.runtime.block_on(ask(self.client.clone()))
    }
}

/// The folder of a shard in `root`.
pub fn folder(root: &Path, shard: Shard) -> PathBuf {
    root.join(format!("shard-{}-of-{}", shard.index(), shard.of()))
}
