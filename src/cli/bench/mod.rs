//! `shortlist bench`: recall, throughput and latency, compared with other engines.
//!
//! | file | duty |
//! |---|---|
//! | `arguments.rs` | the flags, and the indexes and threads that they name |
//! | `outputs.rs`   | the files to write, and the tables |
//! | `requests.rs`  | measures requests with rules |
//! | `tables.rs`    | reports as tables |

mod arguments;
mod outputs;
mod requests;
mod tables;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};

use self::outputs::Outputs;
use self::tables::{points, summary};
use super::progress::report_residence;
use crate::dataset::{Embeddings, Neighbors};
use crate::eval::{Comparison, Report, Sweep, SweepRow, read_reports, sweep};
use crate::index::{Index, IndexStore, Manifest};

pub use self::arguments::Arguments;

/// Measures, prints one row per k and effort, and compares.
///
/// # Errors
/// If an input is invalid, a file cannot be written, or an answer breaks a rule of its request.
pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // All inputs are checked before anything is measured.
    let peers = read_all(&arguments.against)?;
    let mut ours = read_all(&arguments.from)?;
    let outputs = Outputs::open(arguments)?;
    check_kinds(arguments, &ours, &peers)?;
    if let (Some(plan), None) = (arguments.plan.filter(|plan| plan.needs_filter()), &arguments.requests) {
        bail!("--plan {}: expected --requests, which have filters", plan.name());
    }
    if let (Some(queries), Some(truth)) = (&arguments.queries, &arguments.ground_truth) {
        ours.extend(measure(arguments, queries, truth)?);
    }
    let mut broken = 0;
    if let Some(path) = &arguments.requests {
        let measured = requests::measure(arguments, path)?;
        let counts = measured.iter().flat_map(|report| &report.rows).filter_map(|row| row.violations);
        broken = counts.sum();
        ours.extend(measured);
    }
    let comparison = Comparison::new(ours, peers);
    for report in comparison.ours() {
        if comparison.reports().len() > 1 {
            outputs.show(&report.engine);
        }
        outputs.show(points(report));
    }
    let of_requests = comparison.reports().iter().filter(|report| report.is_of_requests()).count();
    let are_alike = [0, comparison.reports().len()].contains(&of_requests);
    if comparison.reports().len() > 1 && are_alike {
        outputs.show("queries/s at recall@k");
        outputs.show(summary(&comparison));
    }
    outputs.write(&comparison)?;
    ensure!(broken == 0, "{broken} answers broke a rule of their request");
    Ok(())
}

/// Checks that figures of requests are not drawn, and not compared with figures of plain queries.
///
/// # Errors
/// If they would be.
fn check_kinds(arguments: &Arguments, ours: &[Report], peers: &[Report]) -> anyhow::Result<()> {
    let all = || ours.iter().chain(peers);
    let is_drawn = arguments.html.is_some() || arguments.svg.is_some();
    if let (true, Some(report)) = (is_drawn, all().find(|report| report.is_of_requests())) {
        bail!(
            "{}: expected figures of plain queries for --html and --svg, found those of --requests",
            report.engine
        );
    }
    let has_kind = |is_of_requests: bool| {
        let measured = if is_of_requests { &arguments.requests } else { &arguments.ground_truth };
        measured.is_some() || all().any(|report| report.is_of_requests() == is_of_requests)
    };
    ensure!(
        peers.is_empty() || !(has_kind(true) && has_kind(false)),
        "--against: expected figures of one kind, found those of plain queries and those of requests, which have labels"
    );
    Ok(())
}

fn read_all(paths: &[PathBuf]) -> anyhow::Result<Vec<Report>> {
    let reports = paths.iter().map(|path| read_reports(path)).collect::<Result<Vec<_>, _>>()?;
    Ok(reports.concat())
}

/// Measures plain queries. Returns one report per index and number of threads.
fn measure(arguments: &Arguments, queries: &Path, truth: &Path) -> anyhow::Result<Vec<Report>> {
    let mut indexes: Vec<(String, Manifest, Index)> = Vec::new();
    for (name, dir) in arguments.names_and_dirs()? {
        let (manifest, index, passed_over) = IndexStore::new(dir).open_current()?;
        passed_over.iter().for_each(|error| note!("passed over: {error}"));
        indexes.push((name, manifest, index));
    }
    let queries = Embeddings::open(queries)?;
    let truth = Neighbors::open(truth)?;
    let counts = arguments.all_threads();
    let plan = |threads| Sweep {
        k: arguments.k.clone(),
        ef_search: arguments.ef_search.clone(),
        plan: arguments.plan,
        threads,
        limit: arguments.limit,
    };
    for (name, _, index) in &indexes {
        queries.check_queries(index.metadata().metric)?;
        for threads in &counts {
            plan(*threads).check(index, queries.view(), &truth).with_context(|| name.clone())?;
        }
    }
    let is_resident = arguments.is_resident(indexes.iter().map(|(_, _, index)| index.hot_bytes()).sum());
    let mut reports = Vec::new();
    for (name, manifest, index) in &indexes {
        index.populate();
        if is_resident {
            report_residence(name, index.make_resident()?);
        }
        for threads in &counts {
            let done = |row: &SweepRow| {
                let (k, recall, qps) = (row.k, row.recall, row.qps);
                let ef_search = row.ef_search.unwrap_or(k);
                note!(
                    "{name}: threads {threads} k {k} ef_search {ef_search}: recall {recall:.4}, {qps:.0} queries/s"
                );
            };
            let plan = plan(*threads);
            let mut report = sweep(index, manifest, queries.view(), &truth, &plan, done)?;
            report.engine.clone_from(name);
            if counts.len() > 1 {
                report.name_threads();
            }
            reports.push(report);
        }
    }
    Ok(reports)
}
