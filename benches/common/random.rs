//! An index of random embeddings, shared by benchmarks.

use std::path::Path;
use std::time::Instant;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use shortlist::base::metric::Metric;
use shortlist::build::{BuildParams, Silent, build};
use shortlist::dataset::{Dataset, DatasetFiles, write_npy};
use shortlist::index::IndexStore;

/// Returns `rows` vectors of `dim` components between -1 and 1, one after another.
pub fn random_rows(rng: &mut ChaCha8Rng, rows: usize, dim: usize) -> Vec<f32> {
    (0..rows * dim).map(|_| rng.random_range(-1.0..1.0)).collect()
}

/// Builds an index of `videos` random embeddings in `folder`.
pub fn random_index(folder: &Path, videos: usize, dim: usize) -> IndexStore {
    let rows = random_rows(&mut ChaCha8Rng::seed_from_u64(7), videos, dim);
    let embeddings = folder.join("embeddings.npy");
    write_npy(&embeddings, &[videos, dim], &rows).expect("embeddings are written");
    let files = DatasetFiles::of(embeddings);
    let dataset = Dataset::open(&files, Metric::InnerProduct).expect("the catalog opens");
    let params = BuildParams::new(Metric::InnerProduct, 16, 100).expect("parameters are in range");
    let store = IndexStore::new(folder.join("index"));
    build(&dataset, None, &params, &store, &Silent, Instant::now()).expect("the index is built");
    store
}
