//! `shortlist tune`: calibrates an index: measures the recall of each effort and stores it next to the index.

use std::path::PathBuf;
use std::sync::LazyLock;

use anyhow::bail;
use serde_json::{Value, json};

use super::progress::BuildBars;
use super::say::Format;
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
/// The k whose default effort is printed.
const DEFAULT_EFFORT_SHOWN: [usize; 3] = [10, 100, 500];

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
    /// Hits per query, separated by commas.
    #[arg(short, long, value_delimiter = ',', value_parser = number, default_value = LISTED_K.as_str())]
    k: Vec<usize>,
    /// Number of threads; 0 for one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    #[command(flatten)]
    format: Format,
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
    let result = json!({ "generation": manifest.generation, "calibration": facts(&calibration) });
    arguments.format.print(&result, || {
        say!("calibration {} of generation {}", calibration.calibration, manifest.generation);
        show(&calibration);
    })?;
    Ok(())
}

/// Parses one of several numbers.
fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| "expected numbers separated by commas, such as 10,100".to_owned())
}

/// Returns a calibration as printed with `--json`.
pub fn facts(calibration: &Calibration) -> Value {
    let recall = &calibration.recall;
    let curve = |(k, best): (usize, f64)| {
        let targets =
            SHOWN.map(|target| json!({ "recall": target, "ef_search": recall.ef_search(k, target).ok() }));
        json!({ "k": k, "max_recall": best, "targets": targets })
    };
    let default_effort = |effort: DefaultEffort| {
        let DefaultEffort { k, usual, default } = effort;
        json!({
            "k": k,
            "ef_search": default.0,
            "recall": default.1,
            "usual_ef_search": usual.0,
            "usual_recall": usual.1,
        })
    };
    json!({
        "calibration": calibration.calibration,
        "created_at": calibration.created_at,
        "source": recall.source,
        "allows_target_recall": recall.source.allows_targets(),
        "queries": recall.queries,
        "recall": recall.reaches().map(curve).collect::<Vec<_>>(),
        "default_effort": default_efforts(recall).map(default_effort).collect::<Vec<_>>(),
    })
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
    let Calibration { calibration, created_at, .. } = calibration;
    fact!("calibration", "{calibration} of {created_at}: {} {source}{few}", recall.queries);
    // Requests cannot ask for the recalls of others.
    if recall.source.allows_targets() {
        fact!("", "the least ef_search that finds a share of the true top k:");
        let [low, middle, high] = SHOWN;
        say!("{:>24} {low:>9.2} {middle:>9.2} {high:>9.2} {:>12}", "k", "at most");
        for (k, best) in recall.reaches() {
            let effort =
                |target| recall.ef_search(k, target).map_or("never".to_owned(), |effort| effort.to_string());
            let [low, middle, high] = SHOWN.map(effort);
            let best = (best * 1e4).floor() / 1e4;
            say!("{k:>24} {low:>9} {middle:>9} {high:>9} {best:>12.4}");
        }
    }
    let goal = SearchParams::DEFAULT_RECALL;
    fact!("default effort", "the least for a recall of {goal}, within 1 to 4 times the usual one:");
    for DefaultEffort { k, usual, default } in default_efforts(recall) {
        let raised = if default.0 > usual.0 {
            format!("; the usual {} has {:.4}", usual.0, usual.1)
        } else {
            String::new()
        };
        fact!("", "recall@{k} {:.4} at ef_search {}{raised}", default.1, default.0);
    }
}

/// The effort of searches that set none.
struct DefaultEffort {
    k: usize,
    /// The `ef_search` without a calibration, and its recall.
    usual: (usize, f64),
    /// The `ef_search` with it, and its recall.
    default: (usize, f64),
}

fn default_efforts(recall: &RecallCurves) -> impl Iterator<Item = DefaultEffort> {
    DEFAULT_EFFORT_SHOWN.into_iter().filter_map(|k| {
        let of = |curves| {
            let ef_search = match SearchParams::default_effort(k, curves, usize::MAX) {
                Effort::EfSearch(ef_search) => ef_search,
                Effort::Exact => 0,
            };
            Some((ef_search, recall.recall(k, ef_search)?))
        };
        Some(DefaultEffort { k, usual: of(None)?, default: of(Some(recall))? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_separated_by_commas() {
        assert!(number("1 2 5").unwrap_err().contains("separated by commas"));
        assert_eq!(number("5"), Ok(5));
    }
}
