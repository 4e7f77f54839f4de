//! `shortlist build`: embeddings in, a published generation out.

use std::path::PathBuf;
use std::time::Instant;

use super::progress::BuildBars;
use super::tune;
use crate::base::metric::Metric;
use crate::build::{BuildParams, Builder, stage};
use crate::dataset::{Dataset, DatasetFiles, Embeddings};
use crate::index::{Codes, IndexStore, Measured, RepairReport};
use crate::recall::calibrate_staged;

/// Build an index and publish it as the current generation of a folder.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// .npy (f32, f16), .fvecs, .fbin, or .parquet (columns video_id, embedding; the others are attributes).
    #[arg(long)]
    embeddings: PathBuf,
    /// .npy (u64) or text, one id per line; row numbers if no file has ids.
    #[arg(long)]
    ids: Option<PathBuf>,
    /// .parquet; every column but video_id and embedding is an attribute.
    #[arg(long)]
    attributes: Option<PathBuf>,
    /// A sample of user embeddings that the graph learns from, in any of the formats of embeddings.
    #[arg(long)]
    training_queries: Option<PathBuf>,
    /// The folder of generations; made if it is not there.
    #[arg(long)]
    out: PathBuf,
    /// ip, cosine or l2.
    #[arg(long, default_value = "ip")]
    metric: Metric,
    /// What the graph is traversed with: sq8 (8 bits per component) or none; sq8 unless the metric is l2.
    #[arg(long)]
    codes: Option<Codes>,
    /// native or hnsw-rs.
    #[arg(long, default_value = "native")]
    builder: Builder,
    /// Neighbors chosen per node and layer; layer 0 keeps up to twice as many.
    #[arg(long, default_value_t = BuildParams::DEFAULT_M)]
    m: usize,
    /// Candidates kept while inserting.
    #[arg(long, default_value_t = BuildParams::DEFAULT_EF_CONSTRUCTION)]
    ef_construction: usize,
    /// Threads; 0 for one per core. One thread and the same seed give the same bytes.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// What the layers are drawn from.
    #[arg(long, default_value_t = BuildParams::DEFAULT_SEED)]
    seed: u64,
    /// The model that made the embeddings; a request that names another is refused.
    #[arg(long)]
    embedding_model: Option<String>,
    /// The last write to the index that the files know of, as `sequence` of its status was before they were made; a
    /// server replays only later writes on the build.
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    log_sequence: u64,
}

/// Builds, calibrates if there are users to do it with, publishes and says so.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let params = BuildParams::new(arguments.metric, arguments.m, arguments.ef_construction)?
        .with_builder(arguments.builder)?
        .with_seed(arguments.seed)
        .with_threads(arguments.threads)
        .with_embedding_model(arguments.embedding_model.clone())
        .with_log_sequence(arguments.log_sequence);
    let params = match arguments.codes {
        Some(codes) => params.with_codes(codes)?,
        None => params,
    };
    let files = DatasetFiles {
        embeddings: arguments.embeddings.clone(),
        ids: arguments.ids.clone(),
        attributes: arguments.attributes.clone(),
    };
    let dataset = Dataset::open(&files, arguments.metric)?;
    let training_queries = arguments.training_queries.as_deref().map(Embeddings::open).transpose()?;
    let store = IndexStore::new(&arguments.out);
    let bars = BuildBars::new()?;
    let (staged, times) = stage(&dataset, training_queries.as_ref(), None, &params, &store, &bars, started)?;
    let (curves, uncalibrated) = calibrate_staged(&staged, arguments.threads, &bars)?;
    let manifest = store.publish(staged, times, Measured { curves, verdict: None })?;
    drop(bars);
    if let Some(problem) = uncalibrated {
        eprintln!("not calibrated: {problem}");
    }
    say!(
        "published generation {} of {} videos in {:.1} s: {}",
        manifest.generation,
        dataset.ids.len(),
        manifest.build_ms as f64 / 1000.0,
        store.generation_path(manifest.generation).display()
    );
    let index = store.open_generation(manifest.generation)?;
    let RepairReport { unreachable, edges_added, edges_replaced } = index.metadata().repair;
    if unreachable > 0 {
        say!("{unreachable} unreachable nodes linked: {edges_added} edges added, {edges_replaced} replaced");
    }
    if let Some(calibration) = store.open_calibration(manifest.generation, &index)?.0 {
        tune::show(&calibration);
    }
    Ok(())
}
