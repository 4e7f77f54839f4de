//! Small catalogs for tests of the rules: written to files, built, opened by an engine, and kept as plain rows for the
//! oracle.
//!
//! Where possible, embeddings are chosen so that single precision scores them without rounding. The correct order is then
//! known exactly, ties included.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Instant;

use half::f16;
use jiff::{SignedDuration, Timestamp};
use parquet::basic::TimeUnit;
use parquet::file::properties::WriterProperties;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use shortlist::base::element::Dtype;
#[cfg(feature = "cluster")]
use shortlist::base::id::VideoId;
use shortlist::base::metric::Metric;
#[cfg(feature = "cluster")]
use shortlist::base::partition::Shard;
use shortlist::build::{BuildParams, Silent, build};
use shortlist::dataset::{Dataset, DatasetFiles, Embeddings, write_npy};
use shortlist::engine::{Budget, Engine, EngineOptions, SearchRequest, SearchResponse};
use shortlist::index::{Codes, IndexStore};
use tempfile::TempDir;

use crate::harness::indexes::shared_data;
use crate::harness::parquet::{boolean, double, int64, integer, lists, text, timestamp, values, write};
#[cfg(feature = "cluster")]
use crate::harness::remote;

#[cfg(feature = "cluster")]
use crate::router::fixture::{self, Routed};

pub const REGIONS: [&str; 3] = ["de", "fr", "jp"];
pub const TOPICS: [&str; 6] = ["art", "cats", "cooking", "dance", "news", "sport"];
/// Number of distinct values of `views`: few enough for caps to matter.
pub const VIEWS: i64 = 40;

/// The distribution of the components of embeddings and queries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Components {
    /// Multiples of 1/32 below 2. Inner products and distances of a few hundred of them are exact in f32, and the
    /// components are exact in f16.
    Grid,
    /// 0, 1 and -1. The number of nonzero components is a power of 4, so norms are powers of 2 and normalizing is exact.
    /// There are about a hundred distinct scores, so ties are common.
    Signs,
    /// Normally distributed. Scores are rounded.
    Normal,
    /// Those of the real data on development machines: its videos, and its viewers as queries. Scores are rounded.
    Real,
}

impl Components {
    /// Whether the order of scores is known without rounding.
    pub fn are_exact(self) -> bool {
        matches!(self, Components::Grid | Components::Signs)
    }
}

/// The parameters of a catalog.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub videos: usize,
    pub dim: usize,
    pub metric: Metric,
    pub dtype: Dtype,
    pub codes: Codes,
    pub components: Components,
    /// Whether every fourth video has the same embedding as another.
    pub has_duplicates: bool,
    pub seed: u64,
}

/// One video, as written to the files.
#[derive(Clone, Debug)]
pub struct Video {
    pub id: u64,
    /// As stored: normalized for cosine.
    pub vector: Vec<f32>,
    pub creator: Option<String>,
    pub region: String,
    pub topics: Option<Vec<String>>,
    pub views: i64,
    pub score: f64,
    pub safe: bool,
    pub published_at: Option<Timestamp>,
}

/// A catalog, the engine that serves its index, and the folder of both.
pub struct RuledDataset {
    /// Searches go to it, if there is one, and not to the engine.
    #[cfg(feature = "cluster")]
    router: Option<Routed>,
    pub shape: Shape,
    pub videos: Vec<Video>,
    pub engine: Engine,
    _folder: TempDir,
}

impl RuledDataset {
    pub fn new(shape: Shape) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let random = &mut ChaCha8Rng::seed_from_u64(shape.seed);
        let raw = rows(&shape, random);
        let now = Timestamp::now();
        let videos: Vec<Video> = raw.iter().map(|row| video(&shape, row, now, random)).collect();
        let dir = publish(folder.path(), &shape, &raw, &videos);
        let indexes = vec![("videos".to_owned(), dir)];
        let engine = Engine::open(EngineOptions { indexes, threads: 1, ..EngineOptions::default() }).unwrap();
        Self {
            #[cfg(feature = "cluster")]
            router: None,
            shape,
            videos,
            engine,
            _folder: folder,
        }
    }

    /// The same catalog, divided over servers of shards behind a router. `None` if a shard would have no videos.
    #[cfg(feature = "cluster")]
    pub fn routed(shape: Shape) -> Option<Self> {
        let dataset = Self::new(shape);
        let root = dataset._folder.path().to_owned();
        let all = rows(&shape, &mut ChaCha8Rng::seed_from_u64(shape.seed));
        for shard in fixture::shards() {
            let is_own = |at: &usize| shard.contains(VideoId(dataset.videos[*at].id));
            let own: Vec<usize> = (0..all.len()).filter(is_own).collect();
            if own.is_empty() {
                return None;
            }
            let dir = fixture::folder(&root, shard);
            std::fs::create_dir(&dir).unwrap();
            let of_rows = |at: &usize| all[*at].clone();
            let of_videos = |at: &usize| dataset.videos[*at].clone();
            let (raw, videos): (Vec<_>, Vec<_>) =
                (own.iter().map(of_rows).collect(), own.iter().map(of_videos).collect());
            publish(&dir, &shape, &raw, &videos);
        }
        let router = Routed::over(|shard| fixture::folder(&root, shard).join("index"));
        Some(Self { router: Some(router), ..dataset })
    }

    /// The folder of the catalog and its indexes.
    #[cfg(feature = "cluster")]
    pub fn folder(&self) -> &Path {
        self._folder.path()
    }

    /// The ids of the videos of a shard.
    #[cfg(feature = "cluster")]
    pub fn videos_of(&self, shard: u32) -> Vec<u64> {
        let is_own = |id: &u64| Shard::of_video(VideoId(*id), fixture::SHARDS) == shard;
        self.videos.iter().map(|video| video.id).filter(is_own).collect()
    }

    /// The router.
    #[cfg(feature = "cluster")]
    pub fn router(&self) -> &Routed {
        self.router.as_ref().expect("a catalog that was divided")
    }

    /// Searches the engine, or the router if there is one.
    pub fn search(&self, request: &SearchRequest) -> SearchResponse {
        #[cfg(feature = "cluster")]
        if let Some(router) = &self.router {
            let request = remote::message(request);
            let found = router.wait(async |mut client| client.search(request).await);
            return remote::answer(&found.unwrap_or_else(|status| panic!("{status:?}")).into_inner());
        }
        self.engine.search(request, &Budget::default()).unwrap()
    }

    /// A random query vector.
    pub fn query(&self, random: &mut ChaCha8Rng) -> Vec<f32> {
        row(&self.shape, random)
    }
}

/// Builds an index in `folder`, next to the files of its catalog. Returns the folder of the index.
fn publish(folder: &Path, shape: &Shape, raw: &[Vec<f32>], videos: &[Video]) -> PathBuf {
    let files = DatasetFiles {
        embeddings: vec![folder.join("rows.npy")],
        ids: None,
        attributes: vec![folder.join("attributes.parquet")],
    };
    write_rows(&files.embeddings[0], shape, raw);
    write_attributes(&files.attributes[0], videos);
    let dataset = Dataset::open(&files, shape.metric).unwrap();
    let params = BuildParams::new(shape.metric, 12, 80).unwrap().with_codes(shape.codes).unwrap();
    let dir = folder.join("index");
    build(&dataset, None, &params.with_threads(1), &IndexStore::new(&dir), &Silent, Instant::now()).unwrap();
    dir
}

fn rows(shape: &Shape, random: &mut ChaCha8Rng) -> Vec<Vec<f32>> {
    if shape.components == Components::Real {
        return real("videos.f16.npy")[..shape.videos].to_vec();
    }
    let mut rows: Vec<Vec<f32>> = Vec::with_capacity(shape.videos);
    for at in 0..shape.videos {
        let row = match rows.choose(random) {
            Some(other) if shape.has_duplicates && at % 4 == 3 => other.clone(),
            _ => row(shape, random),
        };
        rows.push(row);
    }
    rows
}

fn row(shape: &Shape, random: &mut ChaCha8Rng) -> Vec<f32> {
    match shape.components {
        Components::Grid => {
            (0..shape.dim).map(|_| f32::from(random.random_range(-64i8..64)) / 32.0).collect()
        }
        Components::Signs => {
            let mut row = vec![0.0; shape.dim];
            let counts: Vec<usize> = [4, 16, 64].into_iter().filter(|count| *count <= shape.dim).collect();
            let count = *counts.choose(random).expect("4 dimensions or more");
            for at in rand::seq::index::sample(random, shape.dim, count) {
                row[at] = if random.random() { 1.0 } else { -1.0 };
            }
            row
        }
        Components::Normal => {
            let norm = 0.5 + random.random::<f32>();
            let normal = |random: &mut ChaCha8Rng| -> f32 { StandardNormal.sample(random) };
            (0..shape.dim).map(|_| stored(shape, norm * normal(random))).collect()
        }
        Components::Real => {
            static VIEWERS: LazyLock<Vec<Vec<f32>>> = LazyLock::new(|| real("viewers.npy"));
            VIEWERS.choose(random).expect("viewers").clone()
        }
    }
}

/// The rows of a file of the real data, which is there.
fn real(name: &str) -> Vec<Vec<f32>> {
    let path = shared_data().expect("real data").join("videos").join(name);
    let embeddings = Embeddings::open(&path).unwrap();
    let row = |at| {
        let mut row = Vec::new();
        embeddings.view().copy_row(at, &mut row);
        row
    };
    (0..embeddings.view().len()).map(row).collect()
}

/// A component rounded to the type of the file.
fn stored(shape: &Shape, value: f32) -> f32 {
    match shape.dtype {
        Dtype::F32 => value,
        Dtype::F16 => f16::from_f32(value).to_f32(),
    }
}

fn video(shape: &Shape, raw: &[f32], now: Timestamp, random: &mut ChaCha8Rng) -> Video {
    let norm = raw.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    let scale = if shape.metric == Metric::Cosine { norm.recip() } else { 1.0 };
    let creator = random.random_range(0..(shape.videos / 4).max(2)).min(random.random_range(0..400));
    let topics = (0..random.random_range(0..4)).map(|_| (*TOPICS.choose(random).unwrap()).to_owned());
    let topics: Vec<String> = topics.collect();
    // Half an hour off whole hours, so that no video crosses a freshness limit during a test.
    let age = SignedDuration::from_mins(60 * random.random_range(0..2_000) + 30);
    Video {
        id: random.random(),
        vector: raw.iter().map(|value| stored(shape, (f64::from(*value) * scale) as f32)).collect(),
        creator: random.random_bool(0.8).then(|| format!("creator-{creator}")),
        region: (*REGIONS.choose(random).unwrap()).to_owned(),
        topics: random.random_bool(0.95).then_some(topics),
        views: random.random_range(0..VIEWS),
        score: random.random_range(0.0..1.0),
        safe: random.random_bool(0.9),
        published_at: random.random_bool(0.9).then(|| now - age),
    }
}

fn write_rows(path: &Path, shape: &Shape, rows: &[Vec<f32>]) {
    let dims = [rows.len(), shape.dim];
    match shape.dtype {
        Dtype::F32 => write_npy(path, &dims, &rows.concat()).unwrap(),
        Dtype::F16 => {
            let halves: Vec<f16> = rows.iter().flatten().map(|value| f16::from_f32(*value)).collect();
            write_npy(path, &dims, &halves).unwrap();
        }
    }
}

fn write_attributes(path: &Path, videos: &[Video]) {
    let all = || videos.iter();
    let topics = all().map(|video| Some(video.topics.as_ref()?.iter().map(|topic| Some(topic.as_str()))));
    let times = all().map(|video| video.published_at.map(|time| time.as_microsecond()));
    let columns = [
        values("video_id", integer(64, false), all().map(|video| Some(video.id))),
        values("creator", text(), all().map(|video| video.creator.as_deref())),
        values("region", text(), all().map(|video| Some(video.region.as_str()))),
        lists("topics", text(), topics),
        values("views", int64(), all().map(|video| Some(video.views))),
        values("score", double(), all().map(|video| Some(video.score))),
        values("safe", boolean(), all().map(|video| Some(video.safe))),
        values("published_at", timestamp(TimeUnit::MICROS, true), times),
    ];
    write(path, &columns, videos.len(), WriterProperties::default());
}
