//! Memory, disk use and recall of a server whose catalog is replaced continuously.
//!
//! `cargo bench --bench soak` writes to a `shortlist serve` with default thresholds, which rebuilds by itself, and searches
//! it at the same time. Settings: `SHORTLIST_BENCH_MINUTES` (30), `SHORTLIST_BENCH_VIDEOS` (100,000) and
//! `SHORTLIST_BENCH_UPSERTS` per second (1,000). Prints a line per minute, and compares the memory of the last third of
//! the run with that of the second third.

#[path = "common/rows.rs"]
mod rows;
#[path = "common/server.rs"]
mod server;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::base::metric::Metric;
use shortlist::build::{BuildParams, Silent, build};
use shortlist::dataset::{Dataset, DatasetFiles};
use shortlist::index::IndexStore;
use shortlist::service::proto::admin_client::AdminClient;
use shortlist::service::proto::catalog_client::CatalogClient;
use shortlist::service::proto::retrieval_client::RetrievalClient;
use shortlist::service::proto::{
    DeleteRequest, Dtype, GetStatusRequest, IndexStatus, PackedVector, RestoreRequest, SearchRequest,
    TakedownRequest, UpsertRequest, Vector, Video, search_request,
};
use shortlist::synth::{SynthParams, synth};
use tonic::transport::Channel;

use self::rows::all_rows;
use self::server::Server;

const DIM: usize = 128;
const K: u32 = 100;
const USERS: usize = 1_000;
/// Write requests per second.
const WRITES: u64 = 10;
/// Interval between searches.
const BETWEEN_SEARCHES: Duration = Duration::from_millis(2);
/// 1 in this many upserted videos expires, after [`EXPIRES_AFTER`].
const EXPIRING: u64 = 10;
const EXPIRES_AFTER: Duration = Duration::from_secs(20);
/// Number of videos taken down at any time.
const TAKEN_DOWN: u64 = 100;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// Upserts new videos and deletes the oldest, so that the number of videos is constant.
struct Writer {
    client: CatalogClient<Channel>,
    rows: Arc<Vec<f32>>,
    /// Ids from here to `next` exist, except those that expired or are taken down.
    oldest: u64,
    next: u64,
    down: Vec<u64>,
    random: ChaCha8Rng,
}

impl Writer {
    async fn write(&mut self, upserts: u64) {
        let expires_at = Some((SystemTime::now() + EXPIRES_AFTER).into());
        let video = |id: u64| Video {
            video_id: id,
            vector: Some(vector(&self.rows, id)),
            expires_at: expires_at.filter(|_| id.is_multiple_of(EXPIRING)),
            ..Video::default()
        };
        let videos = (self.next..self.next + upserts).map(video).collect();
        self.client.upsert(UpsertRequest { videos, ..UpsertRequest::default() }).await.expect("an upsert");
        let video_ids = (self.oldest..self.oldest + upserts).collect();
        let delete = DeleteRequest { video_ids, ..DeleteRequest::default() };
        self.client.delete(delete).await.expect("a delete");
        (self.next, self.oldest) = (self.next + upserts, self.oldest + upserts);
        let down = self.random.random_range(self.oldest..self.next);
        self.down.push(down);
        let takedown = TakedownRequest { video_ids: vec![down], ..TakedownRequest::default() };
        self.client.takedown(takedown).await.expect("a takedown");
        if self.down.len() as u64 > TAKEN_DOWN {
            let restore =
                RestoreRequest { video_ids: vec![self.down.remove(0)], ..RestoreRequest::default() };
            self.client.restore(restore).await.expect("a restore");
        }
    }
}

fn vector(rows: &[f32], at: u64) -> Vector {
    let first = at as usize * DIM % rows.len();
    let data = rows[first..first + DIM].iter().flat_map(|value| value.to_le_bytes()).collect();
    Vector { values: Vec::new(), packed: Some(PackedVector { data, dtype: Dtype::F32.into() }) }
}

/// Searches at a constant rate until `done`.
async fn search(channel: Channel, users: Vec<f32>, done: Arc<AtomicBool>, times: Arc<Mutex<Vec<Duration>>>) {
    let mut client = RetrievalClient::new(channel);
    let mut due = tokio::time::interval(BETWEEN_SEARCHES);
    for user in 0.. {
        due.tick().await;
        if done.load(Ordering::Relaxed) {
            return;
        }
        let query = Some(search_request::Query::Vector(vector(&users, user)));
        let began = Instant::now();
        let request = SearchRequest { query, k: K, ..SearchRequest::default() };
        let answer = client.search(request).await.expect("an answer").into_inner();
        assert_eq!(answer.candidates.len(), K as usize, "a short answer");
        times.lock().push(began.elapsed());
    }
}

/// The field `name` of `/proc/PID/status`, in MiB.
fn memory(server: &Server, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id()));
    let status = status.expect("memory of a process");
    let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("a size") / 1024
}

fn folder_mb(dir: &Path) -> f64 {
    let entries = std::fs::read_dir(dir).expect("a folder");
    let bytes: u64 = entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum();
    bytes as f64 / 1e6
}

async fn status(channel: &Channel) -> IndexStatus {
    let answer = AdminClient::new(channel.clone()).get_status(GetStatusRequest::default()).await;
    answer.expect("a status").into_inner().indexes.remove(0)
}

fn mean(values: &[u64]) -> f64 {
    values.iter().sum::<u64>() as f64 / values.len().max(1) as f64
}

#[tokio::main]
async fn main() {
    let (videos, minutes) =
        (setting("SHORTLIST_BENCH_VIDEOS", 100_000), setting("SHORTLIST_BENCH_MINUTES", 30));
    let per_write = (setting("SHORTLIST_BENCH_UPSERTS", 1_000) / WRITES).max(1);
    let folder = tempfile::tempdir().expect("a folder");
    let params =
        SynthParams { videos: videos as usize, dim: DIM, users: videos as usize, seed: 42, duplicates: 0 };
    let files = synth(params, &folder.path().join("synth"), |_| {}).expect("a catalog");
    let store = IndexStore::new(folder.path().join("index"));
    {
        // Ids are row numbers from 0, and there are no attributes, so upserts need none either.
        let files = DatasetFiles::of(files.videos.clone());
        let dataset = Dataset::open(&files, Metric::InnerProduct).expect("a catalog");
        let (m, ef_construction) = (BuildParams::DEFAULT_M, BuildParams::DEFAULT_EF_CONSTRUCTION);
        let params = BuildParams::new(Metric::InnerProduct, m, ef_construction).expect("defaults");
        build(&dataset, None, &params, &store, &Silent, Instant::now()).expect("a build");
    }
    let server = Server::start(["--index".as_ref(), store.dir()]);
    let channel = server.connect().await;
    let users = all_rows(&files.users_test)[..USERS * DIM].to_vec();
    let (done, times) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    let searches = tokio::spawn(search(channel.clone(), users, Arc::clone(&done), Arc::clone(&times)));
    let written = Arc::new(AtomicU64::new(0));
    let writes = tokio::spawn({
        let (done, written) = (Arc::clone(&done), Arc::clone(&written));
        let mut writer = Writer {
            client: CatalogClient::new(channel.clone()),
            rows: Arc::new(all_rows(&files.videos)),
            oldest: 0,
            next: videos,
            down: Vec::new(),
            random: ChaCha8Rng::seed_from_u64(1),
        };
        async move {
            let mut due = tokio::time::interval(Duration::from_secs(1) / WRITES as u32);
            while !done.load(Ordering::Relaxed) {
                due.tick().await;
                writer.write(per_write).await;
                written.fetch_add(per_write, Ordering::Relaxed);
            }
        }
    });

    println!(
        "| minute | upserted | generation | searches, p50, p99 | recall@{K} | anonymous MB | mapped MB | folder MB | folder / generation |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
    let mut anonymous = Vec::new();
    for minute in 1..=minutes {
        tokio::time::sleep(Duration::from_secs(60)).await;
        let status = status(&channel).await;
        let mut of_minute = std::mem::take(&mut *times.lock());
        assert!(!of_minute.is_empty(), "no search finished within a minute");
        of_minute.sort_unstable();
        let quantile = |share: f64| of_minute[(of_minute.len() as f64 * share) as usize];
        let recall = status.recall.iter().find(|recall| recall.k == K).map_or(0.0, |recall| recall.recall);
        let on_disk = folder_mb(store.dir());
        anonymous.push(memory(&server, "RssAnon"));
        println!(
            "| {minute} | {} | {} | {}, {:.1?}, {:.1?} | {recall:.4} | {} | {} | {on_disk:.0} | {:.2} |",
            written.load(Ordering::Relaxed),
            status.generation,
            of_minute.len(),
            quantile(0.5),
            quantile(0.99),
            anonymous.last().unwrap_or(&0),
            memory(&server, "RssFile"),
            on_disk * 1e6 / status.bytes as f64,
        );
    }
    done.store(true, Ordering::Relaxed);
    searches.await.expect("searches end");
    writes.await.expect("writes end");
    let third = anonymous.len() / 3;
    let of_thirds = anonymous[anonymous.len() - 2 * third..].chunks_exact(third.max(1)).map(mean);
    println!(
        "\nanonymous MB, mean of the second and of the last third: {:.0?}",
        of_thirds.collect::<Vec<_>>()
    );
}
