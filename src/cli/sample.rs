//! The sample catalog that `serve` makes when it is given nothing to serve.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;

use super::progress::{BuildBars, bar};
use crate::base::metric::Metric;
use crate::build::{BuildParams, stage};
use crate::dataset::{Dataset, DatasetFiles, Embeddings};
use crate::index::{IndexStore, Measured};
use crate::recall::calibrate_staged;
use crate::synth::{SynthFiles, SynthParams, synth};

/// Where the sample lies, from the folder that the command runs in.
pub const ROOT: &str = "index-data/sample";
const PARAMS: SynthParams =
    SynthParams { videos: 20_000, dim: 64, users: 10_000, seed: SynthParams::DEFAULT_SEED };

/// The files of the sample catalog under `root`.
pub fn files(root: &Path) -> SynthFiles {
    SynthFiles::in_dir(&root.join("catalogue"))
}

/// Makes catalog and index under `root` unless the index is there; gives the folder of the index.
pub fn ensure(root: &Path) -> anyhow::Result<PathBuf> {
    let store = IndexStore::new(root.join("index"));
    if !store.manifests()?.is_empty() {
        return Ok(store.dir().to_owned());
    }
    let started = Instant::now();
    let bars = BuildBars::new()?;
    let dataset_dir = root.join("catalogue");
    eprintln!("no index given: making a sample of {} videos under {}", PARAMS.videos, root.display());
    let rows = PARAMS.videos + PARAMS.held_out_videos() + PARAMS.users;
    let made_up = bar("making up videos and users", rows as u64);
    let files = synth(PARAMS, &dataset_dir, |rows| made_up.inc(rows as u64))
        .with_context(|| format!("cannot make the sample in {}", dataset_dir.display()))?;
    made_up.finish();
    let training_queries = Embeddings::open(&files.users_train)?;
    let files = DatasetFiles {
        embeddings: files.videos,
        ids: Some(files.video_ids),
        attributes: Some(files.attributes),
    };
    let dataset = Dataset::open(&files, Metric::InnerProduct)?;
    let params =
        BuildParams::new(Metric::InnerProduct, BuildParams::DEFAULT_M, BuildParams::DEFAULT_EF_CONSTRUCTION)?
            .with_embedding_model(Some("synth".to_owned()));
    let (staged, times) = stage(&dataset, Some(&training_queries), None, &params, &store, &bars, started)?;
    let (curves, _) = calibrate_staged(&staged, 0, &bars)?;
    store.publish(staged, times, Measured { curves, verdict: None })?;
    Ok(store.dir().to_owned())
}
