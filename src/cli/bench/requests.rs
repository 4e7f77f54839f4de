//! Measures requests with rules, answered by an engine in this process.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use jiff::Timestamp;

use super::arguments::Arguments;
use crate::cli::progress::{self, report_residence};
use crate::dataset::Embeddings;
use crate::engine::{Engine, EngineOptions, Limits, MemoryPolicy, Refresh};
use crate::eval::{
    ExactAnswers, Report, RequestSweep, Requests, SweepRow, Target, Violation, sweep_requests,
};
use crate::index::IndexStore;

/// Measures the requests of a file. Returns one report per index and number of threads.
///
/// # Errors
/// If a request is invalid, or an index cannot be opened.
pub(super) fn measure(arguments: &Arguments, path: &Path) -> anyhow::Result<Vec<Report>> {
    let names = arguments.names_and_dirs()?;
    let options = EngineOptions {
        indexes: names.clone(),
        // The threads of the measurement search. The pool of the engine is not used.
        threads: 1,
        limits: Limits::default(),
        // Only the generation is measured, and a server may be writing to the index.
        is_writable: false,
        ..EngineOptions::default()
    };
    let queries = arguments.queries.as_deref().map(Embeddings::open).transpose()?;
    queries.as_ref().map_or(Ok(()), Embeddings::check_finite)?;
    let view = queries.as_ref().map(Embeddings::view);
    ensure!(arguments.limit != Some(0), "limit: expected at least one");
    let requests = Requests::read(path, view, Timestamp::now(), arguments.limit)?;
    // The engine reports an index that does not open.
    let hot_bytes =
        |(_, dir): &(_, PathBuf)| Some(IndexStore::new(dir.clone()).open_current().ok()?.1.hot_bytes());
    let is_resident = arguments.is_resident(names.iter().filter_map(hot_bytes).sum());
    let memory = if is_resident { MemoryPolicy::Resident } else { MemoryPolicy::Mapped };
    let engine = Engine::open(EngineOptions { memory, ..options })?;
    warm(&engine)?;
    let (counts, all_k) = (arguments.all_threads(), arguments.all_k(None));
    let plan = |threads| RequestSweep {
        k: all_k.clone(),
        ef_search: arguments.efforts_of_requests(),
        default_effort: arguments.default_effort,
        plan: arguments.plan,
        threads,
    };
    let mut reports = Vec::new();
    for (name, dir) in names {
        let (manifest, index, passed_over) = IndexStore::new(dir).open_current()?;
        passed_over.iter().for_each(|error| note!("passed over: {error}"));
        let served = engine.status(&name)?.generation;
        let published = manifest.generation;
        ensure!(
            served == published,
            "{name}: generation {published} was published during the measurement; measure again"
        );
        let target = Target { engine: &engine, name: &name, index: &index, manifest: &manifest };
        let file = || path.display().to_string();
        for threads in &counts {
            plan(*threads).check(&target, &requests).with_context(file)?;
        }
        let bar = progress::bar("finding exact answers", requests.all().len() as u64);
        let exact = ExactAnswers::of(&target, &requests, &all_k, || bar.inc(1)).with_context(file)?;
        bar.finish();
        for threads in &counts {
            let plan = plan(*threads);
            let bar = progress::bar("searching", plan.searches(&requests) as u64);
            let advance = |count| bar.inc(count as u64);
            let measured = sweep_requests(&target, &requests, &exact, &plan, advance, |row, violation| {
                bar.finish();
                report_row(path, *threads, &name, row, violation)
            });
            let mut report = measured.with_context(file)?;
            report.engine.clone_from(&name);
            if let Some(provenance) = &mut report.provenance {
                provenance.dataset = Some(path.display().to_string());
                provenance.queries = arguments.queries.as_ref().map(|path| path.display().to_string());
            }
            if counts.len() > 1 {
                report.name_threads();
            }
            reports.push(report);
        }
    }
    Ok(reports)
}

/// Warms the indexes and, if so configured, copies them into memory.
///
/// # Errors
/// If an index is damaged or cannot be copied.
fn warm(engine: &Engine) -> anyhow::Result<()> {
    for event in engine.refresh() {
        match event {
            Refresh::Resident { index, residence, .. } => report_residence(&index, residence),
            Refresh::StaysMapped { index, error, .. } => bail!("{index}: {error}"),
            Refresh::Withdrawn { error, .. } | Refresh::Replaced { error, .. } => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Prints a row on standard error, and its first violation.
fn report_row(path: &Path, threads: usize, name: &str, row: &SweepRow, violation: Option<&Violation>) {
    let SweepRow { k, recall, qps, .. } = row;
    let ef_search = row.ef_search.unwrap_or(*k);
    let label = row.label.as_deref().unwrap_or("-");
    let default = if row.default_effort { "default effort, " } else { "" };
    note!(
        "{name}: threads {threads} {label} k {k} {default}ef_search {ef_search}: recall {recall:.4}, {qps:.0} queries/s"
    );
    if let Some(Violation { line, problem }) = violation {
        note!("{}: line {line}: k {k} ef_search {ef_search}: {problem}", path.display());
    }
}
