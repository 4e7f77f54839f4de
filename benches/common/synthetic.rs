//! A synthetic index and its queries, shared by benchmarks.

use std::path::Path;
use std::time::Instant;

use shortlist::base::metric::Metric;
use shortlist::build::{BuildParams, Silent, build};
use shortlist::dataset::{Dataset, Embeddings};
use shortlist::index::{Index, IndexStore};
use shortlist::synth::{SynthFiles, SynthParams, synth};

/// Dimensions of the embeddings.
pub const DIM: usize = 128;
/// Number of queries.
pub const QUERIES: usize = 500;

/// Makes `videos` synthetic videos in `dir`, opens them with `open`, and builds their index with training queries.
/// Returns the index and queries that were not used for training.
pub fn synthetic_index(
    dir: &Path,
    videos: usize,
    open: impl FnOnce(&SynthFiles) -> Dataset,
) -> (Index, Vec<Vec<f32>>) {
    let params = SynthParams { videos, dim: DIM, users: 50_000, seed: 1, duplicates: 0 };
    let files = synth(params, dir, |_| {}).expect("the catalog is written");
    let dataset = open(&files);
    let training_queries = Embeddings::open(&files.users_train).expect("the users open");
    let params = BuildParams::new(Metric::InnerProduct, 16, 200).expect("valid parameters");
    let store = IndexStore::new(dir.join("index"));
    build(&dataset, Some(&training_queries), &params, &store, &Silent, Instant::now())
        .expect("the index is built");
    let (_, index, _) = store.open_current().expect("the index opens");
    let users = Embeddings::open(&files.users_test).expect("the users open");
    let row = |row| {
        let mut query = Vec::new();
        users.view().copy_row(row, &mut query);
        query
    };
    (index, (0..QUERIES).map(row).collect())
}
