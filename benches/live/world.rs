//! The catalog, its index and the searches.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::base::id::VideoId;
use shortlist::base::metric::Metric;
use shortlist::build::{BuildParams, Silent, build};
use shortlist::dataset::{Dataset, Embeddings};
use shortlist::engine::{
    Budget, Effort, Engine, EngineOptions, Query, RebuildOptions, SampleOptions, SearchRequest,
};
use shortlist::index::IndexStore;
use shortlist::live::{Mutation, Upsert};
use shortlist::synth::{SynthFiles, SynthParams, synth};

use crate::rows::all_rows;

const DIM: usize = 128;
pub const K: usize = 100;
pub const EF_SEARCH: usize = 200;
/// Number of queries; recall is measured with the first [`CHECKED`] of them.
const USERS: usize = 500;
const CHECKED: usize = 100;
/// Videos in one write.
pub const BATCH: usize = 100;

pub fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

/// A catalog, an equal number of videos outside it, and users.
pub struct World {
    folder: tempfile::TempDir,
    pub videos: usize,
    /// `[2 × videos × DIM]`. The second half is not in the catalog; it is sorted along a direction of the space.
    rows: Vec<f32>,
    files: SynthFiles,
    /// `[USERS × DIM]`.
    users: Vec<f32>,
}

impl World {
    pub fn new(videos: usize) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let params =
            SynthParams { videos: 2 * videos, dim: DIM, users: videos.min(100_000), seed: 42, duplicates: 0 };
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
    pub fn build(&self, name: &str, videos: &[usize], threads: usize) -> PathBuf {
        self.build_expiring(name, videos, None, threads)
    }

    /// As `build`, with the time at which every second video expires, in microseconds since 1970.
    pub fn build_expiring(&self, name: &str, videos: &[usize], at: Option<i64>, threads: usize) -> PathBuf {
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

    pub fn open(&self, dir: &Path) -> Engine {
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

    pub fn upserts(&self, videos: impl Iterator<Item = usize>) -> Vec<Mutation> {
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

    pub fn request(&self, user: usize, effort: Effort) -> SearchRequest {
        let user = user % USERS;
        SearchRequest {
            query: Query::Vector(self.users[user * DIM..(user + 1) * DIM].to_vec()),
            k: K,
            effort,
            ..SearchRequest::default()
        }
    }

    /// Microseconds per search in the fastest of four rounds, and recall@k.
    pub fn measure(&self, engine: &Engine) -> (f64, f64) {
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

pub fn id(video: usize) -> VideoId {
    VideoId(1 + video as u64)
}

pub fn ids_of(engine: &Engine, request: &SearchRequest) -> HashSet<VideoId> {
    let answer = engine.search(request, &Budget::default()).expect("an answer");
    assert_eq!(answer.candidates.len(), K, "a short answer");
    answer.candidates.iter().map(|candidate| candidate.video_id).collect()
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
