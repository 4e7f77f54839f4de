//! The sample catalog that `serve` makes if no index is configured.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;

use super::progress::{BuildBars, bar, finish};
use crate::base::metric::Metric;
use crate::build::{BuildParams, stage};
use crate::dataset::{Dataset, DatasetFiles, Embeddings};
use crate::index::{IndexStore, Measured};
use crate::recall::calibrate_staged;
use crate::synth::{SynthFiles, SynthParams, synth};

/// The folder of the sample, relative to the working directory.
pub const ROOT: &str = "index-data/sample";
const PARAMS: SynthParams =
    SynthParams { videos: 20_000, dim: 64, users: 10_000, seed: SynthParams::DEFAULT_SEED, duplicates: 0 };

/// Returns the paths of the dataset files of the sample under `root`.
pub fn files(root: &Path) -> SynthFiles {
    SynthFiles::in_dir(&root.join("catalogue"))
}

/// Makes the dataset and the index under `root`, unless the index exists. Returns the folder of the index.
///
/// Prints a line on standard error when a step begins and when it ends.
///
/// # Errors
/// If a file cannot be read or written, or the build is cancelled.
pub fn ensure(root: &Path) -> anyhow::Result<PathBuf> {
    let store = IndexStore::new(root.join("index"));
    if !store.manifests()?.is_empty() {
        note!("no index configured: using the sample in {}", root.display());
        return Ok(store.dir().to_owned());
    }
    let started = Instant::now();
    let bars = BuildBars::new()?;
    let dataset_dir = root.join("catalogue");
    note!("no index configured: making a sample in {}; later starts reuse it", root.display());
    let (videos, users) = (PARAMS.videos, PARAMS.users);
    let files = step(&format!("making a sample catalog of {videos} videos and {users} users"), || {
        let bar = bar("generating videos and users", (videos + PARAMS.held_out_videos() + users) as u64);
        let files = synth(PARAMS, &dataset_dir, |rows| bar.inc(rows as u64))
            .with_context(|| format!("cannot make the sample in {}", dataset_dir.display()))?;
        finish(&bar);
        Ok(files)
    })?;
    let training_queries = Embeddings::open(&files.users_train)?;
    let files = DatasetFiles {
        embeddings: vec![files.videos],
        ids: Some(files.video_ids),
        attributes: vec![files.attributes],
    };
    let dataset = Dataset::open(&files, Metric::InnerProduct)?;
    let params =
        BuildParams::new(Metric::InnerProduct, BuildParams::DEFAULT_M, BuildParams::DEFAULT_EF_CONSTRUCTION)?
            .with_embedding_model(Some("synth".to_owned()));
    let (staged, times) = step("building its index", || {
        let staged = stage(&dataset, Some(&training_queries), None, &params, &store, &bars, started)?;
        bars.finish();
        Ok(staged)
    })?;
    let (curves, _) = step("measuring its recall", || {
        let curves = calibrate_staged(&staged, 0, &bars)?;
        bars.finish();
        Ok(curves)
    })?;
    store.publish(staged, times, Measured { curves, verdict: None })?;
    note!("the sample is ready after {:.1} s", started.elapsed().as_secs_f64());
    Ok(store.dir().to_owned())
}

/// Runs one step. Prints what it does before, and how long it took after.
fn step<T>(what: &str, run: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    note!("{what}");
    let started = Instant::now();
    let result = run()?;
    note!("{what}: done in {:.1} s", started.elapsed().as_secs_f64());
    Ok(result)
}
