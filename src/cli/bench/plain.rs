//! Measures plain queries: those of a file, or of a public benchmark.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

use super::arguments::Arguments;
use crate::base::metric::Metric;
use crate::build::{BuildParams, stage};
use crate::cli::interrupt;
use crate::cli::progress::{self, BuildBars, report_residence};
use crate::dataset::{BenchmarkSet, Dataset, Embeddings, EmbeddingsView, Neighbors};
use crate::eval::{Hits, Provenance, Report, Sweep, SweepRow, sweep};
use crate::index::{Index, IndexStore, Manifest, Measured};
use crate::recall::exact_rows_of;

/// The name of an index that is built from a public benchmark.
const BUILT: &str = "shortlist";

/// An open index.
struct Target {
    name: String,
    manifest: Manifest,
    index: Index,
}

impl Target {
    fn open(name: String, store: &IndexStore) -> anyhow::Result<Self> {
        let (manifest, index, passed_over) = store.open_current()?;
        passed_over.iter().for_each(|error| note!("passed over: {error}"));
        Ok(Self { name, manifest, index })
    }
}

/// What to search for.
struct Queries<'a> {
    queries: &'a Embeddings,
    /// The exact neighbors; `None` if they have to be computed.
    truth: Option<&'a Neighbors>,
    hits: Hits,
    /// The names of the files.
    provenance: Provenance,
}

/// Measures the queries of a file. Returns one report per index and number of threads.
///
/// # Errors
/// If an input is invalid, or an index cannot be opened.
pub(super) fn measure_file(arguments: &Arguments, path: &Path) -> anyhow::Result<Vec<Report>> {
    let targets = open_all(arguments)?;
    let queries = Embeddings::open(path)?;
    let truth = arguments.ground_truth.as_deref().map(Neighbors::open).transpose()?;
    let provenance = Provenance {
        queries: Some(path.display().to_string()),
        ground_truth: arguments.ground_truth.as_ref().map(|path| path.display().to_string()),
        recall: Some("exact neighbors, or videos with the same score".to_owned()),
        ..Provenance::default()
    };
    let queries = Queries { queries: &queries, truth: truth.as_ref(), hits: Hits::Equal, provenance };
    measure(arguments, &targets, &queries)
}

/// Measures a public benchmark, on an index that is built from it unless indexes are given. Returns one report per index and
/// number of threads.
///
/// # Errors
/// If an input is invalid, the build is cancelled, or an index is not that of the benchmark.
pub(super) fn measure_benchmark(arguments: &Arguments, path: &Path) -> anyhow::Result<Vec<Report>> {
    let BenchmarkSet { train, test, neighbors, metric } = BenchmarkSet::open(path)?;
    let name = path.display();
    let metric = match (arguments.metric, metric) {
        (Some(given), named) => {
            if let Some(named) = named.filter(|named| *named != given) {
                note!("{name}: compared by --metric {given}, where the file says {named}");
            }
            given
        }
        (None, named) => {
            named.with_context(|| format!("{name}: no attribute \"distance\": pass --metric"))?
        }
    };
    let (rows, dim) = (train.view().len(), train.view().dim());
    // Kept until everything is measured.
    let folder;
    let targets = if arguments.index.is_empty() {
        folder = tempfile::tempdir().context("a temporary folder")?;
        vec![build(arguments, &folder, train, metric)?]
    } else {
        drop(train);
        open_all(arguments)?
    };
    for Target { name, index, .. } in &targets {
        let found = (index.len(), index.dim(), index.metadata().metric);
        ensure!(
            found == (rows, dim, metric),
            "{name}: expected an index of {rows} videos of {dim} dimensions under {metric} as in {}, found {} of {} \
             under {}",
            path.display(),
            found.0,
            found.1,
            found.2
        );
    }
    let provenance = Provenance {
        dataset: Some(path.display().to_string()),
        recall: Some("of ann-benchmarks: at most 0.001 farther than the last exact neighbor".to_owned()),
        ..Provenance::default()
    };
    let queries = Queries { queries: &test, truth: neighbors.as_ref(), hits: Hits::Near, provenance };
    measure(arguments, &targets, &queries)
}

/// Builds an index as `build` does, in a temporary folder.
fn build(
    arguments: &Arguments,
    folder: &TempDir,
    train: Embeddings,
    metric: Metric,
) -> anyhow::Result<Target> {
    if metric == Metric::Cosine {
        train.check_nonzero()?;
    }
    let dataset = Dataset::from_embeddings(train)?;
    let training_queries = arguments.training_queries.as_deref().map(Embeddings::open).transpose()?;
    let params = BuildParams::new(metric, BuildParams::DEFAULT_M, BuildParams::DEFAULT_EF_CONSTRUCTION)?;
    let store = IndexStore::new(folder.path());
    interrupt::remove_at_end(folder.path());
    let bars = BuildBars::watching();
    let started = Instant::now();
    let (staged, times) = stage(&dataset, training_queries.as_ref(), None, &params, &store, &bars, started)?;
    let manifest = store.publish(staged, times, Measured::default())?;
    bars.finish();
    let (rows, seconds) = (dataset.ids.len(), manifest.build_ms as f64 / 1000.0);
    note!("built an index of {rows} videos under {metric} in {seconds:.1} s");
    Target::open(BUILT.to_owned(), &store)
}

fn open_all(arguments: &Arguments) -> anyhow::Result<Vec<Target>> {
    let named = arguments.names_and_dirs()?.into_iter();
    named.map(|(name, dir)| Target::open(name, &IndexStore::new(dir))).collect()
}

fn measure(arguments: &Arguments, targets: &[Target], queries: &Queries<'_>) -> anyhow::Result<Vec<Report>> {
    let limit = arguments.limit.unwrap_or(usize::MAX);
    let counts = arguments.all_threads();
    let (ef_search, to_the_end) = arguments.efforts();
    let plan = |threads| Sweep {
        k: arguments.all_k(queries.truth.map(|truth| truth.k)),
        ef_search: ef_search.clone(),
        to_the_end,
        hits: queries.hits,
        plan: arguments.plan,
        threads,
        limit: arguments.limit,
    };
    // Everything is checked before anything is measured.
    ensure!(limit > 0, "limit: expected at least one");
    for Target { name, index, .. } in targets {
        queries.queries.check_queries(index.metadata().metric)?;
        if let Some(truth) = queries.truth {
            for threads in &counts {
                plan(*threads).check(index, queries.queries.view(), truth).with_context(|| name.clone())?;
            }
        }
    }
    let is_resident = arguments.is_resident(targets.iter().map(|target| target.index.hot_bytes()).sum());
    let mut reports = Vec::new();
    for Target { name, manifest, index } in targets {
        index.populate();
        let computed;
        let (view, truth) = match queries.truth {
            Some(truth) => (queries.queries.view(), truth),
            None => {
                let view = queries.queries.view().first(limit);
                let most = plan(1).k.into_iter().max().unwrap_or(1);
                computed = exact(name, index, view, most)?;
                (view, &computed)
            }
        };
        if is_resident {
            report_residence(name, index.make_resident()?);
        }
        for threads in &counts {
            let done = |row: &SweepRow| report_row(name, *threads, row);
            let mut report =
                sweep(index, manifest, view, truth, &plan(*threads), done).with_context(|| name.clone())?;
            report.engine.clone_from(name);
            report.provenance = report.provenance.map(|of_index| {
                let Provenance { dataset, queries, ground_truth, recall, .. } = queries.provenance.clone();
                Provenance { dataset, queries, ground_truth, recall, ..of_index }
            });
            if counts.len() > 1 {
                report.name_threads();
            }
            reports.push(report);
        }
    }
    Ok(reports)
}

/// Computes the exact neighbors of queries by a scan of all embeddings.
fn exact(name: &str, index: &Index, queries: EmbeddingsView<'_>, k: usize) -> anyhow::Result<Neighbors> {
    let (expected, found) = (index.dim(), queries.dim());
    ensure!(
        expected == found,
        "{name}: queries: expected {expected} dimensions as in the index, found {found}"
    );
    let started = Instant::now();
    let bar = progress::bar("finding exact neighbors", queries.len() as u64);
    let exact = exact_rows_of(index, queries, k, |queries| bar.inc(queries as u64));
    bar.finish();
    let (count, seconds) = (queries.len(), started.elapsed().as_secs_f64());
    note!("{name}: no exact neighbors given: computed the {} of {count} queries in {seconds:.1} s", exact.k);
    Ok(exact)
}

/// Prints a row on standard error.
fn report_row(name: &str, threads: usize, row: &SweepRow) {
    let SweepRow { k, recall, qps, .. } = row;
    let (ef_search, plan) = (row.ef_search.unwrap_or(*k), row.plan.as_deref().unwrap_or("-"));
    note!(
        "{name}: threads {threads} k {k} ef_search {ef_search} {plan}: recall {recall:.4}, {qps:.0} queries/s"
    );
}
