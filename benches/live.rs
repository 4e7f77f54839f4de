//! Cost of a changing catalog: searches over a delta, writes during searches, swaps of generations under load, and recall
//! while every video is replaced. And searches when half of the videos expire at once.
//!
//! `cargo bench --bench live -- delta writes swaps churn expiry` runs the named sections, all of them by default. Settings:
//! `SHORTLIST_BENCH_VIDEOS` (100,000), `SHORTLIST_BENCH_ROUNDS` of churn (20), `SHORTLIST_BENCH_SECONDS` per measurement
//! of writes and swaps (10), `SHORTLIST_BENCH_TAUGHT=0` to build graphs without training queries. Prints tables, each
//! measured once, since a run takes minutes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::base::id::VideoId;
use shortlist::base::metric::Metric;
use shortlist::build::{BuildParams, Silent, build};
use shortlist::dataset::{Dataset, Embeddings};
use shortlist::engine::{
    Budget, Effort, Engine, EngineOptions, Query, RebuildOptions, RebuildState, SampleOptions, SearchRequest,
    WriteMode,
};
use shortlist::index::IndexStore;
use shortlist::live::{Mutation, Upsert};
use shortlist::synth::{SynthFiles, SynthParams, synth};

const DIM: usize = 128;
const K: usize = 100;
const EF_SEARCH: usize = 200;
/// Number of queries; recall is measured with the first [`CHECKED`] of them.
const USERS: usize = 500;
const CHECKED: usize = 100;
/// Videos in one write.
const BATCH: usize = 100;
/// A churn round replaces 1 in this many videos.
const REPLACED: usize = 20;
/// Load during swaps, as a share of the maximum search rate.
const LOAD: f64 = 0.7;
const SWAPS: usize = 200;
const TURNS: usize = 20;
const BETWEEN_SWAPS: Duration = Duration::from_millis(250);
const BETWEEN_WRITES: Duration = Duration::from_millis(25);

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

fn main() {
    let wanted: HashSet<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.contains(name);
    let world = World::new(setting("SHORTLIST_BENCH_VIDEOS", 100_000));
    if is_wanted("delta") {
        delta(&world);
    }
    if is_wanted("writes") {
        writes(&world);
    }
    if is_wanted("swaps") {
        swaps(&world);
    }
    if is_wanted("churn") {
        churn(&world);
    }
    if is_wanted("expiry") {
        expiry(&world);
    }
}

/// A catalog, an equal number of videos outside it, and users.
struct World {
    folder: tempfile::TempDir,
    videos: usize,
    /// `[2 × videos × DIM]`. The second half is not in the catalog; it is sorted along a direction of the space.
    rows: Vec<f32>,
    files: SynthFiles,
    /// `[USERS × DIM]`.
    users: Vec<f32>,
}

impl World {
    fn new(videos: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let params = SynthParams { videos: 2 * videos, dim: DIM, users: videos.min(100_000), seed: 42 };
        let files = synth(params, &folder.path().join("synth"), |_| {}).expect("a catalog");
        let mut rows = all_rows(&files.videos);
        drift(&mut rows[videos * DIM..]);
        let users = all_rows(&files.users_test)[..USERS * DIM].to_vec();
        Self { folder, videos, rows, files, users }
    }

    fn row(&self, video: usize) -> &[f32] {
        &self.rows[video * DIM..(video + 1) * DIM]
    }

    /// Builds an index of some videos with training queries, on `threads` threads; 0 for one per core.
    fn build(&self, name: &str, videos: &[usize], threads: usize) -> PathBuf {
        self.build_expiring(name, videos, None, threads)
    }

    /// As `build`, with the time at which every second video expires, in microseconds since 1970.
    fn build_expiring(&self, name: &str, videos: &[usize], at: Option<i64>, threads: usize) -> PathBuf {
        let dir = self.folder.path().join(name);
        let rows = videos.iter().flat_map(|video| self.row(*video)).copied().collect();
        let dataset = Dataset {
            embeddings: Embeddings::in_memory(Path::new("videos"), DIM, rows),
            ids: videos.iter().map(|video| id(*video)).collect(),
            attributes: Vec::new(),
            expires_at: at.map(|at| (0..videos.len()).map(|row| [at, i64::MAX][row % 2]).collect()),
        };
        let is_taught = setting("SHORTLIST_BENCH_TAUGHT", 1) > 0;
        let users = is_taught.then(|| Embeddings::open(&self.files.users_train).expect("users"));
        let (store, params) = (IndexStore::new(&dir), params().with_threads(threads));
        build(&dataset, users.as_ref(), &params, &store, &Silent, Instant::now()).expect("a build");
        dir
    }

    fn open(&self, dir: &Path) -> Engine {
        let engine = Engine::open(EngineOptions {
            indexes: vec![("videos".to_owned(), dir.to_owned())],
            threads: 1,
            is_writable: true,
            // Rebuild only on request.
            rebuild: RebuildOptions { delta_share: 0.0, deleted_share: 0.0, ..RebuildOptions::default() },
            // No sampled queries: the users that measure a generation must not train it.
            sample: SampleOptions { share: 0.0 },
            ..EngineOptions::default()
        });
        let engine = engine.expect("an engine");
        engine.refresh();
        engine
    }

    fn upserts(&self, videos: impl Iterator<Item = usize>) -> Vec<Mutation> {
        let upsert = |video| {
            Mutation::Upsert(Upsert {
                video_id: id(video),
                embedding: self.row(video).to_vec(),
                attributes: Vec::new(),
                expires_at: None,
                embedding_model: None,
            })
        };
        videos.map(upsert).collect()
    }

    fn request(&self, user: usize, effort: Effort) -> SearchRequest {
        let user = user % USERS;
        SearchRequest {
            query: Query::Vector(self.users[user * DIM..(user + 1) * DIM].to_vec()),
            k: K,
            effort,
            ..SearchRequest::default()
        }
    }

    /// Microseconds per search in the fastest of four rounds, and recall@k.
    fn measure(&self, engine: &Engine) -> (f64, f64) {
        const ROUNDS: usize = 4;
        let requests: Vec<_> =
            (0..USERS).map(|user| self.request(user, Effort::EfSearch(EF_SEARCH))).collect();
        let mut fastest = f64::MAX;
        for _ in 0..ROUNDS {
            let began = Instant::now();
            requests.iter().for_each(|request| drop(ids_of(engine, request)));
            fastest = fastest.min(began.elapsed().as_secs_f64() / USERS as f64);
        }
        let mut hits = 0;
        for (user, request) in requests.iter().enumerate().take(CHECKED) {
            let exact = ids_of(engine, &self.request(user, Effort::Exact));
            hits += ids_of(engine, request).iter().filter(|found| exact.contains(found)).count();
        }
        (fastest * 1e6, hits as f64 / (CHECKED * K) as f64)
    }
}

/// The defaults of `shortlist build`.
fn params() -> BuildParams {
    let (m, ef_construction) = (BuildParams::DEFAULT_M, BuildParams::DEFAULT_EF_CONSTRUCTION);
    BuildParams::new(Metric::InnerProduct, m, ef_construction).expect("defaults")
}

fn id(video: usize) -> VideoId {
    VideoId(1 + video as u64)
}

fn ids_of(engine: &Engine, request: &SearchRequest) -> HashSet<VideoId> {
    let answer = engine.search(request, &Budget::default()).expect("an answer");
    assert_eq!(answer.candidates.len(), K, "a short answer");
    answer.candidates.iter().map(|candidate| candidate.video_id).collect()
}

fn all_rows(path: &Path) -> Vec<f32> {
    let file = Embeddings::open(path).expect("a file of embeddings");
    let (mut rows, mut row) = (Vec::new(), Vec::new());
    for at in 0..file.view().len() {
        file.view().copy_row(at, &mut row);
        rows.extend_from_slice(&row);
    }
    rows
}

/// Sorts rows along a random direction.
fn drift(rows: &mut [f32]) {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let direction: Vec<f32> = (0..DIM).map(|_| random.random_range(-1.0..1.0)).collect();
    let along = |row: &[f32]| row.iter().zip(&direction).map(|(a, b)| a * b).sum::<f32>();
    let mut order: Vec<&[f32]> = rows.chunks_exact(DIM).collect();
    order.sort_by(|a, b| along(a).total_cmp(&along(b)));
    let sorted = order.concat();
    rows.copy_from_slice(&sorted);
}

/// Search time and recall against the number of videos written since the build.
fn delta(world: &World) {
    let engine = world.open(&world.build("delta", &(0..world.videos).collect::<Vec<_>>(), 0));
    println!("\n| written since | us per search | recall@{K} |\n|---|---|---|");
    let mut written = 0;
    for target in [0, 1, 1_000, 10_000, 100_000] {
        if target > world.videos {
            break;
        }
        // Not in order of drift, so that the delta has videos from everywhere.
        let of_target: Vec<usize> =
            (written..target).map(|at| world.videos + at * 7 % world.videos).collect();
        for batch in of_target.chunks(BATCH) {
            let batch = world.upserts(batch.iter().copied());
            engine.write("", batch, WriteMode::AllOrNothing).expect("a write");
        }
        written = target;
        engine.refresh();
        let (us, recall) = world.measure(&engine);
        println!("| {target} | {us:.1} | {recall:.4} |");
    }
}

/// The quantile `share` of `times`, which are sorted in place.
fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let at = (times.len() as f64 * share) as usize;
    times.get(at.min(times.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Latencies of searches.
#[derive(Default)]
struct Times {
    /// From start to end of the search.
    alone: Vec<Duration>,
    /// From the time it was due; the same if each search starts when the last one ends.
    with_waiting: Vec<Duration>,
}

/// Searches until `done`, back to back or once per `every`.
fn search_until(world: &World, engine: &Engine, done: &AtomicBool, every: Option<Duration>) -> Times {
    let began = Instant::now();
    let mut times = Times::default();
    for turn in 0.. {
        if done.load(Ordering::Relaxed) {
            break;
        }
        let mut due = Instant::now();
        if let Some(every) = every {
            due = began + every * turn as u32;
            // Busy-wait: a sleep wakes up late, and a yield can give a whole time slice away.
            while Instant::now() < due {
                std::hint::spin_loop();
            }
        }
        let request = world.request(turn, Effort::EfSearch(EF_SEARCH));
        let began_search = Instant::now();
        let answer = engine.search(&request, &Budget::default()).expect("an answer");
        assert_eq!(answer.candidates.len(), K, "a short answer");
        times.alone.push(began_search.elapsed());
        times.with_waiting.push(due.elapsed());
    }
    times
}

/// Searches while `work` runs. Returns the latencies and the result of `work`.
fn during<R>(
    world: &World,
    engine: &Engine,
    every: Option<Duration>,
    work: impl FnOnce() -> R,
) -> (Times, R) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let searches = scope.spawn(|| search_until(world, engine, &done, every));
        // Refreshes once a second, as a server does.
        scope.spawn(|| {
            for turn in 1.. {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
                if turn % 10 == 0 {
                    engine.refresh();
                }
            }
        });
        let result = work();
        done.store(true, Ordering::Relaxed);
        (searches.join().expect("searches"), result)
    })
}

/// Writes by one or more writers during searches.
fn writes(world: &World) {
    let seconds = Duration::from_secs(setting("SHORTLIST_BENCH_SECONDS", 10) as u64);
    println!("\n| writers × videos in a write | upserts/s | p99 of a write | searches/s | p99 of a search |");
    println!("|---|---|---|---|---|");
    let videos: Vec<usize> = (0..world.videos).collect();
    for (writers, batch) in [(0, 0), (1, 1), (16, 1), (1, 100), (4, 100)] {
        let engine = world.open(&world.build(&format!("writes-{writers}-{batch}"), &videos, 0));
        let (mut searches, mut acknowledged) = during(world, &engine, None, || {
            let until = Instant::now() + seconds;
            let write = |writer: usize| {
                let mut times = Vec::new();
                let mut next = writer;
                while Instant::now() < until {
                    let of_batch = (0..batch).map(|at| world.videos + (next + at * 31) % world.videos);
                    let mutations = world.upserts(of_batch);
                    let began = Instant::now();
                    engine.write("", mutations, WriteMode::AllOrNothing).expect("a write");
                    times.push(began.elapsed());
                    next += 31 * batch;
                }
                times
            };
            if writers == 0 {
                std::thread::sleep(seconds);
            }
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..writers).map(|writer| scope.spawn(move || write(writer))).collect();
                threads.into_iter().flat_map(|thread| thread.join().expect("a writer")).collect::<Vec<_>>()
            })
        });
        let per_second = |count: usize| count as f64 / seconds.as_secs_f64();
        println!(
            "| {writers} × {batch} | {:.0} | {:.2?} | {:.0} | {:.2?} |",
            per_second(acknowledged.len() * batch),
            quantile(&mut acknowledged, 0.99),
            per_second(searches.alone.len()),
            quantile(&mut searches.alone, 0.99),
        );
    }
}

/// Swaps of generations with writes, at a share of the maximum search rate of one thread. Turns with swaps alternate with
/// equally long turns without, so that other load of the machine affects both alike.
fn swaps(world: &World) {
    let videos: Vec<usize> = (0..world.videos).collect();
    let dir = world.build("swaps", &videos, 0);
    world.build("swaps", &videos, 0);
    let engine = world.open(&dir);
    let seconds = Duration::from_secs(setting("SHORTLIST_BENCH_SECONDS", 10) as u64);
    let mut written = 0;
    let mut write = |engine: &Engine| {
        let batch = std::iter::once(world.videos + written * 7 % world.videos);
        let sequence =
            engine.write("", world.upserts(batch), WriteMode::AllOrNothing).expect("a write").sequence;
        written += 1;
        let request =
            SearchRequest { min_sequence: sequence, ..world.request(written, Effort::EfSearch(EF_SEARCH)) };
        assert!(ids_of(engine, &request).len() == K);
        std::thread::sleep(BETWEEN_WRITES);
    };
    let mut until = |until: Instant| {
        while Instant::now() < until {
            write(&engine);
        }
    };
    let (unlimited, ()) = during(world, &engine, None, || until(Instant::now() + seconds));
    let every = seconds.div_f64(unlimited.alone.len() as f64 * LOAD);
    let (mut steady, mut swapping, mut ratios) = (Times::default(), Times::default(), Vec::new());
    let mut elapsed = Duration::ZERO;
    for _ in 0..TURNS {
        let (mut with, took) = during(world, &engine, Some(every), || {
            let began = Instant::now();
            for swap in 0..SWAPS / TURNS {
                engine.activate("", 1 + swap as u64 % 2).expect("a swap");
                until(Instant::now() + BETWEEN_SWAPS);
            }
            began.elapsed()
        });
        let (mut without, ()) = during(world, &engine, Some(every), || until(Instant::now() + took));
        let p99 = |times: &mut Times| quantile(&mut times.alone, 0.99).as_secs_f64();
        ratios.push(p99(&mut with) / p99(&mut without));
        for (all, of_turn) in [(&mut swapping, with), (&mut steady, without)] {
            all.alone.extend(of_turn.alone);
            all.with_waiting.extend(of_turn.with_waiting);
        }
        elapsed += took;
    }
    println!("\n| | searches/s | p50 | p99 | p99.9 | p99 with waiting |\n|---|---|---|---|---|---|");
    let with = format!("{SWAPS} swaps in {elapsed:.1?}");
    for (name, times) in [("steady", &mut steady), (&*with, &mut swapping)] {
        let rate = times.alone.len() as f64 / elapsed.as_secs_f64();
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| quantile(&mut times.alone, share));
        let waiting = quantile(&mut times.with_waiting, 0.99);
        println!("| {name} | {rate:.0} | {p50:.2?} | {p99:.2?} | {p999:.2?} | {waiting:.2?} |");
    }
    ratios.sort_unstable_by(f64::total_cmp);
    println!("\nratios of p99 with swaps to p99 of the same turn without: {ratios:.2?}");
}

/// Replaces a share of the catalog per round, each followed by a rebuild, and compares the last generation with a build of
/// the same videos from scratch.
fn churn(world: &World) {
    let rounds = setting("SHORTLIST_BENCH_ROUNDS", 20);
    let mut videos: Vec<usize> = (0..world.videos).collect();
    let dir = world.build("churn", &videos, 0);
    let engine = world.open(&dir);
    // The order of replacement is drawn once for all rounds.
    let mut order: Vec<usize> = (0..world.videos).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(3));
    let share = world.videos / REPLACED;
    println!(
        "\n| round | before the rebuild: us, recall | rebuild s | us per search | recall@{K} | folder / generation | resident MB |"
    );
    println!("|---|---|---|---|---|---|---|");
    for round in 0..rounds {
        let first = round * share % world.videos;
        for batch in (first..(first + share).min(world.videos)).collect::<Vec<_>>().chunks(BATCH) {
            let deletes = batch.iter().map(|at| Mutation::Delete(id(videos[order[*at]]))).collect::<Vec<_>>();
            batch.iter().for_each(|at| videos[order[*at]] = world.videos + at);
            let upserts = world.upserts(batch.iter().map(|at| world.videos + at));
            for batch in [deletes, upserts] {
                engine.write("", batch, WriteMode::AllOrNothing).expect("a write");
            }
        }
        engine.refresh();
        let (us_before, recall_before) = world.measure(&engine);
        let began = Instant::now();
        engine.start_rebuild("").expect("a rebuild");
        let ended = loop {
            let rebuild = engine.status("").expect("a status").live.rebuild;
            if !rebuild.state.is_underway() {
                break rebuild;
            }
            std::thread::sleep(Duration::from_millis(50));
        };
        assert_eq!(ended.state, RebuildState::Done, "{ended:?}");
        let seconds = began.elapsed().as_secs_f64();
        engine.refresh();
        let (us, recall) = world.measure(&engine);
        println!(
            "| {} | {us_before:.1}, {recall_before:.4} | {seconds:.1} | {us:.1} | {recall:.4} | {:.2} | {} |",
            round + 1,
            folder_bytes(&dir) as f64 / engine.status("").expect("a status").bytes as f64,
            resident_mb(),
        );
    }
    let (us, recall) = world.measure(&engine);
    // The number of threads of a rebuild.
    let threads = (std::thread::available_parallelism().map_or(1, usize::from) / 2).max(1);
    let began = Instant::now();
    let fresh = world.build("fresh", &videos, threads);
    let seconds = began.elapsed().as_secs_f64();
    let (us_fresh, recall_fresh) = world.measure(&world.open(&fresh));
    println!("| fresh build | | {seconds:.1} | {us_fresh:.1} | {recall_fresh:.4} | | |");
    println!("\nrecall {:+.4}, searches/s {:.3} of a fresh build's", recall - recall_fresh, us_fresh / us);
}

/// Searches back to back on one thread, while every second video expires at the same time. The first search after it
/// removes them from the snapshot.
fn expiry(world: &World) {
    const BEFORE: Duration = Duration::from_secs(5);
    let videos: Vec<usize> = (0..world.videos).collect();
    let began = Instant::now();
    world.build("lasting", &videos, 0);
    let margin = began.elapsed() + BEFORE * 2;
    println!(
        "\n| expire at once | search before: p50 | slowest | first search after | slowest of the next 10,000 |"
    );
    println!("|---|---|---|---|---|");
    for turn in 0..3 {
        let at = SystemTime::now() + margin;
        let micros = at.duration_since(UNIX_EPOCH).expect("after 1970").as_micros() as i64;
        let engine = world.open(&world.build_expiring(&format!("expiry-{turn}"), &videos, Some(micros), 0));
        let wait = at.duration_since(SystemTime::now()).expect("a build that takes as long as the first one");
        std::thread::sleep(wait.saturating_sub(BEFORE));
        let search = |turn| {
            let request = world.request(turn, Effort::EfSearch(EF_SEARCH));
            let began = Instant::now();
            ids_of(&engine, &request);
            began.elapsed()
        };
        let (mut before, mut first, mut after) = (Vec::new(), Duration::ZERO, Vec::new());
        while after.len() < 10_000 {
            let was_due = SystemTime::now() >= at;
            let took = search(before.len() + after.len());
            match (was_due, first.is_zero()) {
                (true, true) => first = took,
                (true, false) => after.push(took),
                (false, _) if SystemTime::now() >= at => first = took,
                (false, _) => before.push(took),
            }
        }
        println!(
            "| {} | {:.2?} | {:.2?} | {first:.2?} | {:.2?} |",
            videos.len().div_ceil(2),
            quantile(&mut before, 0.5),
            quantile(&mut before, 1.0),
            quantile(&mut after, 1.0),
        );
    }
}

fn folder_bytes(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a folder");
    entries.filter_map(|entry| Some(entry.ok()?.metadata().ok()?.len())).sum()
}

/// Anonymous memory of this process in MiB.
fn resident_mb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kb = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:")?.split_whitespace().next()?.parse().ok());
    kb.unwrap_or(0u64) / 1024
}
