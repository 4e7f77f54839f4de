//! Reports as CSV: one row per point, in columns that do not change.

use super::report::{Report, SweepRow};

/// The columns, in this order. New ones are added at the end.
pub const CSV_COLUMNS: [&str; 23] = [
    "engine",
    "dataset",
    "label",
    "k",
    "ef_search",
    "plan",
    "threads",
    "queries",
    "recall",
    "equal_recall",
    "qps",
    "mean_us",
    "p50_us",
    "p95_us",
    "p99_us",
    "distances",
    "hops",
    "bytes",
    "hot_bytes_per_vector",
    "build_s",
    "videos",
    "dim",
    "metric",
];

/// Returns a header, and a row per report and point. What was not measured is empty. Quoted as in RFC 4180, with line feeds.
pub fn csv(reports: &[Report]) -> String {
    let header = CSV_COLUMNS.map(str::to_owned);
    let rows = reports.iter().flat_map(|report| report.rows.iter().map(|row| cells(report, row)));
    let lines =
        [header].into_iter().chain(rows).map(|cells| cells.map(|cell| quoted(&cell)).join(",") + "\n");
    lines.collect()
}

fn cells(report: &Report, row: &SweepRow) -> [String; CSV_COLUMNS.len()] {
    let text = |text: Option<&String>| text.cloned().unwrap_or_default();
    let count = |count: Option<usize>| count.map(|count| count.to_string()).unwrap_or_default();
    let number = |number: Option<f64>| number.map(|number| number.to_string()).unwrap_or_default();
    let from = report.provenance.as_ref();
    [
        report.engine.clone(),
        text(from.and_then(|from| from.dataset.as_ref().or(from.queries.as_ref()))),
        text(row.label.as_ref()),
        row.k.to_string(),
        count(row.ef_search),
        text(row.plan.as_ref()),
        count(report.threads),
        count(row.requests.or(report.queries)),
        row.recall.to_string(),
        number(row.equal_recall),
        row.qps.to_string(),
        number(row.mean_us),
        number(row.p50_us),
        number(row.p95_us),
        number(row.p99_us),
        number(row.distances),
        number(row.hops),
        report.bytes.to_string(),
        number(report.hot_bytes_per_vector),
        report.build_s.to_string(),
        count(report.videos),
        count(from.and_then(|from| from.dim)),
        text(from.and_then(|from| from.metric.as_ref())),
    ]
}

fn quoted(cell: &str) -> String {
    if cell.contains(['"', ',', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}
