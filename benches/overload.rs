//! Answers in time when more searches arrive than can be computed: an open loop at 1, 2 and 5 times the capacity.
//!
//! `cargo bench --bench overload` serves a random index with `shortlist serve`, measures its capacity with as many callers
//! as keep it busy, and then sends exact searches when they are due, whether or not earlier ones were answered. Settings:
//! `SHORTLIST_BENCH_SERVER` (address of a server that runs already, of `DIM` dimensions), `SHORTLIST_BENCH_SECONDS` per
//! load (10), `SHORTLIST_BENCH_DEADLINE_MS` (200). Prints one line of JSON per load. Use a core of its own for the caller,
//! such as `taskset -c 0`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::base::metric::Metric;
use shortlist::build::{BuildParams, Silent, build};
use shortlist::dataset::{Dataset, DatasetFiles, write_npy};
use shortlist::index::IndexStore;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{SearchParams, SearchRequest, Vector, search_params, search_request};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Request};

const VIDEOS: usize = 20_000;
const DIM: usize = 128;
/// Connections of the caller.
const CONNECTIONS: usize = 4;
/// Calls in flight that measure the capacity.
const CLOSED: usize = 32;
/// Multiples of the capacity, the last to see the recovery.
const LOADS: [f64; 4] = [1.0, 2.0, 5.0, 0.5];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_server, address) = match std::env::var("SHORTLIST_BENCH_SERVER") {
        Ok(address) => (None, address),
        Err(_) => {
            let server = Server::start(build_index(folder.path()).dir());
            let address = server.address.clone();
            (Some(server), address)
        }
    };
    let seconds = Duration::from_secs(setting("SHORTLIST_BENCH_SECONDS", 10));
    let deadline = Duration::from_millis(setting("SHORTLIST_BENCH_DEADLINE_MS", 200));
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let client = RetrievalClient::connect(format!("http://{address}")).await;
            clients.push(client.expect("a connection"));
        }
        let capacity = capacity(&clients, seconds).await;
        println!("{}", serde_json::json!({ "capacity_per_s": capacity.round() }));
        for load in LOADS {
            open_loop(&clients, load, capacity, seconds, deadline).await;
        }
    });
}

fn request(rng: &mut ChaCha8Rng) -> SearchRequest {
    let values = (0..DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
    let vector = Vector { values, packed: None };
    SearchRequest {
        query: Some(search_request::Query::Vector(vector)),
        k: 10,
        params: Some(SearchParams {
            effort: Some(search_params::Effort::Exact(true)),
            ..SearchParams::default()
        }),
        ..SearchRequest::default()
    }
}

/// Answers per second as fast as they come.
async fn capacity(clients: &[RetrievalClient<Channel>], seconds: Duration) -> f64 {
    let started = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CLOSED {
        let mut client = clients[caller % clients.len()].clone();
        let mut rng = ChaCha8Rng::seed_from_u64(caller as u64);
        callers.spawn(async move {
            let mut answered = 0u64;
            while started.elapsed() < seconds {
                client.search(request(&mut rng)).await.expect("an answer");
                answered += 1;
            }
            answered
        });
    }
    callers.join_all().await.into_iter().sum::<u64>() as f64 / started.elapsed().as_secs_f64()
}

/// The times of calls by what became of them.
#[derive(Default)]
struct Outcome {
    in_time: Vec<Duration>,
    refused: Vec<Duration>,
    late: usize,
    failed: usize,
    /// When the first answer in time arrived since the load began.
    first: Option<Duration>,
}

async fn open_loop(
    clients: &[RetrievalClient<Channel>],
    load: f64,
    capacity: f64,
    seconds: Duration,
    deadline: Duration,
) {
    let calls = (capacity * load * seconds.as_secs_f64()) as u64;
    let outcome = Arc::new(Mutex::new(Outcome::default()));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let started = Instant::now();
    let mut all = JoinSet::new();
    for call in 0..calls {
        let due = started + Duration::from_secs_f64(call as f64 / (capacity * load));
        tokio::time::sleep_until(due.into()).await;
        let mut client = clients[call as usize % clients.len()].clone();
        let mut request = Request::new(request(&mut rng));
        request.set_timeout(deadline);
        let outcome = Arc::clone(&outcome);
        all.spawn(async move {
            let answer = client.search(request).await;
            let took = due.elapsed();
            let mut outcome = outcome.lock();
            match answer {
                Ok(_) if took <= deadline => {
                    outcome.first.get_or_insert(started.elapsed());
                    outcome.in_time.push(took);
                }
                Ok(_) => outcome.late += 1,
                Err(status) if status.code() == Code::ResourceExhausted => outcome.refused.push(took),
                Err(status) if status.code() == Code::DeadlineExceeded => outcome.late += 1,
                Err(_) => outcome.failed += 1,
            }
        });
    }
    all.join_all().await;
    let mut outcome = outcome.lock();
    let in_time = outcome.in_time.len() as f64 / seconds.as_secs_f64();
    let line = serde_json::json!({
        "load": load,
        "offered_per_s": (capacity * load).round(),
        "in_time_per_s": in_time.round(),
        "goodput_of_capacity": in_time / (capacity * load.min(1.0)),
        "in_time_p99_ms": p99(&mut outcome.in_time),
        "refused": outcome.refused.len(),
        "refused_p99_ms": p99(&mut outcome.refused),
        "late": outcome.late,
        "failed": outcome.failed,
        "first_in_time_after_ms": outcome.first.map(|first| first.as_secs_f64() * 1e3),
    });
    println!("{line}");
}

fn p99(times: &mut [Duration]) -> Option<f64> {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) * 99 / 100).map(|time| time.as_secs_f64() * 1e3)
}

/// A server in its own process, killed on drop.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shortlist"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--index"]).arg(dir);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the server starts");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("the server prints its address");
        let address = line.split_whitespace().nth(4).expect("an address").to_owned();
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn build_index(folder: &Path) -> IndexStore {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let values: Vec<f32> = (0..VIDEOS * DIM).map(|_| rng.random_range(-1.0..1.0)).collect();
    let embeddings = folder.join("embeddings.npy");
    write_npy(&embeddings, &[VIDEOS, DIM], &values).expect("embeddings are written");
    let files = DatasetFiles { embeddings, ..DatasetFiles::default() };
    let dataset = Dataset::open(&files, Metric::InnerProduct).expect("the catalog opens");
    let params = BuildParams::new(Metric::InnerProduct, 16, 100).expect("parameters are in range");
    let store = IndexStore::new(folder.join("index"));
    build(&dataset, None, &params, &store, &Silent, Instant::now()).expect("the index is built");
    store
}
