//! What a router over shards costs: recall, processor time, added latency and bytes for 1, 2, 4 and 8 shards, compared with one
//! server of all videos.
//!
//! `cargo bench --bench cluster` makes a synthetic catalog, builds it whole and in shards, and starts a server for each part. Settings:
//! `SHORTLIST_BENCH_VIDEOS` (100,000), `SHORTLIST_BENCH_SECONDS` per load (10), `SHORTLIST_BENCH_RATE` in searches per second
//! (200), `SHORTLIST_BENCH_SHARDS` (`1,2,4,8`), `SHORTLIST_BENCH_USERS` whose recall is measured (200), and
//! `SHORTLIST_BENCH_CATALOG`, a folder with `videos.npy`, `video_ids.npy`, `users_train.npy` and `users_test.npy` to use in place of a
//! synthetic one. Each load runs by turns against the router and against the one server. Prints one line of JSON
//! per number of shards and k. Recall is that of the same `ef_search` on each shard as on the one server.

#[path = "common/processor_time.rs"]
mod processor_time;
#[path = "common/server.rs"]
mod server;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;
use shortlist::dataset::Embeddings;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{SearchParams, SearchRequest, Vector, search_params, search_request};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use self::processor_time::processor_time;
use self::server::Server;

const DIM: &str = "128";
/// k, and the effort for it.
const EFFORTS: [(u32, u32); 3] = [(10, 128), (100, 200), (500, 1000)];
/// By turns, how often each of the two is measured.
const ROUNDS: usize = 3;

type Client = RetrievalClient<Channel>;

/// The servers of one division, and the router in front of them.
struct Cluster {
    shards: Vec<Server>,
    router: Server,
}

/// What a load cost.
#[derive(Default)]
struct Load {
    latencies: Vec<Duration>,
    /// Of all servers and of the router.
    processor: Duration,
    router: Duration,
    bytes: u64,
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder");
    let catalog =
        std::env::var_os("SHORTLIST_BENCH_CATALOG").map_or_else(|| synth(folder.path()), PathBuf::from);
    let queries = queries(&catalog);
    build(&catalog, &folder.path().join("whole"), "0/1");
    let whole = serve(&folder.path().join("whole"));
    let runtime = Runtime::new().expect("a runtime");
    let divisions = std::env::var("SHORTLIST_BENCH_SHARDS").unwrap_or_else(|_| "1,2,4,8".to_owned());
    for shards in divisions.split(',') {
        let shards: usize = shards.parse().expect("numbers of shards");
        let root = folder.path().join(format!("of-{shards}"));
        let servers: Vec<Server> = (0..shards)
            .map(|shard| {
                build(&catalog, &root, &format!("{shard}/{shards}"));
                let part = format!("shard-{shard}-of-{shards}");
                serve(&if shards == 1 { root.clone() } else { root.join(part) })
            })
            .collect();
        let addresses: Vec<&str> = servers.iter().map(|server| server.address.as_str()).collect();
        let list = format!("videos={}", addresses.join(","));
        let router = Server::run("route", ["--shards", &list]);
        let cluster = Cluster { shards: servers, router };
        for (k, effort) in EFFORTS {
            println!("{}", runtime.block_on(measure(&cluster, &whole, &queries, k, effort)));
        }
    }
}

fn synth(folder: &Path) -> PathBuf {
    let (videos, out) = (setting("SHORTLIST_BENCH_VIDEOS", 100_000).to_string(), folder.join("catalog"));
    run(Command::new(program()).args(["synth", "--videos", &videos, "--dim", DIM, "--out"]).arg(&out));
    out
}

fn program() -> &'static str {
    env!("CARGO_BIN_EXE_shortlist")
}

fn run(command: &mut Command) {
    let output = command.output().expect("the command starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn build(catalog: &Path, out: &Path, shard: &str) {
    let mut command = Command::new(program());
    command.arg("build").arg("--embeddings").arg(catalog.join("videos.npy"));
    command.arg("--ids").arg(catalog.join("video_ids.npy"));
    command.arg("--training-queries").arg(catalog.join("users_train.npy"));
    run(command.args(["--shard", shard, "--out"]).arg(out));
}

fn serve(dir: &Path) -> Server {
    Server::start(["--memory", "mapped", "--index", &format!("videos={}", dir.display())])
}

fn queries(catalog: &Path) -> Vec<Vec<f32>> {
    let users = Embeddings::open(&catalog.join("users_test.npy")).expect("the users open");
    let row = |row| {
        let mut query = Vec::new();
        users.view().copy_row(row, &mut query);
        query
    };
    let count = setting("SHORTLIST_BENCH_USERS", 200) as usize;
    (0..users.view().len().min(count)).map(row).collect()
}

fn request(query: &[f32], k: u32, effort: search_params::Effort) -> SearchRequest {
    let vector = Vector { values: query.to_vec(), packed: None };
    SearchRequest {
        query: Some(search_request::Query::Vector(vector)),
        k,
        params: Some(SearchParams { effort: Some(effort), ..SearchParams::default() }),
        ..SearchRequest::default()
    }
}

async fn best(client: &mut Client, query: &[f32], k: u32, effort: search_params::Effort) -> Vec<(u64, f32)> {
    let answer = client.search(request(query, k, effort)).await.expect("an answer").into_inner();
    answer.candidates.iter().map(|candidate| (candidate.video_id, candidate.score)).collect()
}

/// The share of the exact top k that an answer has, or has as good videos for. Scores of shards differ in their rounding.
fn recall(found: &[(u64, f32)], exact: &[(u64, f32)]) -> f64 {
    let Some((_, least)) = exact.last() else { return 1.0 };
    let ids: HashSet<u64> = exact.iter().map(|(id, _)| *id).collect();
    let is_best = |(id, score): &&(u64, f32)| ids.contains(id) || score >= least;
    found.iter().filter(is_best).count().min(exact.len()) as f64 / exact.len() as f64
}

async fn measure(
    cluster: &Cluster,
    whole: &Server,
    queries: &[Vec<f32>],
    k: u32,
    ef_search: u32,
) -> serde_json::Value {
    let (mut routed, mut direct) =
        (RetrievalClient::new(cluster.router.connect().await), RetrievalClient::new(whole.connect().await));
    let effort = search_params::Effort::EfSearch(ef_search);
    let (mut recall_routed, mut recall_direct) = (0.0, 0.0);
    for query in queries {
        let exact = best(&mut direct, query, k, search_params::Effort::Exact(true)).await;
        recall_routed += recall(&best(&mut routed, query, k, effort).await, &exact);
        recall_direct += recall(&best(&mut direct, query, k, effort).await, &exact);
    }
    let (mut with, mut without) = (Load::default(), Load::default());
    for _ in 0..ROUNDS {
        load(&routed, queries, k, effort, &cluster.shards, Some(&cluster.router), &mut with).await;
        load(&direct, queries, k, effort, std::slice::from_ref(whole), None, &mut without).await;
    }
    let micros = |duration: Duration| (duration.as_secs_f64() * 1e6).round();
    let per_search = |load: &Load, time: Duration| micros(time / load.latencies.len() as u32);
    let users = queries.len() as f64;
    let [routed, direct] = [&mut with, &mut without].map(|load| {
        load.latencies.sort_unstable();
        let at = |share: f64| load.latencies[(load.latencies.len() as f64 * share) as usize];
        (at(0.5), at(0.99))
    });
    json!({
        "shards": cluster.shards.len(),
        "k": k,
        "ef_search": ef_search,
        "recall": recall_routed / users,
        "recall_of_one_server": recall_direct / users,
        "processor_us_of_shards": per_search(&with, with.processor),
        "processor_us_of_router": per_search(&with, with.router),
        "processor_us_of_one_server": per_search(&without, without.processor),
        "processor_ratio": with.processor.as_secs_f64() / without.processor.as_secs_f64()
            * without.latencies.len() as f64 / with.latencies.len() as f64,
        "p50_us": micros(routed.0),
        "p50_us_of_one_server": micros(direct.0),
        "p99_us": micros(routed.1),
        "p99_us_of_one_server": micros(direct.1),
        "loopback_bytes": with.bytes / with.latencies.len() as u64,
        "loopback_bytes_of_one_server": without.bytes / without.latencies.len() as u64,
    })
}

/// Sends searches when they are due, whether or not earlier ones were answered.
async fn load(
    client: &Client,
    queries: &[Vec<f32>],
    k: u32,
    effort: search_params::Effort,
    servers: &[Server],
    router: Option<&Server>,
    into: &mut Load,
) {
    let rate = setting("SHORTLIST_BENCH_RATE", 200);
    let count = rate * setting("SHORTLIST_BENCH_SECONDS", 10) / ROUNDS as u64;
    let processor = || servers.iter().map(|server| processor_time(server.id(), "")).sum::<Duration>();
    let of_router = || router.map_or(Duration::ZERO, |router| processor_time(router.id(), ""));
    let before = (processor(), of_router(), loopback());
    let latencies = Arc::new(Mutex::new(Vec::new()));
    let (began, mut running) = (Instant::now(), JoinSet::new());
    for number in 0..count {
        let due = began + Duration::from_secs(1) * number as u32 / rate as u32;
        tokio::time::sleep_until(due.into()).await;
        let (mut client, latencies) = (client.clone(), Arc::clone(&latencies));
        let request = request(&queries[number as usize % queries.len()], k, effort);
        running.spawn(async move {
            client.search(request).await.expect("an answer");
            latencies.lock().push(due.elapsed());
        });
    }
    running.join_all().await;
    into.processor += processor() - before.0;
    into.router += of_router() - before.1;
    into.bytes += loopback() - before.2;
    into.latencies.append(&mut latencies.lock());
}

/// Bytes that were sent over loopback.
fn loopback() -> u64 {
    let text =
        fs::read_to_string("/sys/class/net/lo/statistics/tx_bytes").expect("the statistics of loopback");
    text.trim().parse().expect("a number")
}
