//! Reports as tables.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};

use crate::eval::{Comparison, Report, Speed, SweepRow, TARGETS};

/// Renders one row per k and effort; for requests, per label as well.
pub(super) fn points(report: &Report) -> Table {
    let is_of_requests = report.is_of_requests();
    let mut header = vec![
        "k",
        "ef_search",
        "recall@k",
        "queries/s",
        "p50 µs",
        "p95 µs",
        "p99 µs",
        "distances",
        "hops",
        "plan",
    ];
    if is_of_requests {
        header.insert(0, "label");
        header.extend(["matches", "short", "violations"]);
    }
    let texts: Vec<usize> = (0..header.len()).filter(|at| ["label", "plan"].contains(&header[*at])).collect();
    let mut table = table(header, &texts);
    for row in &report.rows {
        let mut cells = vec![
            row.k.to_string(),
            optional(row.ef_search.map(|ef_search| ef_search as f64), 0),
            format!("{:.4}", row.recall),
            format!("{:.0}", row.qps),
            optional(row.p50_us, 1),
            optional(row.p95_us, 1),
            optional(row.p99_us, 1),
            optional(row.distances, 0),
            optional(row.hops, 0),
            plans(&row.plans),
        ];
        if is_of_requests {
            cells.insert(0, row.label.clone().unwrap_or_else(|| "-".to_owned()));
            let SweepRow { matches, short_answers, violations, .. } = row;
            let count = |count: &Option<usize>| optional(count.map(|count| count as f64), 0);
            cells.extend([optional(*matches, 0), count(short_answers), count(violations)]);
        }
        table.add_row(cells);
    }
    table
}

/// A table whose columns are numbers, aligned to the right, other than `texts`.
fn table(header: Vec<impl Into<comfy_table::Cell>>, texts: &[usize]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_cell_alignment(if texts.contains(&at) {
            CellAlignment::Left
        } else {
            CellAlignment::Right
        });
    }
    table
}

fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// Renders shares of plans, the largest first: `block_scan 93 %, match_scan 7 %`.
fn plans(shares: &BTreeMap<String, f64>) -> String {
    let mut shares: Vec<(&String, &f64)> = shares.iter().collect();
    shares.sort_by(|a, b| b.1.total_cmp(a.1));
    match shares.as_slice() {
        [] => "-".to_owned(),
        [(only, _)] => (*only).clone(),
        several => {
            let share = |(plan, share): &(&String, &f64)| format!("{plan} {:.0} %", 100.0 * **share);
            several.iter().map(share).collect::<Vec<_>>().join(", ")
        }
    }
}

/// Renders one row per engine, and for requests per label as well: build time, size, and queries per second at each
/// target recall.
pub(super) fn summary(comparison: &Comparison) -> Table {
    let columns: Vec<(usize, f64)> =
        comparison.ks().into_iter().flat_map(|k| TARGETS.map(|target| (k, target))).collect();
    let is_of_requests = comparison.reports().iter().any(Report::is_of_requests);
    let mut header = vec!["engine".to_owned(), "build s".to_owned(), "MiB".to_owned()];
    header.extend(columns.iter().map(|(k, target)| format!("@{k} = {target:.2}")));
    if is_of_requests {
        header.insert(0, "label".to_owned());
    }
    let mut table = table(header, if is_of_requests { &[0, 1] } else { &[0] });
    for label in comparison.labels() {
        let of_label = comparison.reports().iter().map(|report| report.of_label(label));
        // An engine that does not support a rule has no rows for its label.
        for report in of_label.filter(|report| !report.rows.is_empty()) {
            let mut cells = vec![
                report.engine.clone(),
                format!("{:.1}", report.build_s),
                format!("{:.0}", report.bytes as f64 / f64::from(1 << 20)),
            ];
            cells.extend(columns.iter().map(|(k, target)| match report.speed_at(*k, *target) {
                Some(Speed { qps, is_least: true }) => format!("≥ {qps:.0}"),
                Some(Speed { qps, .. }) => format!("{qps:.0}"),
                None => "never".to_owned(),
            }));
            if is_of_requests {
                cells.insert(0, label.unwrap_or("-").to_owned());
            }
            table.add_row(cells);
        }
    }
    table
}
