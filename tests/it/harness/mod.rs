//! A real server on loopback over a small index.
//!
//! What flows in: rows of embeddings and server options. What flows out: clients and control of the server. Nothing here
//! depends on the speed of the machine: to keep a search unfinished, a test closes a [`Gate`] in front of the compute
//! pool.

pub mod credentials;
pub mod disk;
pub mod files;
pub mod indexes;
pub mod ledger;
pub mod log;
pub mod parquet;
pub mod process;
#[cfg(feature = "cluster")]
pub mod remote;
pub mod typed;
pub mod wire;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::base::id::VideoId;
use shortlist::base::metric::Metric;
use shortlist::build::{BuildParams, Silent, build};
use shortlist::dataset::{AttributeColumn, ColumnValues, Dataset, Embeddings, write_npy};
use shortlist::engine::{Engine, EngineError, EngineOptions, GateOptions, Limits, MemoryGauge, MemoryPolicy};
use shortlist::index::{Index, IndexStore, SectionKind};
use shortlist::live::LogError;
use shortlist::service::proto::admin_client::AdminClient;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{SearchRequest, Vector, search_request};
use shortlist::service::{Drained, ServiceOptions, serve};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

/// Components per embedding of every [`TestIndex`].
pub const DIM: usize = 8;
/// The embedding model of [`TestIndex`].
pub const MODEL: &str = "towers-3";
/// Timeout that only a hang reaches.
const HANG: Duration = Duration::from_secs(60);

/// An index folder with one or more generations, removed when dropped.
pub struct TestIndex {
    folder: TempDir,
    /// `[rows × DIM]`, of the newest generation.
    pub rows: Vec<[f32; DIM]>,
    /// The embedding model of the next generation.
    pub model: String,
    /// Expiry times of the videos of the next generation.
    pub expires_at: Option<Vec<i64>>,
    /// The log sequence that the next generation includes.
    pub log_sequence: u64,
    /// Whether the videos of the next generation have attributes.
    pub has_attributes: bool,
}

impl TestIndex {
    /// Builds one generation of `videos` random embeddings, with [`video_id`]s and attributes.
    pub fn new(videos: usize) -> Self {
        let mut index = Self {
            folder: tempfile::tempdir().unwrap(),
            rows: Vec::new(),
            model: MODEL.to_owned(),
            expires_at: None,
            log_sequence: 0,
            has_attributes: true,
        };
        index.publish(videos);
        index
    }

    /// Adds a generation of `videos` other embeddings and makes it current.
    pub fn publish(&mut self, videos: usize) -> u64 {
        self.publish_into(&self.dir(), videos)
    }

    /// Copies the folder to `target` and adds a generation there.
    pub fn publish_elsewhere(&mut self, target: &Path, videos: usize) -> u64 {
        for entry in std::fs::read_dir(self.dir()).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, target.join(path.file_name().unwrap())).unwrap();
        }
        self.publish_into(target, videos)
    }

    fn publish_into(&mut self, dir: &Path, videos: usize) -> u64 {
        let store = IndexStore::new(dir);
        let generation = store.generations().unwrap().last().map_or(1, |last| last + 1);
        let mut rng = ChaCha8Rng::seed_from_u64(generation);
        self.rows = (0..videos).map(|_| random_row(&mut rng)).collect();
        let file = self.folder.path().join(format!("embeddings-{generation}.npy"));
        write_npy(&file, &[videos, DIM], self.rows.as_flattened()).unwrap();
        let dataset = Dataset {
            embeddings: Embeddings::open(&file).unwrap(),
            ids: (0..videos).map(|row| VideoId(video_id(row))).collect(),
            attributes: if self.has_attributes { attributes(videos) } else { Vec::new() },
            expires_at: self.expires_at.clone(),
        };
        let params = BuildParams::new(Metric::InnerProduct, 8, 64)
            .unwrap()
            .with_threads(1)
            .with_embedding_model(Some(self.model.clone()))
            .with_log_sequence(self.log_sequence);
        build(&dataset, None, &params, &store, &Silent, Instant::now()).unwrap().generation
    }

    /// The folder to serve.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("index")
    }

    /// The file of a generation.
    pub fn generation_path(&self, generation: u64) -> PathBuf {
        IndexStore::new(self.dir()).generation_path(generation)
    }

    /// The exact top k: ids and scores, best first.
    pub fn exact(&self, query: &[f32], k: usize) -> Vec<(u64, f32)> {
        let score = |row: &[f32; DIM]| row.iter().zip(query).map(|(a, b)| a * b).sum::<f32>();
        let mut all: Vec<(u64, f32)> =
            self.rows.iter().enumerate().map(|(row, values)| (video_id(row), score(values))).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all.truncate(k);
        all
    }
}

/// The id of a row. It differs from the row number, so that a test notices if they are confused.
pub fn video_id(row: usize) -> u64 {
    u64::MAX - 10 * row as u64
}

/// The row of a [`video_id`].
pub fn row_of(video_id: u64) -> usize {
    ((u64::MAX - video_id) / 10) as usize
}

/// Values that are exact in `f16`, so that both types give the same scores.
fn random_row(rng: &mut impl Rng) -> [f32; DIM] {
    std::array::from_fn(|_| f32::from(rng.random_range(-64i8..64)) / 32.0)
}

/// A column of each type; row 1 has no title.
fn attributes(videos: usize) -> Vec<AttributeColumn> {
    let rows = || 0..videos;
    let title = |row| (row != 1).then(|| format!("title {row}"));
    let tags = |row| Some(["all".to_owned(), format!("tag-{row}")]);
    let columns = [
        ("title", ColumnValues::Keyword(rows().map(title).collect())),
        ("tags", ColumnValues::KeywordList(rows().map(tags).collect())),
        ("delta", ColumnValues::Int64(rows().map(|row| Some(-(row as i64))).collect())),
        ("views", ColumnValues::Uint64(rows().map(|row| Some(u64::MAX - row as u64)).collect())),
        ("rating", ColumnValues::Double(rows().map(|row| Some(row as f64 / 4.0)).collect())),
        ("safe", ColumnValues::Bool(rows().map(|row| Some(row % 2 == 0)).collect())),
        ("published_at", ColumnValues::Timestamp(rows().map(|row| Some(row as i64 * 1_500_000)).collect())),
    ];
    columns.map(|(name, values)| AttributeColumn { name: name.to_owned(), values }).into()
}

/// A query for the `k` best of a vector.
pub fn request(values: &[f32], k: u32) -> SearchRequest {
    let vector = Vector { values: values.to_vec(), packed: None };
    SearchRequest { query: Some(search_request::Query::Vector(vector)), k, ..SearchRequest::default() }
}

/// Options of a [`TestServer`].
#[derive(Default)]
pub struct Setup {
    /// Threads of the compute pool; 0 for one per core.
    pub threads: usize,
    pub limits: Limits,
    pub memory: MemoryPolicy,
    pub memory_gauge: MemoryGauge,
    pub service: ServiceOptions,
    pub gate: GateOptions,
}

/// A server on a free port.
pub struct TestServer {
    pub address: SocketAddr,
    pub engine: Arc<Engine>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<std::io::Result<Drained>>,
}

impl TestServer {
    /// Serves one index under the name `videos`.
    pub async fn of(index: &TestIndex) -> Self {
        Self::start(&[("videos", index)], Setup::default()).await
    }

    pub async fn start(indexes: &[(&str, &TestIndex)], setup: Setup) -> Self {
        let named = |(name, index): &(&str, &TestIndex)| ((*name).to_owned(), index.dir());
        Self::over(indexes.iter().map(named).collect(), setup).await
    }

    /// Serves folders by name.
    pub async fn over(indexes: Vec<(String, PathBuf)>, setup: Setup) -> Self {
        let Setup { threads, ref limits, memory, memory_gauge, gate, .. } = setup;
        let options = EngineOptions {
            indexes,
            threads,
            limits: *limits,
            memory,
            memory_gauge,
            is_writable: true,
            gate,
            ..EngineOptions::default()
        };
        let engine = Arc::new(open_once_free(&options).await);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            // If the handle is dropped, the server runs until the end of the test.
            if stopped.await.is_err() {
                std::future::pending().await
            }
        };
        let served = tokio::spawn(serve(listener, Arc::clone(&engine), setup.service, shutdown));
        Self { address, engine, stop, served }
    }

    pub async fn channel(&self) -> Channel {
        channel(self.address).await
    }

    pub async fn retrieval(&self) -> RetrievalClient<Channel> {
        RetrievalClient::new(self.channel().await)
    }

    pub async fn admin(&self) -> AdminClient<Channel> {
        AdminClient::new(self.channel().await)
    }

    /// Blocks every search until the gate is dropped. Requires a pool of one thread.
    pub fn close_gate(&self) -> Gate {
        let (gate, opened) = mpsc::channel::<()>();
        self.engine.spawn(move || {
            let _ = opened.recv();
        });
        Gate(gate)
    }

    /// The text of `GET /metrics`.
    pub async fn metrics(&self) -> String {
        let response = http1_get(self.address, "/metrics").await;
        assert!(response.starts_with("HTTP/1.1 200 OK"), "{response}");
        response
    }

    /// The value of a metric with exactly these labels, such as `shortlist_in_flight`.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics().await;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until a metric has a value.
    pub async fn until(&self, name: &str, value: f64) {
        eventually(name, async || self.metric(name).await == Some(value)).await;
    }

    /// Starts the shutdown without waiting for it.
    pub fn begin_stop(self) -> JoinHandle<std::io::Result<Drained>> {
        self.stop.send(()).unwrap();
        self.served
    }

    /// Shuts the server down.
    pub async fn stop(self) -> Drained {
        self.begin_stop().await.unwrap().unwrap()
    }
}

/// Opens an engine. Of a server that a test has stopped, a task that ends may still have the log open.
async fn open_once_free(options: &EngineOptions) -> Engine {
    let started = Instant::now();
    loop {
        match Engine::open(options.clone()) {
            Err(EngineError::Log(LogError::InUse { .. })) if started.elapsed() < Duration::from_secs(10) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            opened => return opened.unwrap(),
        }
    }
}

/// Keeps the compute pool busy until dropped.
pub struct Gate(#[allow(dead_code)] mpsc::Sender<()>);

pub async fn channel(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// Sends an HTTP/1.1 GET. Returns status line, headers and body.
pub async fn http1_get(address: SocketAddr, path: &str) -> String {
    http1_get_with(address, path, "").await
}

/// The same with further header lines, each with its end.
pub async fn http1_get_with(address: SocketAddr, path: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !condition().await {
        assert!(started.elapsed() < HANG, "still waiting for {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Flips a byte in the middle of a section of a generation.
pub fn damage_section(path: &Path, kind: SectionKind) {
    let index = Index::open(path).unwrap();
    let section = *index.sections().iter().find(|section| section.kind == kind).unwrap();
    damage_at(path, (section.offset + section.bytes / 2) as usize);
}

/// Flips a byte in the middle of a section of an index.
pub fn damage(path: &Path) {
    damage_section(path, SectionKind::Vectors);
}

fn damage_at(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0xff;
    // The file may be mapped, so it is replaced rather than changed in place.
    let copy = path.with_extension("damaged");
    std::fs::write(&copy, bytes).unwrap();
    std::fs::rename(copy, path).unwrap();
}
