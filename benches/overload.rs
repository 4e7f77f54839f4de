//! Answers in time when more searches arrive than can be computed: an open loop at 1, 2 and 5 times the capacity.
//!
//! `cargo bench --bench overload` serves a random index with `shortlist serve`, measures its capacity with as many callers
//! as keep it busy, and then sends exact searches when they are due, whether or not earlier ones were answered. The last
//! load is half of the capacity and shows the recovery. Settings: `SHORTLIST_BENCH_VIDEOS` (20,000), which decides what a
//! search costs, `SHORTLIST_BENCH_SECONDS` per load (10), `SHORTLIST_BENCH_DEADLINE_MS` (200), and
//! `SHORTLIST_BENCH_SERVER_CPUS`. Prints one line of JSON per load. Give server and caller processors of their own:
//! `SHORTLIST_BENCH_SERVER_CPUS=1 taskset -c 0 cargo bench --bench overload`.

#[path = "common/processor_time.rs"]
mod processor_time;
#[path = "common/random.rs"]
mod random;
#[path = "common/server.rs"]
mod server;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{SearchParams, SearchRequest, Vector, search_params, search_request};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Request};

use self::processor_time::processor_time;
use self::random::random_index;
use self::server::Server;

const DIM: usize = 128;
/// Connections of the caller.
const CONNECTIONS: usize = 4;
/// Names of the threads of the server that read calls and write answers begin with this.
const IO_THREADS: &str = "tokio";
/// Calls in flight that measure the capacity.
const CLOSED: usize = 32;
/// Multiples of the capacity, the last to see the recovery.
const LOADS: [f64; 4] = [1.0, 2.0, 5.0, 0.5];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let videos = setting("SHORTLIST_BENCH_VIDEOS", 20_000) as usize;
    let store = random_index(folder.path(), videos, DIM);
    let server = Server::start(["--index".as_ref(), store.dir()]);
    let seconds = Duration::from_secs(setting("SHORTLIST_BENCH_SECONDS", 10));
    let deadline = Duration::from_millis(setting("SHORTLIST_BENCH_DEADLINE_MS", 200));
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            clients.push(RetrievalClient::new(server.connect().await));
        }
        let capacity = capacity(&clients, seconds).await;
        println!("{}", serde_json::json!({ "capacity_per_s": capacity.round() }));
        for load in LOADS {
            open_loop(&server, &clients, load, capacity, seconds, deadline).await;
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
    server: &Server,
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
    let before = processor_time(server.id(), IO_THREADS);
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
    let io_time = processor_time(server.id(), IO_THREADS) - before;
    let mut outcome = outcome.lock();
    let in_time = outcome.in_time.len() as f64 / seconds.as_secs_f64();
    let line = serde_json::json!({
        "load": load,
        "offered_per_s": (capacity * load).round(),
        "in_time_per_s": in_time.round(),
        "goodput_of_capacity": in_time / (capacity * load.min(1.0)),
        "in_time_p99_ms": quantile(&mut outcome.in_time, 99),
        "refused": outcome.refused.len(),
        "refused_p50_ms": quantile(&mut outcome.refused, 50), "refused_p99_ms": quantile(&mut outcome.refused, 99),
        "io_us_per_call": io_time.as_secs_f64() * 1e6 / calls as f64,
        "late": outcome.late,
        "failed": outcome.failed,
        "first_in_time_after_ms": outcome.first.map(|first| first.as_secs_f64() * 1e3),
    });
    println!("{line}");
}

/// The time that this share of the calls took at most, in milliseconds.
fn quantile(times: &mut [Duration], percent: usize) -> Option<f64> {
    times.sort_unstable();
    times.get(times.len().saturating_sub(1) * percent / 100).map(|time| time.as_secs_f64() * 1e3)
}
