//! `shortlist build`: builds an index from files and publishes it.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::inputs::CatalogArguments;
use super::progress::BuildBars;
use super::say::Format;
use super::target::Target;
use super::tune;
use crate::base::id::MAX_SEQUENCE;
use crate::base::metric::Metric;
use crate::base::partition::Shard;
use crate::bucket::Location;
use crate::build::{BuildParams, Builder, stage};
use crate::dataset::{Dataset, IdSource};
use crate::engine::Predecessor;
use crate::index::{BuildPhase, BuildTimes, Codes, IndexStore, Measured, RepairReport, Rescoring};
use crate::recall::calibrate_staged;

/// Build an index from files and publish it as the current generation of a folder or a bucket.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    catalog: CatalogArguments,
    /// A sample of user embeddings to teach the graph with, in any format of --embeddings.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    training_queries: Vec<PathBuf>,
    /// Where the index is, with all its generations: a folder, which is created if it does not exist, s3://BUCKET/PREFIX or
    /// file:///FOLDER. For a bucket, the build is not compared with the previous generation.
    #[arg(long, value_name = "LOCATION")]
    out: PathBuf,
    /// Build only the videos of this shard, from 0, and of how many, such as 0/4: 1, 2, 4, 8, 16, 32 or 64. The index is then
    /// in the folder shard-0-of-4 below --out.
    #[arg(long, value_name = "I/N", default_value_t = Shard::WHOLE)]
    shard: Shard,
    /// The folder in which to build for a bucket, in a folder that is removed afterwards [default: that of the system].
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// How embeddings are compared: ip, cosine or l2.
    #[arg(long, default_value = "ip")]
    metric: Metric,
    /// The codes that searches traverse the graph with: sq8 (8 bits per component) or none. The build compares them with
    /// full precision and leaves them out if they would cost more than 1 % of the exact top 10. Default: sq8.
    #[arg(long)]
    codes: Option<Codes>,
    /// What results are scored with. codes: 16 bits per component, so that searches leave the embeddings on disk. embeddings:
    /// full precision. auto: codes from 32 MiB of embeddings on. Always the embeddings under l2 and without codes.
    #[arg(long, value_name = "WITH", default_value = "auto")]
    rescore: Rescoring,
    /// The builder of the graph: native or hnsw-rs.
    #[arg(long, default_value = "native")]
    builder: Builder,
    /// Neighbors selected per node and layer. Layer 0 keeps up to twice this number.
    #[arg(long, default_value_t = BuildParams::DEFAULT_M)]
    m: usize,
    /// Size of the candidate list while a node is inserted.
    #[arg(long, default_value_t = BuildParams::DEFAULT_EF_CONSTRUCTION)]
    ef_construction: usize,
    /// Number of threads; 0 for one per core. With one thread, the same seed gives the same bytes.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// The seed for drawing the layers of the nodes.
    #[arg(long, default_value_t = BuildParams::DEFAULT_SEED)]
    seed: u64,
    /// The model that produced the embeddings. Requests that name another model are refused.
    #[arg(long)]
    embedding_model: Option<String>,
    /// The last write that the files contain: the `sequence` of the index status before the files were exported. A
    /// server replays only later writes on this generation.
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=MAX_SEQUENCE))]
    log_sequence: u64,
    /// Do not make the generation current, so that no server serves it before `shortlist activate` names it. `shortlist shadow`
    /// compares it with the one that serves.
    #[arg(long)]
    hold: bool,
    #[command(flatten)]
    format: Format,
}

/// Builds the index, calibrates it if there are held-out users, and publishes it.
///
/// # Errors
/// If the input is invalid, the build is cancelled, or the index cannot be written.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let started = Instant::now();
    let params = BuildParams::new(arguments.metric, arguments.m, arguments.ef_construction)?
        .with_builder(arguments.builder)?
        .with_rescoring(arguments.rescore)
        .with_seed(arguments.seed)
        .with_threads(arguments.threads)
        .with_embedding_model(arguments.embedding_model.clone())
        .with_log_sequence(arguments.log_sequence);
    let params = match arguments.codes {
        Some(codes) => params.with_codes(codes)?,
        None => params,
    };
    let shard = arguments.shard;
    let location = Location::parse(&arguments.out)?.of_shard(shard);
    let mut target = Target::open(&location, arguments.scratch.as_deref())?;
    let (dataset, read) = arguments.catalog.read(arguments.metric)?;
    let dataset = if shard == Shard::WHOLE { dataset } else { of_shard(&dataset, shard)? };
    let mut warnings = Warnings::default();
    if read.ids == IdSource::RowNumbers {
        let message = "no column video_id and no --ids: row numbers are the ids";
        warnings.add("ids_are_row_numbers", message.to_owned());
    }
    let users = &arguments.training_queries;
    if users.is_empty() {
        let message = "no --training-queries: a graph built from videos alone has a lower recall for users at every \
                       ef_search, often much lower";
        warnings.add("no_training_queries", message.to_owned());
    }
    let training_queries = if users.is_empty() { None } else { Some(arguments.catalog.read_users(users)?) };
    let bars = BuildBars::new()?;
    let store = target.store()?;
    let before = Predecessor::open(&store);
    if arguments.hold && (location.is_bucket() || before.is_none()) {
        bail!(
            "--hold: expected a folder with a generation that serves, in --out {}",
            arguments.out.display()
        );
    }
    let (staged, times) = stage(&dataset, training_queries.as_ref(), None, &params, &store, &bars, started)?;
    let (curves, uncalibrated) = calibrate_staged(&staged, arguments.threads, &bars)?;
    let BuildTimes { ms: build_ms, phases: build_phases } = times.clone();
    let measured = Measured { curves, verdict: None };
    let generation = match arguments.hold {
        true => store.hold(staged, measured)?,
        false => store.publish(staged, times, measured)?.generation,
    };
    let (number, path) = target.publish(generation, &bars)?;
    bars.finish();
    if let Some(problem) = uncalibrated {
        warnings.add("not_calibrated", format!("not calibrated: {problem}"));
    }
    if let Some(before) = before {
        compare(&before, &store, generation, &mut warnings);
    }
    let index = store.open_generation(generation)?;
    let calibration = store.open_calibration(generation, &index)?.0;
    let facts = index.metadata();
    let RepairReport { unreachable, edges_added, edges_replaced } = facts.repair;
    let seconds = |ms: u64| ms as f64 / 1000.0;
    let phase = |BuildPhase { name, ms }: &BuildPhase| json!({ "name": name, "seconds": seconds(*ms) });
    let result = json!({
        "generation": number,
        "path": path,
        "shard": shard.to_string(),
        "videos": facts.rows,
        "dim": facts.dim,
        "dtype": facts.dtype,
        "metric": facts.metric,
        "codes": facts.codes,
        "size_bytes": index.bytes(),
        "ids_from": match read.ids {
            IdSource::Column { .. } => "column",
            IdSource::File { .. } => "file",
            IdSource::RowNumbers => "row_numbers",
        },
        "has_text_ids": read.has_text_ids,
        "flushed_numbers": read.flushed,
        "build_seconds": seconds(build_ms),
        "phases": build_phases.iter().map(phase).collect::<Vec<_>>(),
        "unreachable": unreachable,
        "calibration": calibration.as_ref().map(tune::facts),
        "warnings": warnings.0,
    });
    arguments.format.print(&result, || {
        let (videos, seconds) = (facts.rows, seconds(build_ms));
        let verb = if arguments.hold { "holds" } else { "published" };
        say!("{verb} generation {number} of {videos} videos in {seconds:.1} s: {path}");
        if unreachable > 0 {
            say!(
                "linked {unreachable} unreachable nodes: {edges_added} edges added, {edges_replaced} replaced"
            );
        }
        if let Some(calibration) = &calibration {
            tune::show(calibration);
        }
    })?;
    Ok(())
}

/// Returns the videos of a shard.
fn of_shard(dataset: &Dataset, shard: Shard) -> anyhow::Result<Dataset> {
    let is_own = |row: &usize| shard.contains(dataset.ids[*row]);
    let rows: Vec<usize> = (0..dataset.ids.len()).filter(is_own).collect();
    let videos = dataset.ids.len();
    dataset.select(&rows).with_context(|| format!("shard {shard} has none of the {videos} videos"))
}

/// What a user should know about a build that was published all the same.
#[derive(Default)]
struct Warnings(Vec<Value>);

impl Warnings {
    /// Notes a warning on standard error. `kind`: for scripts.
    fn add(&mut self, kind: &'static str, message: String) {
        note!("{message}");
        self.0.push(json!({ "kind": kind, "message": message }));
    }
}

/// Warns of what a server refuses of the generation that was just published.
fn compare(before: &Predecessor, store: &IndexStore, new: u64, warnings: &mut Warnings) {
    let old = before.generation();
    match before.refusals(store, new) {
        Ok(refusals) => refusals.into_iter().for_each(|refusal| {
            let problem = refusal.problem;
            warnings.add(
                "refused_by_servers",
                format!(
                    "a server of generation {old} with default gate settings refuses generation {new} unless it is \
                     activated by force: {problem}"
                ),
            );
        }),
        // It is published in any case.
        Err(error) => warnings.add(
            "not_compared",
            format!("cannot compare generation {new} with generation {old}: {error}"),
        ),
    }
}
