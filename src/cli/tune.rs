//! `shortlist tune`: calibrates an index: measures the recall of each effort and stores it next to the index.

use std::path::PathBuf;
use std::sync::LazyLock;

use anyhow::bail;

use super::progress::BuildBars;
use crate::dataset::Embeddings;
use crate::index::{Calibration, IndexStore, QuerySource, RecallCurves};
use crate::recall::{DEFAULT_K, calibrate};
use crate::search::{Effort, SearchParams};

/// The recalls to print.
const SHOWN: [f64; 3] = [0.90, 0.95, 0.99];
/// Every k, as on the command line.
static LISTED_K: LazyLock<String> = LazyLock::new(|| DEFAULT_K.map(|k| k.to_string()).join(","));
/// With fewer queries than this, the measured recall is a poor estimate for other users.
const FEW_QUERIES: u32 = 200;

/// Calibrate an index: measure the recall of every effort, so that requests can use target_recall.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder of the index. Its current generation is measured.
    #[arg(long)]
    index: PathBuf,
    /// User embeddings that did not teach the graph, in any format of build --embeddings. Default: the users that the
    /// build held out.
    #[arg(long)]
    queries: Option<PathBuf>,
    /// Hits per query.
    #[arg(short, long, value_delimiter = ',', default_value = LISTED_K.as_str())]
    k: Vec<usize>,
    /// Number of threads; 0 for one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

/// Measures, adds a calibration and prints it.
///
/// # Errors
/// If there are no queries, they do not fit the index, or the calibration cannot be written.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let store = IndexStore::new(&arguments.index);
    let (manifest, index, passed_over) = store.open_current()?;
    passed_over.iter().for_each(|error| note!("passed over: {error}"));
    let file = arguments.queries.as_deref().map(Embeddings::open).transpose()?;
    let (queries, source) = match (&file, index.held_out_queries()) {
        (Some(file), _) => {
            file.check_queries(index.metadata().metric)?;
            (file.view(), QuerySource::Queries)
        }
        (None, Some(held_out)) => (held_out, QuerySource::HeldOut),
        (None, None) => bail!(
            "generation {} was built without users to measure with: pass user embeddings with --queries",
            manifest.generation
        ),
    };
    let bars = BuildBars::new()?;
    index.populate();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(arguments.threads).build()?;
    let curves = pool.install(|| calibrate(&index, queries, source, &arguments.k, &bars))?;
    bars.finish();
    let calibration = store.add_calibration(manifest.generation, &index, curves)?;
    say!("calibration {} of generation {}", calibration.calibration, manifest.generation);
    show(&calibration);
    Ok(())
}

/// Prints, per k, the effort for each recall of [`SHOWN`], and the highest recall.
pub fn show(calibration: &Calibration) {
    let recall = &calibration.recall;
    let source = match recall.source {
        QuerySource::HeldOut => "held-out users",
        QuerySource::Queries => "queries of a file",
        QuerySource::Sampled => "sampled users",
        QuerySource::Guessed => "guessed users; requests cannot use target_recall: see tune",
    };
    let few = if recall.queries < FEW_QUERIES { "; WARNING: too few for a reliable estimate" } else { "" };
    say!(
        "calibration      {} of {}: {} {source}{few}",
        calibration.calibration,
        calibration.created_at,
        recall.queries
    );
    // Requests cannot ask for the recalls of others.
    let targets = recall.reaches().filter(|_| recall.source.allows_targets());
    for (k, best) in targets {
        let effort = |target: f64| match recall.ef_search(k, target) {
            Ok(ef_search) => format!("{target:.2} at ef_search {ef_search}"),
            Err(_) => format!("{target:.2} never"),
        };
        let shown: Vec<String> = SHOWN.into_iter().map(effort).collect();
        say!("                 recall@{k} {}, at most {:.4}", shown.join(", "), (best * 1e4).floor() / 1e4);
    }
    show_default_effort(recall);
}

/// Prints the effort of searches that set none, for some k.
fn show_default_effort(recall: &RecallCurves) {
    let goal = SearchParams::DEFAULT_RECALL;
    say!("default effort   the least for a recall of {goal}, within 1 to 4 times the usual one:");
    for k in [10, 100, 500] {
        let of = |curves| match SearchParams::default_effort(k, curves, usize::MAX) {
            Effort::EfSearch(ef_search) => ef_search,
            Effort::Exact => 0,
        };
        let (usual, default) = (of(None), of(Some(recall)));
        if let (Some(before), Some(after)) = (recall.recall(k, usual), recall.recall(k, default)) {
            let raised =
                if default > usual { format!("; the usual {usual} has {before:.4}") } else { String::new() };
            say!("                 recall@{k} {after:.4} at ef_search {default}{raised}");
        }
    }
}
